"""The timetable: all of the time is given out, and too little of it is refused."""

from __future__ import annotations

import pytest

from edge_server.drill.plan import FAULTS, MAX_HOLD_S, MIN_RECOVERY_S, PlanError, make_plan


@pytest.mark.parametrize("seconds", [13, 30, 60, 600])
def test_baseline_faults_and_recoveries_fill_the_time(seconds: float) -> None:
    faults = [name for name in FAULTS if name != "stop-worker"]
    plan = make_plan(seconds, faults, {})
    used = plan.baseline_s + sum(phase.hold_s + phase.recovery_s for phase in plan.phases)
    assert used == pytest.approx(seconds)
    assert [phase.fault for phase in plan.phases] == faults
    assert all(phase.recovery_s >= MIN_RECOVERY_S and phase.hold_s <= MAX_HOLD_S for phase in plan.phases)


def test_a_fault_of_fixed_length_takes_it_from_all() -> None:
    plan = make_plan(60, FAULTS, {"stop-worker": 7.0})
    (stop,) = [phase for phase in plan.phases if phase.fault == "stop-worker"]
    (kill,) = [phase for phase in plan.phases if phase.fault == "kill-worker"]
    assert stop.hold_s == 7.0
    assert stop.recovery_s == pytest.approx(kill.recovery_s)
    assert kill.hold_s == 0


def test_too_little_time_is_refused_and_what_is_told_suffices() -> None:
    with pytest.raises(PlanError, match="at least") as raised:
        make_plan(8, FAULTS, {"stop-worker": 7.0})
    least = float(str(raised.value).split()[-2])
    assert make_plan(least, FAULTS, {"stop-worker": 7.0}).phases
    assert raised.value.exit_code == 2
