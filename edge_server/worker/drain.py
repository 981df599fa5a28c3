"""The drain: take no more, finish what runs, exit.

Process      a worker, after SIGTERM. `step` is called at each tick, inside bjoern's loop.

By then the supervisor lets no new connection reach the socket. What is queued there is
accepted and answered; every answer asks the client to close; a connection that is idle
is hung up, and when none is left the process ends. While a slow request runs, as on a busy
disk, its connection looks idle too, so what counts is idleness at two turns of the loop.
"""

from __future__ import annotations

import socket

from edge_server.worker import server
from edge_server.worker.hitpath import HitPath

# Long enough for a client that has just been answered to send its next request, which is
# then answered with "Connection: close" and loses nothing.
IDLE_MS = 250
_QUIET_TICKS = 2  # the queue must be empty so often before it counts as drained


class Drain:
    """One drain, from the signal to the last connection.

    Args:
        listener: the socket of this worker's slot.
        state: the hit path's, which is told to ask clients to close.
    """

    def __init__(self, listener: socket.socket, state: HitPath) -> None:
        self._listener = listener
        self._state = state
        self._quiet_ticks = 0
        self._is_accepting = True
        self._idle_before: set[int] = set()
        state.is_closing = True

    def step(self, is_in_loop: bool) -> bool:
        """Do what can be done now; return whether all connections are gone.

        Args:
            is_in_loop: whether bjoern's loop has just turned; see `server.is_in_loop`.
        """
        if self._is_accepting:
            self._stop_when_quiet()
        if not is_in_loop:
            return False
        open_now = server.connections(self._listener, IDLE_MS)
        self._hang_up([connection for connection in open_now if connection.is_idle])
        return not open_now and not self._is_accepting

    def _hang_up(self, idle: list[server.Connection]) -> None:
        """Hang up on what was idle the last time, too: bjoern has written since whatever it owed."""
        for connection in idle:
            if connection.descriptor in self._idle_before:
                server.hang_up(connection)
        self._idle_before = {connection.descriptor for connection in idle}

    def _stop_when_quiet(self) -> None:
        self._quiet_ticks = 0 if server.queued(self._listener) else self._quiet_ticks + 1
        if self._quiet_ticks >= _QUIET_TICKS:
            server.stop_accepting(self._listener)
            self._is_accepting = False
