"""Killing the processes of an instance, one after the other, and looking at what that leaves."""

from __future__ import annotations

import os
import signal
import time

import psutil

from tests.scrapes import Samples, counts, grown, sample
from tests.servers import SHM, Server, age_s, eventually

SETTLED_S = 1.2  # a process that dies younger is not replaced at once
METRICS_FILES_A_PROCESS = 2


class Casualties:
    """Kills of one instance's workers and sidecar.

    Attributes:
        kills: how many there were.
        slowest_s: the longest that a place was without a process that serves.
        went_back: totals that a scrape showed smaller than one before it.
    """

    def __init__(self, server: Server) -> None:
        self.kills = 0
        self.slowest_s = 0.0
        self.went_back: list[object] = []
        self._server = server
        self._last = counts(server)

    def kill_for(self, seconds: float) -> None:
        """Kill whoever has settled, for so long."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self.kill_all()

    def kill_all(self) -> None:
        """Kill every worker and the sidecar, once all have settled, and wait for their successors."""
        victims = self._pids()
        for pid in victims:
            eventually(lambda pid=pid: age_s(pid) > SETTLED_S)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        killed_s = time.monotonic()
        eventually(lambda: self._has_recovered(victims), within=15)
        self.slowest_s = max(self.slowest_s, time.monotonic() - killed_s)
        self.kills += len(victims)
        self._compare()

    def restarts(self) -> dict[str, float]:
        """Return service_restarts_total by component."""
        now = counts(self._server)
        return {name: now[sample("service_restarts_total", component=name)] for name in ("worker", "sidecar")}

    def _pids(self) -> set[int]:
        return {*self._server.workers().values(), self._server.sidecar()}

    def _has_recovered(self, victims: set[int]) -> bool:
        try:
            pids = self._pids()
        except (OSError, AssertionError):
            return False
        return len(pids) == len(victims) and pids.isdisjoint(victims)

    def _compare(self) -> None:
        now: Samples = counts(self._server)
        self.went_back += [key for key, by in grown(self._last, now).items() if by < 0]
        self._last = now


class Leftovers:
    """What an instance holds: descriptors and memory of its supervisor, names, files, children."""

    def __init__(self, server: Server) -> None:
        supervisor = psutil.Process(server.pid)
        self.descriptors = supervisor.num_fds()
        self.rss_bytes = supervisor.memory_info().rss
        self.children = len(supervisor.children())
        self.names = server.shared_names()
        (folder,) = [name for name in self.names if name.endswith("-metrics")]
        self.files = len(os.listdir(SHM / folder))

    def check(self, after: Leftovers) -> None:
        """See that nothing has piled up since."""
        assert after.descriptors == self.descriptors
        assert after.children == self.children
        assert after.names == self.names
        # The supervisor's own, and for both letters of each place.
        assert after.files <= METRICS_FILES_A_PROCESS * (1 + 2 * self.children)
        assert after.rss_bytes < self.rss_bytes + (4 << 20)
