"""A thousand kills: every worker and the sidecar of an instance, over and over. Takes some minutes.

    python -m pytest tests/perf/soak_kills.py -s

Prints how many there were, how long the slowest place stayed empty, and what the supervisor holds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.kills import Casualties, Leftovers
from tests.servers import Server, serve, xprocess
from tests.worlds import make_world

__all__ = ["serve", "xprocess"]

KILLS = int(os.environ.get("KILLS", "1000"))
SLOTS = 12


def test_a_thousand_kills_leave_nothing(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve("--workers", SLOTS, *make_world(tmp_path).packs)
    casualties, began_s = Casualties(server), time.monotonic()
    casualties.kill_all()
    before = Leftovers(server)
    while casualties.kills < KILLS:
        casualties.kill_all()
    after = Leftovers(server)
    print(
        f"{casualties.kills} kills in {time.monotonic() - began_s:.0f} s, slowest replacement"
        f" {casualties.slowest_s:.3f} s, {after.descriptors} descriptors, {after.files} metrics files,"
        f" {(after.rss_bytes - before.rss_bytes) >> 10} KiB more"
    )
    before.check(after)
    assert casualties.went_back == []
    assert sum(casualties.restarts().values()) == casualties.kills
