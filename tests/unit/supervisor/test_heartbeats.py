"""Who is silent for too long, and who only seems to be."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from edge_server.shm.scoreboard import Field, Scoreboard, WorkerState
from edge_server.supervisor.heartbeats import GAP_S, START_GRACE_S, Heartbeats
from edge_server.supervisor.slots import Process

TIMEOUT_S = 5.0
BORN_S = 100.0


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    made = Scoreboard.create(1, f"test-heartbeats-{os.getpid()}")
    yield made
    made.segment.unlink()
    made.close()


@pytest.fixture
def process(board: Scoreboard) -> Process:
    made = Process(0, "a", 0, 4711, BORN_S)
    made.heed(WorkerState.SERVING)
    board.row(0).set(Field.PID, made.pid)
    return made


def is_silent(beats: Heartbeats, process: Process, until_s: float, since_s: float = BORN_S) -> bool:
    """Look every half second, as the loop does more often; return what the last look says."""
    found: list[float] = []
    now_s = since_s
    while now_s < until_s:
        now_s = min(until_s, now_s + GAP_S / 2)
        found = beats.ages_s([process], now_s)
    return found[0] > TIMEOUT_S


@pytest.mark.parametrize(("age_s", "expected"), [(4.9, False), (5.1, True)])
def test_a_beat_counts_for_the_timeout(
    board: Scoreboard, process: Process, age_s: float, expected: bool
) -> None:
    board.row(0).set(Field.BEAT_NS, int((BORN_S + 20) * 1e9))
    assert is_silent(Heartbeats(board, BORN_S), process, BORN_S + 20 + age_s) is expected


def test_one_that_has_not_beaten_yet_is_judged_by_its_birth(board: Scoreboard, process: Process) -> None:
    assert not is_silent(Heartbeats(board, BORN_S), process, BORN_S + TIMEOUT_S)
    assert is_silent(Heartbeats(board, BORN_S), process, BORN_S + TIMEOUT_S + 0.1)


def test_the_beat_of_the_one_before_it_is_not_its_own(board: Scoreboard, process: Process) -> None:
    board.row(0).set(Field.PID, 4710)
    board.row(0).set(Field.BEAT_NS, int((BORN_S + 100) * 1e9))
    assert is_silent(Heartbeats(board, BORN_S), process, BORN_S + 50)


@pytest.mark.parametrize(
    ("age_s", "expected"), [(TIMEOUT_S + START_GRACE_S - 0.1, False), (TIMEOUT_S + START_GRACE_S + 0.1, True)]
)
def test_one_that_starts_has_more_time(board: Scoreboard, age_s: float, expected: bool) -> None:
    starting = Process(0, "a", 0, 4711, BORN_S)
    assert is_silent(Heartbeats(board, BORN_S), starting, BORN_S + age_s) is expected


def test_after_a_gap_everybody_has_the_whole_timeout_again(board: Scoreboard, process: Process) -> None:
    beats = Heartbeats(board, BORN_S)
    assert not is_silent(beats, process, BORN_S + 4)
    back_s = BORN_S + 1000
    assert beats.ages_s([process], back_s) == [0.0], "the supervisor was stopped as well"
    assert not is_silent(beats, process, back_s + TIMEOUT_S, back_s)
    assert is_silent(beats, process, back_s + TIMEOUT_S + 0.1, back_s + TIMEOUT_S)
