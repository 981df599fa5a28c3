"""Operator drain: three ways to ask, one answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_server.shm.scoreboard import SIDECAR_SLOT, Field, Row, Scoreboard
from edge_server.shm.segment import segment_name
from edge_server.supervisor import drain
from edge_server.supervisor.drain import OperatorDrain


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    """The scoreboard of one worker slot."""
    board = Scoreboard.create(1, segment_name("board"))
    yield board
    board.segment.unlink()
    board.close()


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, str]]:
    """What the log is told: whether it drains, and why."""
    events: list[tuple[bool, str]] = []

    def note(event: str, level: str = "info", **fields: Any) -> None:
        assert event == "drain"
        events.append((fields["is_draining"], fields["reason"]))

    monkeypatch.setattr(drain, "log", note)
    return events


def sidecar_rows(board: Scoreboard) -> list[Row]:
    return [row for row in board.rows() if row.slot == SIDECAR_SLOT]


def test_a_toggle_drains_and_another_one_ends_it(board: Scoreboard, logged: list[tuple[bool, str]]) -> None:
    drain = OperatorDrain(board, None)
    rows = sidecar_rows(board)
    seen = [(drain.refresh(rows), board.is_operator_drain)]
    drain.toggle()
    seen += [(drain.refresh(rows), board.is_operator_drain) for _ in range(2)]
    drain.toggle()
    seen += [(drain.refresh(rows), board.is_operator_drain)]
    assert seen == [(False, False), (True, True), (True, True), (False, False)]
    assert logged == [(True, "operator"), (False, "operator")]


def test_it_drains_for_as_long_as_the_file_exists(
    board: Scoreboard, logged: list[tuple[bool, str]], tmp_path: Path
) -> None:
    file = tmp_path / "drain"
    drain = OperatorDrain(board, str(file))
    assert not drain.refresh(sidecar_rows(board))
    file.touch()
    assert drain.refresh(sidecar_rows(board))
    assert board.is_operator_drain
    file.unlink()
    assert not drain.refresh(sidecar_rows(board))
    assert [is_on for is_on, _ in logged] == [True, False]


def test_a_toggle_does_not_end_what_the_file_asks_for(board: Scoreboard, tmp_path: Path) -> None:
    file = tmp_path / "drain"
    file.touch()
    drain = OperatorDrain(board, str(file))
    drain.toggle()
    drain.toggle()
    assert drain.refresh(sidecar_rows(board))


def test_the_latest_request_of_the_admin_plane_counts_once(board: Scoreboard) -> None:
    drain = OperatorDrain(board, None)
    a, b = sidecar_rows(board)
    a.set(Field.DRAIN_REQUEST, 1001)
    assert drain.refresh([a, b])
    drain.toggle()
    assert not drain.refresh([a, b]), "an old request must not undo a later signal"
    b.set(Field.DRAIN_REQUEST, 2003)
    assert drain.refresh([a, b])
    b.set(Field.DRAIN_REQUEST, 2004)
    assert not drain.refresh([a, b])


def test_a_sidecar_that_was_replaced_changes_nothing(board: Scoreboard) -> None:
    drain = OperatorDrain(board, None)
    a, b = sidecar_rows(board)
    a.set(Field.DRAIN_REQUEST, 1001)
    drain.refresh([a, b])
    a.clear()
    assert drain.refresh([a, b])
