"""The gate `shedder_stable`: it falls before an instance is saturated, and comes back when it is quiet.

Knows no process and no clock: what the workers tell is read from their rows by `Load.of`,
time is an argument, monotonic seconds. One tick under pressure is a spike and means nothing;
the gate falls when pressure lasts, and holds again only after a quiet interval, so that an
instance at its limit is not put into rotation and out of it at every breath.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from edge_server.shm.admission import PATIENCE_S
from edge_server.shm.scoreboard import SIDECAR_SLOT, Field, Row, WorkerState

PRESSED_SHARE = 0.9  # of max_inflight in hand, from which on there is pressure
QUIET_SHARE = 0.7  # below which there is none
PRESSED_WAIT_S = PATIENCE_S / 2  # of one worker
QUIET_WAIT_S = PATIENCE_S / 4
FALLS_AFTER_S = 0.25  # of lasting pressure: at least two ticks of a worker tell of it
HOLDS_AFTER_S = 2.0  # of quiet

_LIVE = (WorkerState.SERVING, WorkerState.DRAINING)


class Load(NamedTuple):
    """What the workers together tell.

    Attributes:
        inflight: requests being answered or parked, of all workers.
        waited_s: how long requests wait in the worker where they wait longest.
        shed: requests refused as busy by each process that lives, by its pid.
    """

    inflight: int
    waited_s: float
    shed: dict[int, int]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Load:
        """Read the rows of a scoreboard; those of the sidecar and of nobody are left out."""
        live = [row for row in rows if row.slot != SIDECAR_SLOT and row.state in _LIVE]
        return cls(
            inflight=sum(row.get(Field.INFLIGHT) + row.get(Field.PARKED) for row in live),
            waited_s=max((row.get(Field.WAITED_NS) for row in live), default=0) / 1e9,
            shed={row.pid: row.get(Field.SHED) for row in live},
        )


class Shedding:
    """Whether the shedder is stable, with hysteresis.

    Attributes:
        max_inflight: of the instance; follows the configuration.
    """

    def __init__(self, max_inflight: int = 1) -> None:
        self.max_inflight = max_inflight
        self._shed: dict[int, int] = {}
        self._pressed_since_s: float | None = None
        self._quiet_since_s: float | None = None
        self.is_stable = True

    def observe(self, load: Load, now_s: float) -> bool:
        """Take note of the load now; return whether the gate holds."""
        has_shed = any(count > self._shed.get(pid, 0) for pid, count in load.shed.items())
        self._shed = load.shed
        self._pressed_since_s = _since(self._pressed_since_s, has_shed or self._is_pressed(load), now_s)
        self._quiet_since_s = _since(self._quiet_since_s, not has_shed and self._is_quiet(load), now_s)
        if self.is_stable and _lasts(self._pressed_since_s, FALLS_AFTER_S, now_s):
            self.is_stable = False
        elif not self.is_stable and _lasts(self._quiet_since_s, HOLDS_AFTER_S, now_s):
            self.is_stable = True
        return self.is_stable

    def _is_pressed(self, load: Load) -> bool:
        return load.inflight >= PRESSED_SHARE * self.max_inflight or load.waited_s >= PRESSED_WAIT_S

    def _is_quiet(self, load: Load) -> bool:
        return load.inflight < QUIET_SHARE * self.max_inflight and load.waited_s < QUIET_WAIT_S


def _since(since_s: float | None, holds: bool, now_s: float) -> float | None:
    """Return since when something holds, given since when it did before; None while it does not."""
    if not holds:
        return None
    return now_s if since_s is None else since_s


def _lasts(since_s: float | None, least_s: float, now_s: float) -> bool:
    return since_s is not None and now_s - since_s >= least_s
