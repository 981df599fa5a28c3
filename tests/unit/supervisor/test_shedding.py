"""The gate of the shedder: it falls in time, comes back by itself, and does not flap."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest

from edge_server.shm.admission import PATIENCE_S
from edge_server.shm.scoreboard import SIDECAR_SLOT, Field, Scoreboard, WorkerState
from edge_server.shm.segment import segment_name
from edge_server.supervisor.shedding import Load, Shedding

CAP = 100
QUIET = Load(0, 0.0, {1: 0})
STEP_S = 0.1


class Told:
    """A gate that is told a load every tenth of a second."""

    def __init__(self) -> None:
        self.gate = Shedding(CAP)
        self.now_s = 50.0

    def tell(self, load: Load, seconds: float) -> list[bool]:
        """Return what the gate says, tick by tick."""
        said = []
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            said.append(self.gate.observe(load, self.now_s))
        return said

    def shed(self, seconds: float) -> list[bool]:
        """Tell of one more refusal at each tick."""
        said = []
        for count in range(1, 1 + round(seconds / STEP_S)):
            said += self.tell(Load(0, 0.0, {1: count}), STEP_S)
        return said


@pytest.mark.parametrize(
    ("load", "falls"),
    [
        pytest.param(QUIET, False, id="nothing"),
        pytest.param(Load(89, 0.0, {}), False, id="in-hand-below-nine-tenths"),
        pytest.param(Load(90, 0.0, {}), True, id="in-hand-at-nine-tenths"),
        pytest.param(Load(0, PATIENCE_S * 0.49, {}), False, id="waiting-below-half-of-what-is-shed"),
        pytest.param(Load(0, PATIENCE_S * 0.5, {}), True, id="waiting-at-half-of-what-is-shed"),
    ],
)
def test_the_gate_falls_before_the_instance_is_saturated(load: Load, falls: bool) -> None:
    assert Told().tell(load, 1.0)[-1] is not falls


def test_it_falls_while_requests_are_shed() -> None:
    told = Told()
    told.tell(QUIET, 1.0)
    assert told.shed(1.0)[-1] is False


def test_what_was_shed_before_is_no_pressure_now() -> None:
    assert all(Told().tell(Load(0, 0.0, {1: 1000}), 1.0)[1:])


@pytest.mark.parametrize("load", [Load(100, 0.0, {}), Load(0, 1.0, {})], ids=["in-hand", "waiting"])
def test_a_spike_of_a_tick_is_no_pressure(load: Load) -> None:
    told = Told()
    for _ in range(20):
        assert all(told.tell(load, 2 * STEP_S))
        assert all(told.tell(QUIET, STEP_S))


def test_it_holds_again_by_itself_after_two_quiet_seconds_and_not_before() -> None:
    told = Told()
    assert told.tell(Load(95, 0.0, {}), 1.0)[-1] is False
    said = told.tell(QUIET, 3.0)
    assert not any(said[:20])
    assert all(said[21:])


@pytest.mark.parametrize(
    "load",
    [Load(80, 0.0, {}), Load(70, 0.0, {}), Load(0, PATIENCE_S * 0.3, {})],
    ids=["between-the-marks", "at-the-lower-mark", "still-waiting"],
)
def test_less_pressure_is_not_yet_quiet(load: Load) -> None:
    told = Told()
    told.tell(Load(95, 0.0, {}), 1.0)
    assert not any(told.tell(load, 10.0))


def test_a_breath_of_pressure_begins_the_quiet_interval_anew() -> None:
    told = Told()
    told.tell(Load(95, 0.0, {}), 1.0)
    for _ in range(5):
        assert not any(told.tell(QUIET, 1.5))
        assert not any(told.tell(Load(75, 0.0, {}), STEP_S))
    assert told.tell(QUIET, 2.5)[-1] is True


def test_load_that_swings_around_the_upper_mark_changes_the_gate_once() -> None:
    told = Told()
    said = [told.gate.is_stable]
    for _ in range(50):
        said += told.tell(Load(95, 0.0, {}), 0.5) + told.tell(Load(60, 0.0, {}), 0.5)
    assert sum(before != after for before, after in pairwise(said)) == 1


def test_a_worker_that_was_replaced_begins_to_count_anew() -> None:
    told = Told()
    told.tell(Load(0, 0.0, {1: 7, 2: 3}), 1.0)
    assert all(told.tell(Load(0, 0.0, {2: 3, 5: 0}), 1.0))


def test_the_load_is_that_of_the_workers_that_live() -> None:
    board = Scoreboard.create(2, segment_name("test-shedding"))
    for slot, letter, state, inflight, parked, wait_ms in (
        (0, "a", WorkerState.SERVING, 3, 2, 4),
        (0, "b", WorkerState.DRAINING, 1, 0, 9),
        (1, "a", WorkerState.EMPTY, 50, 50, 50),
        (SIDECAR_SLOT, "a", WorkerState.SERVING, 7, 0, 70),
    ):
        row = board.row(board.row_index(slot, letter))
        row.set(Field.STATE, state)
        row.set(Field.PID, os.getpid() + slot)
        row.set(Field.INFLIGHT, inflight)
        row.set(Field.PARKED, parked)
        row.set(Field.WAITED_NS, wait_ms * 1_000_000)
    load = Load.of(board.rows())
    assert (load.inflight, load.waited_s) == (6, pytest.approx(0.009))
    board.segment.unlink()
    board.close()
