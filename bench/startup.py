"""How long svc-edge takes from exec to its ``ready`` log line.

Each start is a process of its own, not pinned, with files in the page cache; the first
start of each kind is thrown away, since it compiles and warms what the others find.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.duel import Spread
from bench.edge import edge
from bench.world import World


class Start(NamedTuple):
    """Seconds from exec to ready: median, least, greatest."""

    name: str
    ready_s: Spread


class Mounts(NamedTuple):
    """What is mounted for one row, and how it is verified."""

    name: str
    packs: Callable[[World], list[Path]]
    verify: str


MOUNTS = (
    Mounts("one small folder, verify none", lambda world: [world.objects], "none"),
    Mounts("20,000-tile archive, verify none", lambda world: [world.tile_archive], "none"),
    Mounts("10,000 files, verify none", lambda world: [world.small / "a"], "none"),
    Mounts("10,000 files, verify full", lambda world: [world.small / "a"], "full"),
    Mounts("20,000-tile archive, verify full", lambda world: [world.tile_archive], "full"),
    Mounts("1,000,000-tile archive, verify none", lambda world: [world.million_archive], "none"),
    Mounts("1,000,000-tile archive, verify index", lambda world: [world.million_archive], "index"),
)


def measure(world: World, folder: Path, rounds: int, say: Callable[[str], None]) -> list[Start]:
    """Return a row for each of MOUNTS, from `rounds` starts each, and what a million tiles add."""
    starts = []
    for mounts in MOUNTS:
        say(f"start: {mounts.name}")
        packs = mounts.packs(world)
        times = [_ready_s(packs, folder, mounts.verify) for _ in range(rounds + 1)][1:]
        starts.append(Start(mounts.name, Spread(statistics.median(times), min(times), max(times))))
    by_name = {start.name: start.ready_s for start in starts}
    million, small = by_name["1,000,000-tile archive, verify none"], by_name["one small folder, verify none"]
    added = Spread(million.median - small.median, million.low - small.high, million.high - small.low)
    return [*starts, Start("of it mounting 1,000,000 tiles", added)]


def _ready_s(packs: list[Path], folder: Path, verify: str) -> float:
    with edge(packs, folder / "start", verify=verify) as server:
        return server.ready_s
