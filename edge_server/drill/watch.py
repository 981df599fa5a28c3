"""Readiness as an orchestrator sees it: both planes asked a few times a second, all through the drill."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from edge_server.drill.instance import Instance

PERIOD_S = 0.1


class Look(NamedTuple):
    """What one round of asking told.

    Attributes:
        asked_s, answered_s: monotonic seconds.
    """

    asked_s: float
    answered_s: float
    admin: bool
    assets: bool


class Watch:
    """Asks until it is cancelled.

    Attributes:
        looks: what was told, in order.
        late_s: how late the drill's own loop ran its rounds, the longest: what this machine, or
            the drill, adds to every figure.
    """

    def __init__(self, instance: Instance) -> None:
        self.looks: list[Look] = []
        self.late_s = 0.0
        self._instance = instance

    async def run(self) -> None:
        """Ask both planes at once, then wait for the next round."""
        while True:
            asked_s = time.monotonic()
            admin, assets = await asyncio.gather(
                self._instance.is_ready(self._instance.admin), self._instance.is_ready(self._instance.assets)
            )
            self.looks.append(Look(asked_s, time.monotonic(), admin, assets))
            slept_s = time.monotonic()
            await asyncio.sleep(PERIOD_S)
            self.late_s = max(self.late_s, time.monotonic() - slept_s - PERIOD_S)


def is_ready_between(looks: list[Look], start_s: float, stop_s: float) -> bool:
    """Whether there were looks that began in a span, and all of them found both planes ready."""
    within = [look for look in looks if start_s <= look.asked_s < stop_s]
    return bool(within) and all(look.admin and look.assets for look in within)


def steady_after(looks: list[Look], cleared_s: float, stop_s: float) -> float | None:
    """Return how long after `cleared_s` readiness on both planes began to hold until `stop_s`.

    Looks count by when they were answered. None where the last one failed, or there was none.
    """
    since_s: float | None = None
    for look in looks:
        if not cleared_s <= look.answered_s < stop_s:
            continue
        if not (look.admin and look.assets):
            since_s = None
        elif since_s is None:
            since_s = look.asked_s
    return None if since_s is None else max(0.0, since_s - cleared_s)
