"""The tick: beats, tells what the guard refused, and survives what goes wrong in it."""

from __future__ import annotations

import pytest

from edge_server import guard
from edge_server.guard.drain import Drain
from edge_server.observe.logs import AccessLog
from edge_server.observe.tally import Tally
from edge_server.shm.scoreboard import ROW_BYTES, Field, Row
from edge_server.worker.tick import Tick

STATES = {"fresh": 1, "head": 2, "body": 3, "busy": 4, "parked": 5, "idle": 6, "linger": 7}


def no_drain() -> Drain:
    raise AssertionError("nobody asked for it")


def no_end() -> None:
    raise AssertionError("nobody asked for it")


@pytest.fixture
def row() -> Row:
    return Row(0, "a", memoryview(bytearray(ROW_BYTES)).cast("Q"))


def test_a_tick_beats_and_shows_what_the_guard_counts(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "connections", lambda: STATES)
    Tick(row, Tally(), AccessLog(0), no_drain, no_end)()
    assert row.get(Field.BEAT_NS) > 0
    shown = {field: row.get(field) for field in (Field.READING, Field.INFLIGHT, Field.PARKED, Field.IDLE)}
    assert shown == {Field.READING: 6, Field.INFLIGHT: 4, Field.PARKED: 5, Field.IDLE: 6}
    assert row.get(Field.CONNECTIONS) == 28


def test_what_the_guard_refused_is_counted_by_reason(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = (408, "slow_client", ("192.0.2.1", 4711), "abc-g1", 5.0)
    monkeypatch.setattr(
        guard, "refusals", lambda: ([refused], [(408, "slow_client", 2), (400, "bad_request", 3)])
    )
    tally = Tally()
    Tick(row, tally, AccessLog(0), no_drain, no_end)()
    assert tally.outcome("other", "other", 408).requests == 3
    assert tally.outcome("other", "other", 400).requests == 3


def test_what_else_is_due_is_done_before_the_counts_are_folded(row: Row) -> None:
    order: list[str] = []

    class NotedTally(Tally):
        def fold(self) -> None:
            order.append("fold")

    beats = [lambda: order.append("first"), lambda: order.append("second")]
    tick = Tick(row, NotedTally(), AccessLog(0), no_drain, no_end, beats=beats)
    tick()
    tick()
    assert order == ["first", "second", "fold"] * 2


def test_a_tick_that_fails_neither_raises_nor_stops_the_next_one(row: Row) -> None:
    class BrokenTally(Tally):
        folds = 0

        def fold(self) -> None:
            self.folds += 1
            raise OSError("no space left")

    tally = BrokenTally()
    tick = Tick(row, tally, AccessLog(0), no_drain, no_end)
    tick()
    tick()
    assert tally.folds == 2
