"""Pressure: what a worker tells of its load at each tick, for readiness and metrics.

Process      a worker.
Writes       this worker's scoreboard row, and in the ledger how many dropped connections of its
             slot's socket are counted already; a successor goes on from there.

The depth of the accept queue is told, and is no measure of waiting: all that is queued is accepted
in one turn of the loop (guard/accepting.c), so what it waits shows in how late turns are.
"""

from __future__ import annotations

import socket
import struct

from edge_server import guard
from edge_server.guard.drain import queued
from edge_server.observe.metrics import ACCEPT, metrics
from edge_server.shm.admission import Field as Counted
from edge_server.shm.admission import Ledger
from edge_server.shm.scoreboard import Field, Row
from edge_server.worker.refusals import Refusals

# linux/sock_diag.h and asm-generic/socket.h: nine u32, of which the last counts what the socket dropped.
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("=9I")
_DROPS = 8


class Pressure:
    """Samples the accept queue and the waiting, and publishes them.

    Args:
        row: this worker's.
        ledger, index: of this instance, and the index of this worker's row there.
        listener: the socket of this worker's slot.
        refusals: of this worker.
    """

    def __init__(
        self, row: Row, ledger: Ledger, index: int, listener: socket.socket, refusals: Refusals
    ) -> None:
        self._row = row
        self._listener = listener
        self._refusals = refusals
        self._counted = ledger.row(index)
        self._counted_by_slot = (self._counted, ledger.row(index ^ 1))  # of both letters

    def publish(self) -> None:
        """Store what there is to tell of now."""
        words = self._row.words
        words[Field.QUEUED] = queued(self._listener)
        words[Field.WAITED_NS] = int(guard.least_wait() * 1e9)
        words[Field.SHED] = self._refusals.busy
        self._count_drops()

    def _count_drops(self) -> None:
        before = max(row[Counted.DROPPED] for row in self._counted_by_slot)
        grown = dropped(self._listener) - before
        if grown > 0:
            metrics().edge_queue_dropped_total.labels(ACCEPT).inc(grown)
            self._counted[Counted.DROPPED] = before + grown


def dropped(listener: socket.socket) -> int:
    """Return how many connections the kernel has dropped at a listening socket, for want of room.

    Counts from the socket's beginning; 0 where the kernel does not tell. SYNs that a socket
    filter turns away are among them. Source: tcp_conn_request and SO_MEMINFO of Linux.
    """
    try:
        told = listener.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        drops: int = _MEMINFO.unpack(told)[_DROPS]
    except (OSError, struct.error):
        return 0
    return drops
