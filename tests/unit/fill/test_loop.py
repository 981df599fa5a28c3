"""The loop: tasks give way to each other, wait no longer than they may, and miss nothing that comes."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from edge_server.errors import FillUnavailable
from edge_server.fill.loop import Loop, Readiness, Signal, current_loop, give_way
from edge_server.fill.threads import Threads
from tests.servers import eventually


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        yield one, other


def run(*tasks: Callable[[], None], within: float = 5.0) -> None:
    """Run tasks in a loop of this thread until all have ended."""
    loop, left = Loop(), [len(tasks)]
    failures: list[BaseException] = []

    def guarded(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            failures.append(error)
        left[0] -= 1

    for task in tasks:
        loop.spawn(lambda task=task: guarded(task))  # type: ignore[misc]  # bound now
    until_s = time.monotonic() + within
    loop.run(lambda: not left[0] or time.monotonic() > until_s, 0.01)
    loop.close()
    if failures:
        raise failures[0]
    assert not left[0], "a task that has not ended"


def test_a_task_waits_while_another_one_sends() -> None:
    told: list[str] = []
    with pair() as (mine, theirs):

        def reader() -> None:
            ready = Readiness(mine)
            told.append("waits")
            while True:
                try:
                    told.append(mine.recv(10).decode())
                    break
                except BlockingIOError:
                    assert ready.wait(time.monotonic() + 5)
            ready.close()

        def writer() -> None:
            told.append("sends")
            theirs.send(b"hello")

        run(reader, writer)
    assert told == ["waits", "sends", "hello"]


def test_what_comes_while_a_task_waits_for_something_else_is_known_when_it_tries_again() -> None:
    with pair() as (mine, theirs):

        def reader() -> None:
            ready = Readiness(mine)
            ready.is_empty = True
            theirs.send(b"early")
            for _ in range(3):
                give_way()  # the edge is told now, and nobody waits for it
            assert not ready.is_empty
            assert mine.recv(10) == b"early"
            ready.is_empty = True
            theirs.close()
            assert ready.wait(time.monotonic() + 5)
            assert ready.has_ended
            ready.close()

        run(reader)


def test_nobody_waits_longer_than_they_may() -> None:
    passed_s: list[float] = []
    with pair() as (mine, _):

        def silent() -> None:
            ready, began_s = Readiness(mine), time.monotonic()
            while ready.wait(began_s + 0.05):
                pass  # that it can be written to, which is told once
            passed_s.append(time.monotonic() - began_s)
            ready.close()

        def untold() -> None:
            began_s = time.monotonic()
            assert not Signal().wait(began_s + 0.02)
            passed_s.append(time.monotonic() - began_s)

        run(silent, untold)
    assert 0.02 <= passed_s[0] < 1
    assert 0.05 <= passed_s[1] < 1


def test_a_signal_is_told_by_any_thread_before_or_while_it_is_waited_for() -> None:
    def waits() -> None:
        early, late = Signal(), Signal()
        early.tell()
        assert early.wait(math.inf)
        threading.Timer(0.02, late.tell).start()
        assert late.wait(time.monotonic() + 5)

    run(waits)
    waits()  # in an ordinary thread


def test_a_signal_that_is_told_too_late_ends_nothing_else() -> None:
    def waits() -> None:
        late, other = Signal(), Signal()
        assert not late.wait(time.monotonic() + 0.01)
        late.tell()
        began_s = time.monotonic()
        assert not other.wait(began_s + 0.05)
        assert time.monotonic() - began_s >= 0.05

    run(waits)


def test_a_thousand_tasks_take_turns() -> None:
    order: list[int] = []

    def task(number: int) -> None:
        order.append(number)
        give_way()
        order.append(number)

    run(*(lambda number=number: task(number) for number in range(1000)))  # type: ignore[misc]
    assert order == [*range(1000), *range(1000)]


def test_outside_of_a_loop_there_is_none() -> None:
    found: list[bool] = []
    run(lambda: found.append(current_loop() is not None))
    assert found == [True]
    assert current_loop() is None


def test_a_step_is_done_by_a_thread_while_the_loop_goes_on() -> None:
    pool, gate, told = Threads("test", 1), threading.Event(), []

    def asks() -> None:
        told.append(pool.run(lambda: gate.wait(5), time.monotonic() + 5))

    def opens() -> None:
        told.append("goes on")
        gate.set()

    run(asks, opens)
    pool.close()
    assert told == ["goes on", True]


def test_a_step_that_hangs_is_left_and_told_so_when_it_is_over() -> None:
    pool, gate, ended = Threads("test", 1), threading.Event(), threading.Event()

    def asks() -> None:
        with pytest.raises(TimeoutError):
            pool.run(lambda: gate.wait(5), time.monotonic() + 0.02, ended.set)
        assert not ended.is_set()

    run(asks)
    gate.set()
    assert ended.wait(5)
    pool.close()


def test_a_step_that_hangs_has_only_its_own_thread_however_fast_steps_come() -> None:
    for _ in range(20):
        pool, gate, done = Threads("test", 2), threading.Event(), threading.Event()
        pool.run(lambda: None, time.monotonic() + 5)
        eventually(lambda pool=pool: pool._idle == 1)  # type: ignore[misc]  # bound now
        pool.post(lambda gate=gate: gate.wait(5))  # type: ignore[misc]
        pool.post(done.set)
        assert done.wait(2)
        gate.set()
        pool.close()


def test_steps_are_bounded_and_raise_what_they_raise() -> None:
    pool, gate = Threads("test", 1, waiting=1), threading.Event()
    began = threading.Event()
    pool.post(lambda: (began.set(), gate.wait(5)))  # type: ignore[func-returns-value,arg-type]
    assert began.wait(5)
    pool.post(lambda: None)
    with pytest.raises(FillUnavailable):
        pool.post(lambda: None)
    pool.post(lambda: None, is_owed=True)
    gate.set()
    eventually(lambda: not pool._waiting)
    with pytest.raises(ZeroDivisionError):
        pool.run(lambda: 1 // 0, time.monotonic() + 5)
    pool.close()
    with pytest.raises(FillUnavailable):
        pool.post(lambda: None)
