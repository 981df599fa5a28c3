"""Which gates of readiness hold: computed here once, rendered by both planes.

A slot that has just lost its worker is filled again in milliseconds, so a gate falls only
when nobody has served for GRACE_S; that less runs than was configured is told at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_server.shm.scoreboard import Gate
from edge_server.supervisor.slots import Slot

GRACE_S = 1.0


def missing_gates(
    workers: Sequence[Slot],
    sidecar: Slot,
    *,
    is_draining: bool,
    is_stable: bool,
    now_s: float,
    is_disk_usable: bool = True,
) -> Gate:
    """Return the gates that do not hold.

    Configuration and packs hold as soon as there are processes: without them the
    supervisor does not get so far.

    Args:
        is_stable: what shedding.py says of the load.
        is_disk_usable: whether the disk tier of filled objects works, where there is one.
    """
    missing = Gate(0)
    if not all(_is_up(slot, now_s) for slot in workers) or all(_is_lacking(slot) for slot in workers):
        missing |= Gate.WORKERS_UP
    if not _is_up(sidecar, now_s):
        missing |= Gate.SIDECAR_UP
    if not is_stable:
        missing |= Gate.SHEDDER_STABLE
    if not is_disk_usable:
        missing |= Gate.CAS_REACHABLE
    if is_draining:
        missing |= Gate.NOT_DRAINING
    return missing


def is_degraded(workers: Sequence[Slot], sidecar: Slot) -> bool:
    """Whether any place has nobody who serves."""
    return any(_is_lacking(slot) for slot in (*workers, sidecar))


def gate_names(gates: Gate) -> list[str]:
    """Return the names that operators know, in the order of the HTTP contract."""
    return [str(gate.name).lower() for gate in Gate if gate & gates]


def _is_lacking(slot: Slot) -> bool:
    return slot.lacking_since_s is not None


def _is_up(slot: Slot, now_s: float) -> bool:
    return slot.lacking_since_s is None or now_s - slot.lacking_since_s <= GRACE_S
