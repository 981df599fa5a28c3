"""Signals, sent to this very process."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator

import pytest

from edge_server.supervisor.signals import (
    HANDLED,
    Interrupted,
    SignalQueue,
    held_back,
    interruptible,
    name_of,
)


@pytest.fixture
def queue() -> Iterator[SignalQueue]:
    """An installed queue; the signals are given back afterwards."""
    queue = SignalQueue()
    queue.install()
    yield queue
    queue.restore()


@pytest.mark.parametrize("number", sorted(HANDLED), ids=lambda number: signal.Signals(number).name)
def test_a_signal_is_a_number_in_the_queue(queue: SignalQueue, number: int) -> None:
    os.kill(os.getpid(), number)
    assert select.select([queue], [], [], 1)[0] == [queue]
    assert queue.take() == [number]
    assert queue.take() == []


def test_signals_keep_their_order(queue: SignalQueue) -> None:
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):
        os.kill(os.getpid(), number)
    assert queue.take() == [signal.SIGHUP, signal.SIGTERM, signal.SIGTERM]


def test_a_flood_blocks_nobody(queue: SignalQueue) -> None:
    for _ in range(70_000):
        signal.raise_signal(signal.SIGUSR1)
    assert set(queue.take()) == {signal.SIGUSR1}


def test_signals_are_given_back() -> None:
    before = {number: signal.getsignal(number) for number in HANDLED}
    queue = SignalQueue()
    queue.install()
    queue.restore()
    assert {number: signal.getsignal(number) for number in HANDLED} == before
    assert signal.set_wakeup_fd(-1) == -1


def test_signals_wait_while_they_are_held_back(queue: SignalQueue) -> None:
    with held_back():
        signal.raise_signal(signal.SIGTERM)
        assert queue.take() == []
    assert queue.take() == [signal.SIGTERM]


def test_a_child_hears_nothing_of_the_supervisors_and_dies_of_sigterm(queue: SignalQueue) -> None:
    with held_back() as deliver:
        pid = os.fork()
        if pid == 0:
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
                os.kill(os.getpid(), number)
            queue.leave_in_child()
            deliver()
            os._exit(9)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
    assert set(queue.take()) <= {signal.SIGCHLD}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stop_signal_interrupts_what_is_interruptible(queue: SignalQueue, number: int) -> None:
    with pytest.raises(Interrupted, match=signal.Signals(number).name), interruptible():
        signal.raise_signal(number)
    queue.take()
    signal.raise_signal(number)
    assert queue.take() == [number]


def test_an_interruption_is_not_caught_as_an_error() -> None:
    assert not issubclass(Interrupted, Exception)


@pytest.mark.parametrize("number", range(1, 65))
def test_every_signal_that_can_end_a_process_has_a_name(number: int) -> None:
    known = {each.value: each.name for each in signal.Signals}
    assert name_of(number) == known.get(number, f"signal {number}")
