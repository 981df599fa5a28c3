"""Slots: every stage and event, letters, and when a place is filled again."""

from __future__ import annotations

import itertools

import pytest

from edge_server.shm.scoreboard import SIDECAR_SLOT, WorkerState
from edge_server.supervisor.slots import (
    MAX_DEATHS_BEFORE_SERVING,
    TRANSITIONS,
    Event,
    Process,
    Slot,
    Stage,
    StartError,
)

S, E, W = Stage, Event, WorkerState


def fork(slot: Slot, now_s: float, pid: int = 100) -> Process:
    letter = slot.letter_due(now_s)
    assert letter is not None
    process = Process(slot.number, letter, 0, pid, now_s)
    slot.take(process)
    return process


def serving(slot: Slot, now_s: float = 0.0) -> Process:
    process = fork(slot, now_s)
    slot.heed(process, W.SERVING, now_s)
    return process


EXPECTED = {
    S.STARTING: {E.SERVES: S.SERVING, E.DRAINS: S.DRAINING, E.STOP: S.STOPPING, E.DIED: S.GONE},
    S.SERVING: {E.DRAINS: S.DRAINING, E.STOP: S.STOPPING, E.DIED: S.GONE},
    S.DRAINING: {E.STOP: S.STOPPING, E.DIED: S.GONE},
    S.STOPPING: {E.DIED: S.GONE},
    S.GONE: {},
}


@pytest.mark.parametrize(
    ("stage", "event"), list(itertools.product(Stage, Event)), ids=lambda value: str(value.value)
)
def test_every_event_in_every_stage_leads_where_the_table_says(stage: Stage, event: Event) -> None:
    process = Process(0, "a", 0, 100, 0.0)
    process.stage = stage
    after = EXPECTED[stage].get(event)
    assert process.on(event) is (after is not None)
    assert process.stage is (after or stage)


def test_every_stage_but_the_last_ends_when_the_process_dies() -> None:
    assert {stage for stage, event in TRANSITIONS if event is Event.DIED} == set(Stage) - {Stage.GONE}


@pytest.mark.parametrize(
    ("told", "stage"),
    [
        (W.EMPTY, S.STARTING),
        (W.STARTING, S.STARTING),
        (W.SERVING, S.SERVING),
        (W.DRAINING, S.DRAINING),
        (W.STOPPED, S.DRAINING),
    ],
    ids=lambda value: str(value.name),
)
def test_a_process_is_where_its_row_says(told: WorkerState, stage: Stage) -> None:
    process = Process(0, "a", 0, 100, 0.0)
    process.heed(told)
    assert process.stage is stage
    assert process.has_served is (stage is S.SERVING)


def test_a_process_that_was_told_to_stop_is_not_serving_whatever_its_row_says() -> None:
    process = Process(0, "a", 0, 100, 0.0)
    process.on(E.STOP)
    process.heed(W.SERVING)
    assert process.stage is S.STOPPING


def test_a_new_slot_wants_the_first_letter_at_once() -> None:
    assert Slot(3).letter_due(0.0) == "a"


def test_a_taken_place_wants_nobody() -> None:
    slot = Slot(3)
    fork(slot, 0.0)
    assert slot.letter_due(100.0) is None


def test_the_letters_alternate() -> None:
    slot = Slot(3)
    seen = []
    for turn in range(4):
        process = serving(slot, 10.0 * turn)
        seen.append(process.identity)
        slot.lose(process, 10.0 * turn + 5)
    assert seen == ["3a", "3b", "3a", "3b"]


def test_a_dead_worker_is_replaced_at_once() -> None:
    slot = Slot(0)
    slot.lose(serving(slot), 5.0)
    assert slot.letter_due(5.0) == "b"


@pytest.mark.parametrize(
    ("lives_s", "waits_s"),
    [
        pytest.param([0.9], [0.0], id="one-early-death"),
        pytest.param([0.9, 0.9, 0.1], [0.0, 1.0, 1.0], id="a-run-of-early-deaths"),
        pytest.param([5.0, 0.9, 0.9], [0.0, 0.0, 1.0], id="a-run-after-a-long-life"),
        pytest.param([0.9, 0.9, 1.0, 0.9], [0.0, 1.0, 0.0, 0.0], id="a-long-life-ends-the-run"),
    ],
)
def test_only_the_first_of_a_run_of_early_deaths_is_made_good_at_once(
    lives_s: list[float], waits_s: list[float]
) -> None:
    slot = Slot(0)
    now_s = 10.0
    for life_s, wait_s in zip(lives_s, waits_s, strict=True):
        process = serving(slot, now_s)
        now_s += life_s
        slot.lose(process, now_s)
        if wait_s:
            assert slot.letter_due(now_s + wait_s - 0.05) is None
        now_s += wait_s
        assert slot.letter_due(now_s) is not None


def test_one_that_drains_by_itself_makes_room_for_its_successor() -> None:
    slot = Slot(0)
    old = serving(slot)
    slot.heed(old, W.DRAINING, 5.0)
    new = fork(slot, 5.0, pid=101)
    assert (old.letter, new.letter) == ("a", "b")
    assert list(slot.processes()) == [old, new]
    slot.lose(old, 6.0)
    assert list(slot.processes()) == [new]


def test_a_successor_waits_until_its_letter_is_free() -> None:
    slot = Slot(0)
    old = serving(slot)
    slot.heed(old, W.DRAINING, 5.0)
    new = serving(slot, 5.0)
    slot.lose(new, 20.0)
    assert slot.letter_due(20.0) is None, "a is still in use by the one that leaves"
    slot.lose(old, 21.0)
    assert slot.letter_due(21.0) == "a"


def test_a_second_one_that_drains_waits_for_the_first_to_leave() -> None:
    slot = Slot(0)
    old = serving(slot)
    slot.heed(old, W.DRAINING, 5.0)
    new = serving(slot, 5.0)
    slot.heed(new, W.DRAINING, 6.0)
    assert (slot.leaving, slot.current) == (old, new)
    slot.lose(old, 7.0)
    slot.heed(new, W.DRAINING, 7.0)
    assert (slot.leaving, slot.current) == (new, None)
    assert slot.letter_due(7.0) == "a"


def test_lacking_begins_when_nobody_serves_and_ends_when_someone_does() -> None:
    slot = Slot(0)
    seen = [slot.lacking_since_s]
    process = serving(slot, 2.0)
    seen.append(slot.lacking_since_s)
    slot.lose(process, 9.0)
    seen.append(slot.lacking_since_s)
    serving(slot, 9.5)
    seen.append(slot.lacking_since_s)
    assert seen == [float("-inf"), None, 9.0, None]


def test_a_process_that_only_starts_does_not_end_the_lack() -> None:
    slot = Slot(0)
    slot.heed(fork(slot, 2.0), W.STARTING, 2.5)
    assert slot.lacking_since_s == float("-inf")


def die(slot: Slot, times: int, now_s: float = 0.0) -> None:
    for turn in range(times):
        slot.lose(fork(slot, now_s + 2 * turn), now_s + 2 * turn + 0.5)


def test_a_worker_that_never_serves_ends_the_start() -> None:
    slot = Slot(2)
    die(slot, MAX_DEATHS_BEFORE_SERVING)
    with pytest.raises(StartError, match="worker 2 died 4 times") as caught:
        die(slot, 1, now_s=50.0)
    assert caught.value.exit_code == 1
    assert list(slot.processes()) == []


def test_the_sidecar_is_named_as_such() -> None:
    with pytest.raises(StartError, match="sidecar died 4 times"):
        die(Slot(SIDECAR_SLOT), 4)


def test_forks_that_fail_count_as_deaths_and_wait() -> None:
    slot = Slot(0)
    slot.postpone(0.0)
    assert slot.letter_due(0.9) is None
    assert slot.letter_due(1.0) == "a"
    slot.postpone(1.0)
    slot.postpone(2.0)
    with pytest.raises(StartError):
        slot.postpone(3.0)


def test_once_a_worker_has_served_no_number_of_deaths_is_the_end() -> None:
    slot = Slot(0)
    slot.lose(serving(slot), 0.5)
    die(slot, 20, now_s=10.0)
    assert slot.letter_due(100.0) is not None


def test_one_that_was_told_to_stop_before_it_served_is_no_failed_start() -> None:
    slot = Slot(0)
    for turn in range(MAX_DEATHS_BEFORE_SERVING + 2):
        process = fork(slot, 2.0 * turn)
        process.on(E.STOP)
        slot.lose(process, 2.0 * turn + 0.5)
