from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from edge_server.observe import readiness
from edge_server.shm.scoreboard import ALL_GATES, Gate, Scoreboard

GATES = [
    "config_valid",
    "packs_verified",
    "cas_reachable",
    "allow_list",
    "amnesia_ok",
    "workers_up",
    "shedder_stable",
    "not_draining",
    "sidecar_up",
]


@pytest.fixture
def scoreboard() -> Iterator[Scoreboard]:
    board = Scoreboard.create(2, f"test-readiness-{os.getpid()}")
    yield board
    board.segment.unlink()
    board.close()


def test_a_new_instance_misses_every_gate(scoreboard: Scoreboard) -> None:
    status, body, headers = readiness.report(scoreboard)
    assert status == 503
    assert json.loads(body) == {
        "ready": False,
        "degraded": True,
        "missing": GATES,
        "retry_after": 1,
        "generation": 0,
    }
    assert dict(headers)["Retry-After"] == "1"
    assert dict(headers)["Cache-Control"] == "no-store"
    assert int(dict(headers)["Content-Length"]) == len(body)


def test_an_instance_without_missing_gates_is_ready(scoreboard: Scoreboard) -> None:
    scoreboard.missing_gates, scoreboard.is_degraded, scoreboard.generation = Gate(0), False, 7
    status, body, headers = readiness.report(scoreboard)
    assert status == 200
    assert json.loads(body) == {
        "ready": True,
        "degraded": False,
        "missing": [],
        "retry_after": 0,
        "generation": 7,
    }
    assert "Retry-After" not in dict(headers)


def test_a_ready_instance_can_be_degraded(scoreboard: Scoreboard) -> None:
    scoreboard.missing_gates, scoreboard.is_degraded = Gate(0), True
    status, body, _ = readiness.report(scoreboard)
    assert (status, json.loads(body)["degraded"]) == (200, True)


@pytest.mark.parametrize("name", GATES)
def test_the_gate_that_does_not_hold_is_named(scoreboard: Scoreboard, name: str) -> None:
    scoreboard.missing_gates = Gate[name.upper()]
    status, body, _ = readiness.report(scoreboard)
    assert status == 503
    assert json.loads(body)["missing"] == [name]


def test_every_gate_has_its_place() -> None:
    assert [gate.name.lower() for gate in sorted(Gate) if gate in ALL_GATES] == GATES
