"""The drill's timetable: how its seconds are divided among baseline, faults and recoveries. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edge_server.errors import EdgeError

FAULTS = ("kill-worker", "kill-sidecar", "stop-worker", "latency", "memory")  # in the order they are injected

MIN_BASELINE_S, MIN_RECOVERY_S = 2.0, 1.5
MAX_HOLD_S = 10.0
_BASELINE_SHARE = 0.2
_HELD = ("latency", "memory")  # their length is ours to choose
_HELD_SHARE = 0.4  # of what a fault has


class PlanError(EdgeError):
    """The time given is too short for what was asked."""

    exit_code = 2


class Phase(NamedTuple):
    """One fault: how long it is held (at least, where the instance ends it), and the recovery."""

    fault: str
    hold_s: float
    recovery_s: float


class Plan(NamedTuple):
    baseline_s: float
    phases: tuple[Phase, ...]


def make_plan(seconds: float, faults: Sequence[str], fixed_s: Mapping[str, float]) -> Plan:
    """Divide `seconds`.

    Args:
        faults: names of `FAULTS`, without repetition.
        fixed_s: seconds that a fault lasts whatever the plan is, e.g. until a heartbeat is missed.

    Raises:
        PlanError: naming the least that would do.
    """
    count = max(1, len(faults))
    fixed = sum(fixed_s.get(name, 0.0) for name in faults)
    baseline_s = max(MIN_BASELINE_S, seconds * _BASELINE_SHARE)
    share_s = (seconds - baseline_s - fixed) / count
    phases = tuple(_phase(name, share_s, fixed_s.get(name, 0.0)) for name in faults)
    if any(phase.recovery_s < MIN_RECOVERY_S for phase in phases) or share_s <= 0:
        least_share = MIN_RECOVERY_S / (1 - _HELD_SHARE)
        least = (least_share * count + fixed) / (1 - _BASELINE_SHARE)
        least = max(least, MIN_BASELINE_S + least_share * count + fixed)
        raise PlanError(f"{seconds:g} s are too short for {', '.join(faults)}: at least {least + 0.5:.0f} s")
    return Plan(baseline_s, phases)


def _phase(name: str, share_s: float, fixed_s: float) -> Phase:
    hold_s = min(MAX_HOLD_S, share_s * _HELD_SHARE) if name in _HELD else 0.0
    return Phase(name, hold_s + fixed_s, share_s - hold_s)
