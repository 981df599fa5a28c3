"""Readiness from the state of the slots."""

from __future__ import annotations

import pytest

from edge_server.shm.scoreboard import SIDECAR_SLOT, Gate
from edge_server.supervisor.gates import gate_names, is_degraded, missing_gates
from edge_server.supervisor.slots import Slot

NOW_S = 100.0
NEVER = float("-inf")


def place(lacking_since_s: float | None, number: int = 0) -> Slot:
    slot = Slot(number)
    slot.lacking_since_s = lacking_since_s
    return slot


@pytest.mark.parametrize(
    ("workers", "sidecar", "is_draining", "missing", "degraded"),
    [
        pytest.param([None, None], None, False, [], False, id="all-serve"),
        pytest.param([NEVER, NEVER], NEVER, False, ["workers_up", "sidecar_up"], True, id="just-started"),
        pytest.param([None, NEVER], None, False, ["workers_up"], True, id="one-has-not-served-yet"),
        pytest.param([None, 99.5], None, False, [], True, id="one-was-lost-just-now"),
        pytest.param([None, 98.5], None, False, ["workers_up"], True, id="one-was-lost-a-while-ago"),
        pytest.param([99.9, 99.9], None, False, ["workers_up"], True, id="nobody-serves"),
        pytest.param([99.9], None, False, ["workers_up"], True, id="the-only-one-is-lost"),
        pytest.param([None], 99.5, False, [], True, id="the-sidecar-was-lost-just-now"),
        pytest.param([None], 98.5, False, ["sidecar_up"], True, id="the-sidecar-was-lost-a-while-ago"),
        pytest.param([None], None, True, ["not_draining"], False, id="draining"),
        pytest.param([NEVER], None, True, ["workers_up", "not_draining"], True, id="draining-at-the-start"),
    ],
)
def test_gates_follow_the_slots(
    workers: list[float | None], sidecar: float | None, is_draining: bool, missing: list[str], degraded: bool
) -> None:
    slots = [place(since, number) for number, since in enumerate(workers)]
    own = place(sidecar, SIDECAR_SLOT)
    assert (
        gate_names(missing_gates(slots, own, is_draining=is_draining, is_stable=True, now_s=NOW_S)) == missing
    )
    assert is_degraded(slots, own) is degraded


def test_an_unstable_shedder_is_one_more_gate() -> None:
    found = missing_gates(
        [place(None)], place(None, SIDECAR_SLOT), is_draining=False, is_stable=False, now_s=NOW_S
    )
    assert gate_names(found) == ["shedder_stable"]


def test_names_are_those_of_the_contract() -> None:
    assert gate_names(Gate.SIDECAR_UP | Gate.CONFIG_VALID) == ["config_valid", "sidecar_up"]
    assert gate_names(Gate(0)) == []
