"""The tick runs in a signal handler, and so wherever the last one or a request happens to be."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from edge_server.observe.logs import AccessLog
from edge_server.observe.tally import Tally
from edge_server.shm.scoreboard import Field, Row
from edge_server.worker.drain import Drain
from edge_server.worker.hitpath import HitPath
from edge_server.worker.tick import Tick


class HeldUpTally(Tally):
    """A tally whose fold takes so long that the next alarm comes before its end."""

    def __init__(self) -> None:
        super().__init__()
        self.folds = 0
        self.depth = 0
        self.deepest = 0

    def fold(self) -> None:
        self.folds += 1
        self.depth += 1
        self.deepest = max(self.deepest, self.depth)
        if self.folds < 10:
            signal.raise_signal(signal.SIGALRM)
        self.depth -= 1


@pytest.fixture
def start_tick() -> Iterator[Callable[[Tally], Row]]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGTERM)}

    def start(tally: Tally) -> Row:
        row = Row(0, "a", memoryview(bytearray(128)).cast("Q"))
        Tick(row, HitPath(1), tally, AccessLog(0), begin_drain=no_drain, leave=no_end).start()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return row

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def no_drain() -> Drain:
    raise AssertionError("nobody asked for it")


def no_end() -> None:
    raise AssertionError("nobody asked for it")


def test_an_alarm_beats(start_tick: Callable[[Tally], Row]) -> None:
    row = start_tick(Tally())
    signal.raise_signal(signal.SIGALRM)
    assert row.get(Field.BEAT_NS) > 0


def test_an_alarm_during_a_tick_waits_for_the_next_one(start_tick: Callable[[Tally], Row]) -> None:
    # The lock of prometheus_client is not reentrant: a fold within a fold would wait for ever.
    tally = HeldUpTally()
    start_tick(tally)
    signal.raise_signal(signal.SIGALRM)
    signal.raise_signal(signal.SIGALRM)
    assert (tally.folds, tally.deepest) == (2, 1)


def test_a_tick_that_fails_neither_raises_nor_stops_the_next_one(start_tick: Callable[[Tally], Row]) -> None:
    class BrokenTally(Tally):
        folds = 0

        def fold(self) -> None:
            self.folds += 1
            raise OSError("no space left")

    tally = BrokenTally()
    start_tick(tally)
    signal.raise_signal(signal.SIGALRM)
    signal.raise_signal(signal.SIGALRM)
    assert tally.folds == 2
