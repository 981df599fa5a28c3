"""The drain: take no more, finish what runs, leave.

Process      a worker or the sidecar, after SIGTERM. `step` is called at each tick, inside
             bjoern's loop.

Every answer ends its connection from now on, and says so. What differs is the queue of the
listening socket, and how long a silent connection is borne:

When the instance stops, the supervisor lets no new connection reach the socket. What is
queued there is accepted and answered, and a connection that is idle is closed soon.

When a successor has the socket, the queue is its business. A client whose connection is
idle may be about to use it again; closing just then would lose a request, so it gets the
time to ask once more and be told. Nobody waits for this process meanwhile.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable

from edge_server import guard

# Long enough for a client that has just been answered to send its next request, which is
# then answered with "Connection: close" and loses nothing.
IDLE_S = 0.25
_QUIET_TICKS = 2  # the queue must be empty so often before it counts as drained

# linux/tcp.h, struct tcp_info: of a listening socket, tcpi_unacked is the accept queue.
_TCP_INFO_BYTES = 104
_UNACKED = struct.Struct("=24xI")


class Drain:
    """One drain, from the signal to the last connection.

    Args:
        listener: the socket of this process's slot.
        is_stopping: whether the instance stops; it may begin to while a successor has the socket.
        patience_s: how long an idle connection is borne where a successor has the socket.
    """

    def __init__(self, listener: socket.socket, is_stopping: Callable[[], bool], patience_s: float) -> None:
        self._listener = listener
        self._is_stopping = is_stopping
        self._patience_s = max(IDLE_S, patience_s)
        self._quiet_ticks = 0
        self._is_accepting = True
        guard.close_after_answers()
        if not is_stopping():
            self._stop_accepting()

    def step(self) -> bool:
        """Do what can be done now; return whether all connections are gone."""
        if self._is_accepting:
            self._stop_when_quiet()
        guard.close_idle(IDLE_S if self._is_stopping() else self._patience_s)
        return not self._is_accepting and not any(guard.connections().values())

    def _stop_when_quiet(self) -> None:
        self._quiet_ticks = 0 if queued(self._listener) else self._quiet_ticks + 1
        if self._quiet_ticks >= _QUIET_TICKS:
            self._stop_accepting()

    def _stop_accepting(self) -> None:
        guard.stop_accepting()
        self._is_accepting = False


def queued(listener: socket.socket) -> int:
    """Return how many connections wait to be accepted, or whether any do where the kernel tells no number.

    Source: tcp(7), TCP_INFO of a listener.
    """
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    if len(info) < _UNACKED.size:  # some emulators and sandboxes tell less
        return int(_is_readable(listener))
    waiting: int = _UNACKED.unpack_from(info)[0]
    return waiting


def _is_readable(listener: socket.socket) -> bool:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))
