"""The drain: take no more, finish what runs, exit.

Process      a worker, after SIGTERM. `step` is called at each tick, inside bjoern's loop.

By then the supervisor lets no new connection reach the socket. What is queued there is
accepted and answered; every answer ends its connection and says so; a connection that is
idle is closed. When none is left the process ends.
"""

from __future__ import annotations

import socket
import struct

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
        listener: the socket of this worker's slot.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._quiet_ticks = 0
        self._is_accepting = True
        guard.close_after_answers()

    def step(self) -> bool:
        """Do what can be done now; return whether all connections are gone."""
        if self._is_accepting:
            self._stop_when_quiet()
        guard.close_idle(IDLE_S)
        return not self._is_accepting and not any(guard.connections().values())

    def _stop_when_quiet(self) -> None:
        self._quiet_ticks = 0 if queued(self._listener) else self._quiet_ticks + 1
        if self._quiet_ticks >= _QUIET_TICKS:
            guard.stop_accepting()
            self._is_accepting = False


def queued(listener: socket.socket) -> int:
    """Return how many connections wait to be accepted. Source: tcp(7), TCP_INFO of a listener."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    waiting: int = _UNACKED.unpack_from(info)[0]
    return waiting
