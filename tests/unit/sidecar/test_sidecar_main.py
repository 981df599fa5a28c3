from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from edge_server import guard
from edge_server.errors import ResourceError
from edge_server.guard.drain import Drain
from edge_server.observe import logs
from edge_server.roles import Brief
from edge_server.shm.scoreboard import Field, Row, WorkerState
from edge_server.sidecar.errands import Errands
from edge_server.sidecar.hashing import Hashing
from edge_server.sidecar.intake import Intake
from edge_server.sidecar.main import PATIENCE_S, Tick
from edge_server.sidecar.traffic import Traffic

STATES = ("fresh", "head", "body", "busy", "parked", "idle", "linger")


class Ended(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def row(brief: Brief) -> Row:
    return brief.scoreboard.row(brief.row)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers the guard is sending."""
    count = [0]
    monkeypatch.setattr(guard, "connections", lambda: dict.fromkeys(STATES, 0) | {"busy": count[0]})
    for name in ("close_after_answers", "stop_accepting"):
        monkeypatch.setattr(guard, name, lambda: None)
    monkeypatch.setattr(guard, "close_idle", lambda seconds: 0)
    return count


@pytest.fixture
def tick(row: Row, brief: Brief, busy: list[int], monkeypatch: pytest.MonkeyPatch) -> Tick:
    def end(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(logs, "flush", lambda: None)
    drain = partial(Drain, brief.listener, lambda: False, PATIENCE_S)
    hashing = Hashing(brief.catalog)
    errands = Errands(row, {}, hashing, 1)
    intake, traffic = Intake(brief.reports, None, None), Traffic(brief.metrics_dir, brief.scoreboard)
    return Tick(row, hashing, errands, None, intake, traffic, drain, drain_timeout_s=60)


def test_a_tick_beats_and_shows_what_is_in_flight(tick: Tick, row: Row, busy: list[int]) -> None:
    row.set(Field.BEAT_NS, 0)
    busy[0] = 3
    tick()
    assert row.get(Field.BEAT_NS) > 0
    assert row.get(Field.INFLIGHT) == 3
    assert row.state is WorkerState.SERVING


def test_sigterm_ends_an_idle_sidecar_with_0(tick: Tick, row: Row) -> None:
    tick._on_term(signal.SIGTERM, None)
    assert row.state is WorkerState.DRAINING
    with pytest.raises(Ended, match="0"):
        tick()
    assert row.state is WorkerState.STOPPED


def test_a_metrics_file_that_is_damaged_keeps_no_sidecar_from_its_end(
    tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(traffic: Traffic) -> None:
        raise ResourceError("no metrics file")

    monkeypatch.setattr(Traffic, "tick", damaged)
    tick._on_term(signal.SIGTERM, None)
    with pytest.raises(Ended, match="0"):
        tick()


def test_an_answer_in_flight_is_finished_first(tick: Tick, busy: list[int]) -> None:
    busy[0] = 1
    tick._on_term(signal.SIGTERM, None)
    tick()
    busy[0] = 0
    with pytest.raises(Ended, match="0"):
        tick()


def test_a_client_that_does_not_read_cannot_hold_the_sidecar(
    tick: Tick, busy: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy[0] = 1
    tick._on_term(signal.SIGTERM, None)
    tick._on_term(signal.SIGTERM, None)
    monkeypatch.setattr(tick, "_deadline", 0.0)
    with pytest.raises(Ended, match="0"):
        tick()
