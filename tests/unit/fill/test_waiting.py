"""Who waits, for how long, and who is let through: queue, groups, breaker, retries, hedging."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.config.schema import LiveFillRetry
from edge_server.errors import (
    Busy,
    EtagInvalid,
    FillTimeout,
    FillUnavailable,
    IntegrityError,
    NotAllowed,
    StoreUnavailable,
    UpstreamServerError,
)
from edge_server.fill.breaker import FAILURES, FIRST_OPEN_S, LONGEST_OPEN_S, Breaker, State
from edge_server.fill.coalesce import Group, Groups, NotNeeded
from edge_server.fill.deadline import Cancellation, Deadline
from edge_server.fill.fetch import StatusFailure
from edge_server.fill.hedging import first_of
from edge_server.fill.queueing import FillQueue
from edge_server.fill.retry import is_transient, wait_ms
from edge_server.fill.wire import Cut


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


RETRY = LiveFillRetry()


@pytest.mark.parametrize(("attempt", "ms"), [(0, 50), (1, 100), (2, 200), (3, 400), (4, 800), (9, 800)])
def test_a_wait_doubles_up_to_the_longest(attempt: int, ms: float) -> None:
    assert wait_ms(attempt, RETRY, lambda low, high: 0.0) == ms
    assert wait_ms(attempt, RETRY, lambda low, high: high) == ms + 50
    assert wait_ms(attempt, LiveFillRetry(jitter=False), lambda low, high: high) == ms


@pytest.mark.parametrize(
    ("failure", "is_worth_it"),
    [
        (StatusFailure(503, UpstreamServerError()), True),
        (StatusFailure(500, UpstreamServerError()), False),
        (FillTimeout(), True),
        (FillUnavailable(), True),
        (StoreUnavailable(), False),
        (Cut("x"), True),
        (IntegrityError(), False),
        (EtagInvalid(), False),
        (NotAllowed(), False),
    ],
)
def test_what_may_pass_is_tried_again(failure: Exception, is_worth_it: bool) -> None:
    assert is_transient(failure, RETRY) is is_worth_it


def test_without_timeout_on_the_list_only_statuses_are_tried_again() -> None:
    retry = LiveFillRetry(retry_on=(500,))
    assert not is_transient(FillTimeout(), retry)
    assert is_transient(StatusFailure(500, UpstreamServerError()), retry)


def test_a_breaker_opens_after_failures_in_a_row_and_lets_one_probe_through() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(FAILURES - 1):
        breaker.admit()
        breaker.failed()
    breaker.admit()
    breaker.succeeded()
    for _ in range(FAILURES):
        breaker.admit()
        breaker.failed()
    with pytest.raises(FillUnavailable):
        breaker.admit()
    clock.now_s += FIRST_OPEN_S
    breaker.admit()
    assert breaker.state is State.HALF_OPEN
    with pytest.raises(FillUnavailable):
        breaker.admit()
    breaker.succeeded()
    assert breaker.state is State.CLOSED


def test_a_probe_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        breaker.admit()
        breaker.failed()
    pauses = []
    for _ in range(8):
        began_s = clock.now_s
        while breaker.state is State.OPEN:
            clock.now_s += 0.5
            try:
                breaker.admit()
            except FillUnavailable:
                continue
        pauses.append(clock.now_s - began_s)
        breaker.failed()
    assert pauses == [1, 2, 4, 8, 16, LONGEST_OPEN_S, LONGEST_OPEN_S, LONGEST_OPEN_S]


def test_a_probe_that_tells_nothing_leaves_room_for_the_next() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        breaker.failed()
    clock.now_s += FIRST_OPEN_S
    breaker.admit()
    breaker.abandoned()
    breaker.admit()


@given(st.lists(st.sampled_from(["admit", "succeeded", "failed", "abandoned", "pause"]), max_size=60))
def test_a_breaker_always_lets_a_probe_through_after_the_longest_pause(events: list[str]) -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for event in events:
        if event == "pause":
            clock.now_s += 3
        else:
            try:
                getattr(breaker, event)()
            except FillUnavailable:
                pass
    breaker.abandoned()
    clock.now_s += LONGEST_OPEN_S
    breaker.admit()


def test_a_queue_takes_hosts_in_turn_and_each_hosts_jobs_in_order() -> None:
    queue: FillQueue[int] = FillQueue(limit=10, concurrency=1, per_host=9)
    assert queue.put("c", 0) == ("c", 0)
    for host, job in (("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5)):
        assert queue.put(host, job) is None
    taken = []
    for host in "cabab":
        queue.done(host)
        taken.append(queue.take())
    assert taken == [("a", 1), ("b", 4), ("a", 2), ("b", 5), ("a", 3)]


def test_a_full_queue_refuses_and_takes_what_was_admitted_before() -> None:
    queue: FillQueue[int] = FillQueue(limit=0, concurrency=2, per_host=1)
    assert queue.put("a", 1) == ("a", 1)
    with pytest.raises(Busy):
        queue.put("a", 2)
    assert queue.put("b", 3) == ("b", 3)
    with pytest.raises(Busy):
        queue.put("c", 4)
    assert queue.put("c", 5, is_admitted=True) is None
    assert (queue.running, queue.depth) == (2, 1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_a_queue_never_runs_more_than_it_may(events: list[tuple[str, bool]]) -> None:
    queue: FillQueue[str] = FillQueue(limit=5, concurrency=3, per_host=2)
    running: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    for host, is_put in events:
        taken = None
        if is_put:
            try:
                taken = queue.put(host, host)
                waiting[host] += 1
            except Busy:
                assert sum(waiting.values()) >= 5
        elif running[host]:
            queue.done(host)
            running[host] -= 1
            taken = queue.take()
        if taken is not None:
            running[taken[0]] += 1
            waiting[taken[0]] -= 1
        assert sum(running.values()) <= 3
        assert max(running.values(), default=0) <= 2
        assert queue._next_host() is None
        assert (queue.running, queue.depth) == (sum(running.values()), sum(waiting.values()))


def test_a_closed_queue_takes_nothing_and_gives_nothing() -> None:
    queue: FillQueue[int] = FillQueue(limit=5, concurrency=2, per_host=1)
    assert queue.put("a", 1) == ("a", 1)
    assert queue.put("a", 2) is None
    assert queue.close() == [2]
    queue.done("a")
    assert queue.take() is None
    with pytest.raises(FillUnavailable):
        queue.put("a", 1)


def test_a_second_attempt_takes_a_place_only_where_a_host_has_one_to_spare() -> None:
    queue: FillQueue[int] = FillQueue(limit=5, concurrency=3, per_host=2)
    queue.put("a", 1)
    assert queue.take_extra("a")
    assert not queue.take_extra("a")
    queue.put("b", 2)
    assert not queue.take_extra("b"), "no more than `concurrency` at once"
    queue.done("a")
    assert queue.take_extra("b")
    queue.done("b")
    queue.put("b", 3)
    assert queue.put("b", 4) is None
    assert not queue.take_extra("b"), "a job that waits goes first"


def test_a_group_is_joined_until_it_is_closed() -> None:
    groups: Groups[int] = Groups()
    joined: list[Group[int]] = []
    first = groups.join("x", 1, is_needed=lambda: True, joined=joined.append)
    assert first is not None
    assert groups.join("x", 2, is_needed=lambda: False, joined=joined.append) is None
    assert joined == [first]
    assert groups.close(first) == [1, 2]
    with pytest.raises(NotNeeded):
        groups.join("x", 3, is_needed=lambda: False, joined=joined.append)


def in_a_thread(run: Callable[[], None]) -> None:
    threading.Thread(target=run, daemon=True).start()


def test_of_two_attempts_that_fail_the_last_failure_is_told() -> None:
    gate = threading.Event()
    numbers = iter(range(2))

    def attempt(cancellation: Cancellation) -> int:
        number = next(numbers)
        (gate.wait(5) if number == 0 else gate.set())
        raise FillUnavailable(str(number)) if number else (time.sleep(0.05) or FillTimeout("first"))

    with pytest.raises(FillTimeout):
        first_of(attempt, 0.01, lambda value: None, lambda: lambda: None, in_a_thread)


def test_an_attempt_that_fails_early_is_not_waited_out() -> None:
    def attempt(cancellation: Cancellation) -> int:
        raise FillUnavailable("at once")

    began_s = time.monotonic()
    with pytest.raises(FillUnavailable):
        first_of(attempt, 30.0, lambda value: None, lambda: lambda: None, in_a_thread)
    assert time.monotonic() - began_s < 5


def test_a_deadline_that_has_passed_is_a_timeout() -> None:
    assert Deadline(time.monotonic() + 60).left_s() > 0
    with pytest.raises(FillTimeout):
        Deadline(time.monotonic() - 1).left_s()
