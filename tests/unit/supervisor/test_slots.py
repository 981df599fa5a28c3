"""Slots: every stage and event, letters, and when a place is filled again."""

from __future__ import annotations

import itertools

import pytest

from edge_server.shm.scoreboard import SIDECAR_SLOT, WorkerState
from edge_server.supervisor.slots import (
    MAX_DEATHS_BEFORE_SERVING,
    SLOT_TRANSITIONS,
    TRANSITIONS,
    Event,
    Process,
    Slot,
    SlotEvent,
    SlotState,
    Stage,
    StartError,
)

S, E, W = Stage, Event, WorkerState
P, H = SlotState, SlotEvent


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


EXPECTED_OF_PLACES = {
    P.EMPTY: {H.FORKED: P.STARTING, H.CRASHED: P.BACKOFF},
    P.BACKOFF: {H.DUE: P.EMPTY},
    P.STARTING: {H.SERVES: P.SERVING, H.LOST: P.EMPTY, H.CRASHED: P.BACKOFF},
    P.SERVING: {H.FORKED: P.REPLACING, H.LOST: P.EMPTY, H.CRASHED: P.BACKOFF},
    P.REPLACING: {
        H.SERVES: P.SERVING,
        H.SUCCESSOR_LOST: P.SERVING,
        H.LOST: P.STARTING,
        H.CRASHED: P.STARTING,
    },
}


@pytest.mark.parametrize(
    ("state", "event"), list(itertools.product(SlotState, SlotEvent)), ids=lambda value: str(value.value)
)
def test_every_event_of_a_place_leads_where_the_table_says(state: SlotState, event: SlotEvent) -> None:
    slot = Slot(0)
    slot.state = state
    slot._on(event)
    assert slot.state is EXPECTED_OF_PLACES[state].get(event, state)
    assert SLOT_TRANSITIONS.get((state, event), state) is slot.state


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
        pytest.param([0.9, 0.9, 0.1], [0.0, 1.0, 2.0], id="a-run-of-early-deaths"),
        pytest.param([0.1] * 9, [0, 1, 2, 4, 8, 16, 30, 30, 30], id="doubled-up-to-half-a-minute"),
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


def test_a_successor_takes_whichever_letter_is_free() -> None:
    slot = Slot(0)
    old = serving(slot)
    slot.heed(old, W.DRAINING, 5.0)
    slot.lose(serving(slot, 5.0), 20.0)
    assert slot.letter_due(20.0) == "b", "a is still in use by the one that leaves"
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
        slot.lose(fork(slot, now_s + 40 * turn), now_s + 40 * turn + 0.5)


def test_a_worker_that_never_serves_ends_the_start() -> None:
    slot = Slot(2)
    die(slot, MAX_DEATHS_BEFORE_SERVING)
    with pytest.raises(StartError, match="worker 2 died 4 times") as caught:
        die(slot, 1, now_s=500.0)
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
    assert slot.letter_due(1000.0) is not None


def test_one_that_was_told_to_stop_before_it_served_is_no_failed_start() -> None:
    slot = Slot(0)
    for turn in range(MAX_DEATHS_BEFORE_SERVING + 2):
        process = fork(slot, 2.0 * turn)
        process.on(E.STOP)
        slot.lose(process, 2.0 * turn + 0.5)


def replaced(slot: Slot, generation: int = 2) -> tuple[Process, Process]:
    """Return the one that serves and its successor, which starts."""
    old = serving(slot)
    slot.replace(generation)
    letter = slot.letter_due(5.0)
    assert letter is not None
    new = Process(slot.number, letter, 1, old.pid + 1, 5.0, slot.generation)
    slot.take(new)
    return old, new


def test_a_successor_is_forked_while_the_old_one_serves() -> None:
    slot = Slot(0)
    old, new = replaced(slot)
    assert (slot.state, slot.current, slot.coming) == (P.REPLACING, old, new)
    assert (old.letter, new.letter, new.generation) == ("a", "b", 2)
    assert slot.lacking_since_s is None
    assert not slot.is_settled
    assert slot.letter_due(6.0) is None


def test_once_the_successor_serves_the_old_one_leaves() -> None:
    slot = Slot(0)
    old, new = replaced(slot)
    slot.heed(new, W.SERVING, 5.5)
    assert (slot.current, slot.leaving, slot.coming) == (new, old, None)
    assert not slot.is_settled, "the old one may still take connections"
    slot.heed(old, W.DRAINING, 5.6)
    assert slot.is_settled
    slot.lose(old, 7.0)
    assert list(slot.processes()) == [new]


def test_a_successor_that_dies_leaves_the_old_one_in_place_and_is_tried_again_later() -> None:
    slot = Slot(0)
    old, new = replaced(slot)
    slot.lose(new, 5.1)
    assert (slot.state, slot.current, slot.failures) == (P.SERVING, old, 1)
    assert slot.lacking_since_s is None
    again = fork(slot, 5.1, pid=103)
    slot.lose(again, 5.2)
    assert slot.failures == 2
    assert slot.letter_due(6.1) is None
    assert slot.letter_due(6.2) == "b"


def test_if_the_old_one_dies_its_successor_has_the_place_already() -> None:
    slot = Slot(0)
    old, new = replaced(slot)
    slot.lose(old, 5.2)
    assert (slot.state, slot.current, slot.coming) == (P.STARTING, new, None)
    assert slot.lacking_since_s == 5.2
    slot.heed(new, W.SERVING, 5.5)
    assert slot.is_settled


def test_a_place_that_nobody_has_is_given_the_new_generation_without_delay() -> None:
    slot = Slot(0)
    for turn in range(4):
        slot.lose(serving(slot, 40.0 * turn), 40.0 * turn + 0.1)
    assert slot.state is P.BACKOFF
    slot.replace(2)
    assert slot.letter_due(120.2) is not None
    assert slot.state is P.EMPTY


def test_a_generation_that_is_taken_back_wants_no_successor() -> None:
    slot = Slot(0)
    _, new = replaced(slot, generation=2)
    slot.lose(new, 5.1)
    slot.replace(1)
    assert slot.is_settled
    assert slot.letter_due(100.0) is None


def test_a_third_process_waits_for_a_letter() -> None:
    slot = Slot(0)
    _, new = replaced(slot)
    slot.heed(new, W.SERVING, 5.5)
    slot.replace(3)
    assert slot.is_blocked
    assert slot.letter_due(6.0) is None
    assert slot.leaving is not None
    slot.lose(slot.leaving, 8.0)
    assert not slot.is_blocked
    assert slot.letter_due(8.0) == "a"
