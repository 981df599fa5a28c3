"""Forking: a process for a slot, or a helper of the supervisor's own, and what it leaves behind.

A child keeps its own slot's socket, the catalog of its generation and its own channels, the sidecar the other
ends of all. It closes every other socket and catalog, and the supervisor's pipes,
before its role begins.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from socket import socket

import setproctitle

from edge_server.observe import logs
from edge_server.roles import Brief, Roles
from edge_server.shm.reports import Reports
from edge_server.shm.scoreboard import SIDECAR_SLOT, Scoreboard
from edge_server.supervisor.channels import Channels
from edge_server.supervisor.fills import Fills
from edge_server.supervisor.generations import Generation, Generations
from edge_server.supervisor.listen import Listeners
from edge_server.supervisor.signals import SignalQueue
from edge_server.supervisor.slots import Process, Slot
from edge_server.supervisor.spawn import become, fork


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What every process of an instance is handed, whatever its generation.

    Attributes:
        errands: channels between workers and sidecar.
        fills: None in offline mode.
    """

    roles: Roles
    listeners: Listeners
    board: Scoreboard
    metrics_dir: str
    errands: Channels
    reports: Reports
    fills: Fills | None = None


class Forking:
    """Forks the children of one supervisor.

    Attributes:
        private: returns the descriptors that are the supervisor's alone.
    """

    def __init__(self, given: Inheritance, generations: Generations, signals: SignalQueue) -> None:
        self._given = given
        self._generations = generations
        self._signals = signals
        self.private: Callable[[], Iterable[int]] = tuple

    def process(self, slot: Slot, letter: str) -> Process:
        """Fork the next process of a slot.

        Raises:
            OSError: the system has no room for another process.
        """
        brief = self._brief(slot, letter)
        role = self._given.roles.sidecar if slot.number == SIDECAR_SLOT else self._given.roles.worker

        def live() -> int:
            self._leave(brief.listener, slot.generation)
            self._leave_channels(slot.number, letter)
            become(brief)
            return role(brief)

        pid = fork(live, self._signals)
        return Process(slot.number, letter, brief.row, pid, time.monotonic(), slot.generation)

    def helper(self, name: str, generation: Generation, body: Callable[[], int]) -> int:
        """Fork a child that serves nobody and has no slot; return its pid.

        Args:
            generation: says how it logs.

        Raises:
            OSError: as `process`.
        """

        def live() -> int:
            self._leave(None, None)
            self._leave_channels(None, "")
            config = generation.config
            logs.begin(config)
            setproctitle.setproctitle(f"svc-edge: {name}")
            return body()

        return fork(live, self._signals)

    def _brief(self, slot: Slot, letter: str) -> Brief:
        given = self._given
        generation = self._generations[slot.generation]
        index = given.board.row_index(slot.number, letter)
        is_sidecar = slot.number == SIDECAR_SLOT
        return Brief(
            slot=slot.number,
            identity=given.board.row(index).identity,
            row=index,
            cpu=None if is_sidecar else generation.cpus[slot.number],
            listener=given.listeners.admin if is_sidecar else given.listeners.assets[slot.number],
            addresses=given.listeners.addresses,
            metrics_dir=given.metrics_dir,
            config=generation.config,
            catalog=generation.catalog,
            ledger=generation.ledger,
            scoreboard=given.board,
            reports=given.reports,
            fills=None if given.fills is None else given.fills.brief(slot.number, letter),
            errands=given.errands.ends_of(slot.number, letter),
        )

    def _leave_channels(self, slot: int | None, letter: str) -> None:
        self._given.errands.leave(slot, letter)
        self._given.reports.leave(
            is_worker=slot is not None and slot != SIDECAR_SLOT, is_sidecar=slot == SIDECAR_SLOT
        )
        if self._given.fills is not None:
            self._given.fills.channels.leave(slot, letter)

    def _leave(self, own: socket | None, generation: int | None) -> None:
        for listener in self._given.listeners.all():
            if listener is not own:
                listener.close()
        for descriptor in self.private():
            os.close(descriptor)
        self._generations.close_others(generation)
