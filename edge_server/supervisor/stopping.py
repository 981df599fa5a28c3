"""Stopping: every connection that was begun is served, then everybody goes.

In order: no new connection begins on the asset plane; those that have begun get the time to
arrive in the queues; each worker is told to drain, accepts what its queue holds, finishes
and exits 0; when all are gone the sidecar, which answered "not ready" meanwhile. Whoever
is still there at its deadline is killed. The sockets are closed last, by the supervisor:
nothing is left in their queues by then.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence

from edge_server.observe.logs import log
from edge_server.supervisor.listen import Listeners
from edge_server.supervisor.slots import Event, Process, Slot, Stage
from edge_server.supervisor.syn_filter import refuse_new

HANDSHAKE_S = 0.1  # for connections whose SYN came before the filter: a round trip of most networks
START_S = 1.0  # a process that has not served after so long is told although it does not
GRACE_S = 1.0  # beyond the drain timeout that the workers keep themselves; the sidecar's whole time


class Stopping:
    """One shutdown, from the signal to the last process."""

    def __init__(self, workers: Sequence[Slot], sidecar: Slot, drain_timeout_s: float, now_s: float) -> None:
        self._workers = workers
        self._sidecar = sidecar
        self._tell_at_s = now_s + HANDSHAKE_S
        self._deadline_s = self._tell_at_s + drain_timeout_s + GRACE_S
        self._sidecar_deadline_s: float | None = None
        self._is_clean = True
        self._killed: set[int] = set()

    @property
    def exit_code(self) -> int:
        """0 if every worker that had served drained by itself in time, else 1."""
        return 0 if self._is_clean else 1

    @property
    def is_over(self) -> bool:
        """Whether everybody has gone."""
        return not any(_processes(self._workers)) and not any(self._sidecar.processes())

    def advance(self, now_s: float) -> None:
        """Do what is due: tell, kill, or turn to the sidecar."""
        workers = list(_processes(self._workers))
        for process in workers:
            if now_s >= self._tell_at_s and _can_be_told(process, now_s):
                tell(process)
        if now_s > self._deadline_s:
            self._kill(workers, "drain timeout")
        if not workers:
            self._stop_sidecar(now_s)

    def saw_exit(self, process: Process, code: int) -> None:
        """Take note of how a process ended; `code` as of os.waitstatus_to_exitcode."""
        if process.has_served and process.slot != self._sidecar.number and code != 0:
            self._is_clean = False

    def _stop_sidecar(self, now_s: float) -> None:
        if self._sidecar_deadline_s is None:
            self._sidecar_deadline_s = now_s + GRACE_S
        for process in self._sidecar.processes():
            tell(process)
        if now_s > self._sidecar_deadline_s:
            self._kill(self._sidecar.processes(), "sidecar did not end")

    def _kill(self, processes: Iterable[Process], reason: str) -> None:
        for process in processes:
            if process.pid not in self._killed:
                self._killed.add(process.pid)
                log("drain", "error", pid=process.pid, slot=process.slot, reason=f"{reason}: killed")
                os.kill(process.pid, signal.SIGKILL)


def close_entrance(listeners: Listeners) -> None:
    """Let no new connection begin on the asset plane; the admin plane stays open for probes."""
    for listener in listeners.assets:
        try:
            refuse_new(listener)
        except OSError as error:
            log("drain", "warning", reason=f"connections may still arrive: {error}")
            return


def tell(process: Process) -> None:
    """Tell a process to drain and exit, once."""
    if process.on(Event.STOP):
        os.kill(process.pid, signal.SIGTERM)


def _can_be_told(process: Process, now_s: float) -> bool:
    """Whether SIGTERM finds the process ready to drain: before it serves it would just end.

    What waits in the queue of its slot would be lost then; so it gets the time to start.
    """
    return process.stage is not Stage.STARTING or now_s - process.born_s > START_S


def _processes(slots: Iterable[Slot]) -> Iterable[Process]:
    return (process for slot in slots for process in slot.processes())
