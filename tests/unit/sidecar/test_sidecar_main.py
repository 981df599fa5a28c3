from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from edge_server.observe import logs
from edge_server.roles import Brief
from edge_server.shm.scoreboard import Field, Row, WorkerState
from edge_server.sidecar.hashing import Hashing
from edge_server.sidecar.main import Counted, Tick


class Ended(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def row(brief: Brief) -> Row:
    return brief.scoreboard.row(brief.row)


@pytest.fixture
def app(row: Row) -> Counted:
    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return [b"12345", b"678"]

    return Counted(answer, row)


@pytest.fixture
def tick(row: Row, app: Counted, brief: Brief, monkeypatch: pytest.MonkeyPatch) -> Tick:
    def end(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(logs, "flush", lambda: None)
    return Tick(row, app, Hashing(brief.catalog), drain_timeout_s=60)


def test_an_answer_is_in_flight_until_it_is_closed(app: Counted, row: Row) -> None:
    first, second = (app({}, lambda *args: None) for _ in range(2))
    assert (app.inflight, row.get(Field.INFLIGHT), row.get(Field.REQUESTS)) == (2, 2, 2)
    assert b"".join(first) == b"12345678"
    first.close()  # type: ignore[attr-defined]
    assert (app.inflight, row.get(Field.INFLIGHT), row.get(Field.BYTES_OUT)) == (1, 1, 8)
    second.close()  # type: ignore[attr-defined]
    assert (app.inflight, row.get(Field.INFLIGHT), row.get(Field.BYTES_OUT)) == (0, 0, 8)


def test_a_tick_beats(tick: Tick, row: Row) -> None:
    row.set(Field.BEAT_NS, 0)
    tick._on_alarm(signal.SIGALRM, None)
    assert row.get(Field.BEAT_NS) > 0
    assert row.state is WorkerState.SERVING


def test_sigterm_ends_an_idle_sidecar_with_0(tick: Tick, row: Row) -> None:
    tick._on_term(signal.SIGTERM, None)
    assert row.state is WorkerState.DRAINING
    with pytest.raises(Ended, match="0"):
        tick._on_alarm(signal.SIGALRM, None)
    assert row.state is WorkerState.STOPPED


def test_an_answer_in_flight_is_finished_first(tick: Tick, app: Counted) -> None:
    body = app({}, lambda *args: None)
    tick._on_term(signal.SIGTERM, None)
    tick._on_alarm(signal.SIGALRM, None)
    body.close()  # type: ignore[attr-defined]
    with pytest.raises(Ended, match="0"):
        tick._on_alarm(signal.SIGALRM, None)


def test_a_client_that_does_not_read_cannot_hold_the_sidecar(
    tick: Tick, app: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    app({}, lambda *args: None)
    tick._on_term(signal.SIGTERM, None)
    tick._on_term(signal.SIGTERM, None)
    monkeypatch.setattr(tick, "_deadline", 0.0)
    with pytest.raises(Ended, match="0"):
        tick._on_alarm(signal.SIGALRM, None)
