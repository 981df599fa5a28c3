"""Starvation: a process that wants to run and is not let is not stuck, and killing it helps nobody.

A pinned process shares its CPU with whatever else the machine runs there, and a crowded or
unfair scheduler may leave it runnable for seconds. It could not even die meanwhile. What
helps is to give up its pinning, so that it moves to a CPU that has time.

Source: proc(5), field 3 of /proc/PID/stat; sched-stats.txt for /proc/PID/schedstat, whose
first number is the time on the CPU in nanoseconds.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from edge_server.observe.logs import log
from edge_server.supervisor import pinning
from edge_server.supervisor.slots import Process

QUIET_S = 0.5  # a process that has not beaten for so long is suspicious
WAITED_S = 0.5  # and starves if it was suspicious for so long ...
RAN_NS = 5_000_000  # ... and has run for less


class Starvation:
    """Knows which of the processes that are suspiciously silent are only not let run."""

    def __init__(self) -> None:
        self._ran_ns: dict[int, tuple[float, int]] = {}  # by pid, when it became suspicious
        self._freed: set[int] = set()

    def look(self, suspicious: Collection[Process], now_s: float) -> None:
        """Take note of who is suspicious now, and free those that starve of their pinning."""
        pids = {process.pid for process in suspicious}
        self._ran_ns = {pid: before for pid, before in self._ran_ns.items() if pid in pids}
        self._freed &= pids
        for process in suspicious:
            if process.pid not in self._ran_ns:
                self._ran_ns[process.pid] = (now_s, ran_ns(process.pid))
            elif self.holds(process, now_s):
                self._free(process)

    def holds(self, process: Process, now_s: float) -> bool:
        """Whether a process wants to run and was not let since it became suspicious."""
        since_s, before_ns = self._ran_ns.get(process.pid, (now_s, 0))
        if now_s - since_s < WAITED_S or not is_runnable(process.pid):
            return False
        return ran_ns(process.pid) - before_ns < RAN_NS

    def _free(self, process: Process) -> None:
        if process.pid in self._freed:
            return
        self._freed.add(process.pid)
        reason = "it wants to run and gets no CPU time: it is no longer pinned"
        if not unpin(process.pid, pinning.usable_cpus().numbers):
            reason = "it wants to run and gets no CPU time"
        log("worker_starved", "warning", slot=process.slot, pid=process.pid, reason=reason)


def is_runnable(pid: int) -> bool:
    """Whether a process waits for nothing but a CPU, or is on one."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rindex(b")") + 2 :].startswith(b"R")


def ran_ns(pid: int) -> int:
    """Return for how long a process has been on a CPU; 0 where the kernel does not tell."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_bytes().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def unpin(pid: int, cpus: Iterable[int]) -> bool:
    """Let a process run on any of `cpus`; return whether that was allowed."""
    try:
        os.sched_setaffinity(pid, cpus)
    except OSError:
        return False
    return True
