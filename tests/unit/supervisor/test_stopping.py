"""Stopping, step by step: who is told, who is killed, and when."""

from __future__ import annotations

import os
import signal

import pytest

from edge_server.shm.scoreboard import SIDECAR_SLOT
from edge_server.supervisor.slots import Event, Process, Slot
from edge_server.supervisor.stopping import GRACE_S, HANDSHAKE_S, START_S, Stopping

TIMEOUT_S = 10.0
SIDECAR, WORKER = 50, 100  # pids; worker n has WORKER + n

Sent = list[tuple[int, int]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Signals sent: pid and number."""
    sent: Sent = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def place(number: int, pid: int, *, serves: bool = True, born_s: float = -60.0) -> Slot:
    slot = Slot(number)
    process = Process(number, "a", 0, pid, born_s)
    slot.take(process)
    if serves:
        process.on(Event.SERVES)
    return slot


def begin(*workers: Slot) -> tuple[Stopping, Slot]:
    sidecar = place(SIDECAR_SLOT, SIDECAR)
    return Stopping(workers, sidecar, TIMEOUT_S, now_s=0.0), sidecar


def leave(stopping: Stopping, slot: Slot, code: int, now_s: float) -> None:
    assert slot.current is not None
    stopping.saw_exit(slot.current, code)
    slot.lose(slot.current, now_s)


def test_workers_first_then_the_sidecar_then_it_is_over(sent: Sent) -> None:
    workers = [place(0, WORKER), place(1, WORKER + 1)]
    stopping, sidecar = begin(*workers)
    for step in range(5):
        stopping.advance(HANDSHAKE_S + step / 10)
    assert sent == [(WORKER, signal.SIGTERM), (WORKER + 1, signal.SIGTERM)], "each is told once"
    leave(stopping, workers[0], 0, 1.0)
    stopping.advance(1.0)
    assert len(sent) == 2, "the sidecar answers probes until the last worker has gone"
    leave(stopping, workers[1], 0, 2.0)
    stopping.advance(2.0)
    assert sent[2:] == [(SIDECAR, signal.SIGTERM)]
    over_before = stopping.is_over
    leave(stopping, sidecar, 0, 2.1)
    assert (over_before, stopping.is_over) == (False, True)
    assert stopping.exit_code == 0


def test_handshakes_that_have_begun_get_the_time_to_complete(sent: Sent) -> None:
    stopping, _ = begin(place(0, WORKER))
    stopping.advance(HANDSHAKE_S / 2)
    assert sent == []


def test_one_that_is_still_starting_is_told_when_it_serves(sent: Sent) -> None:
    slot = place(0, WORKER, serves=False, born_s=-0.1)
    stopping, _ = begin(slot)
    stopping.advance(0.5)
    assert sent == []
    assert slot.current is not None
    slot.current.on(Event.SERVES)
    stopping.advance(0.6)
    assert sent == [(WORKER, signal.SIGTERM)]


def test_one_that_takes_too_long_to_start_is_not_waited_for(sent: Sent) -> None:
    stopping, _ = begin(place(0, WORKER, serves=False, born_s=0.0))
    stopping.advance(START_S + 0.1)
    assert sent == [(WORKER, signal.SIGTERM)]


def test_both_processes_of_a_slot_are_told(sent: Sent) -> None:
    slot = place(0, WORKER)
    old = slot.current
    assert old is not None
    old.on(Event.DRAINS)
    slot.leaving, slot.current = old, Process(0, "b", 1, WORKER + 1, -60.0)
    stopping, _ = begin(slot)
    stopping.advance(1.0)
    assert sent == [(WORKER, signal.SIGTERM), (WORKER + 1, signal.SIGTERM)]


def test_whoever_is_late_is_killed_once_and_the_exit_code_says_so(sent: Sent) -> None:
    slot = place(0, WORKER)
    stopping, _ = begin(slot)
    stopping.advance(1.0)
    deadline_s = HANDSHAKE_S + TIMEOUT_S + GRACE_S
    stopping.advance(deadline_s)
    assert (WORKER, signal.SIGKILL) not in sent
    stopping.advance(deadline_s + 0.1)
    stopping.advance(deadline_s + 0.2)
    assert sent == [(WORKER, signal.SIGTERM), (WORKER, signal.SIGKILL)]
    leave(stopping, slot, -signal.SIGKILL, deadline_s + 0.3)
    assert stopping.exit_code == 1


def test_a_sidecar_that_does_not_end_is_killed_and_costs_no_request(sent: Sent) -> None:
    slot = place(0, WORKER)
    stopping, sidecar = begin(slot)
    leave(stopping, slot, 0, 1.0)
    stopping.advance(1.0)
    stopping.advance(1.0 + GRACE_S + 0.1)
    assert sent == [(SIDECAR, signal.SIGTERM), (SIDECAR, signal.SIGKILL)]
    leave(stopping, sidecar, -signal.SIGKILL, 3.0)
    assert stopping.exit_code == 0


@pytest.mark.parametrize(
    ("serves", "code", "expected"),
    [
        pytest.param(True, 0, 0, id="drained"),
        pytest.param(True, 1, 1, id="failed-while-it-drained"),
        pytest.param(True, -11, 1, id="crashed-while-it-drained"),
        pytest.param(False, -15, 0, id="had-not-served-anybody"),
    ],
)
def test_only_those_who_served_decide_the_exit_code(
    sent: Sent, serves: bool, code: int, expected: int
) -> None:
    slot = place(0, WORKER, serves=serves)
    stopping, _ = begin(slot)
    stopping.advance(1.0)
    leave(stopping, slot, code, 1.5)
    assert stopping.exit_code == expected
