"""Deadlines and cancellation: how an attempt ends that would not end by itself.

Process      whichever runs the engine; a deadline is moved, and an attempt cancelled, by other threads
             than the one that makes it.
Lifetime     a fill.
"""

from __future__ import annotations

import socket
import threading
import time

from edge_server.errors import FillTimeout, FillUnavailable


class ConnectTimeout(FillTimeout):
    """No address, or no connection, within `fill.connect_timeout`."""


class Deadline:
    """When an answer must be there, in monotonic seconds; may be moved while it is waited for."""

    __slots__ = ("at_s",)

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s

    def left_s(self) -> float:
        """Return the seconds that are left.

        Raises:
            FillTimeout: none is.
        """
        left = self.at_s - time.monotonic()
        if left <= 0:
            raise FillTimeout("the budget is over")
        return left


class Cancellation:
    """A way for another thread to end an attempt; it then fails with FillUnavailable."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self.is_set = False

    def cancel(self) -> None:
        """End what the attempt does with its connection, now and later."""
        with self._lock:
            self.is_set = True
            _shut(self._sock)

    def unwatch(self) -> None:
        """Tell that the attempt uses no socket any more."""
        with self._lock:
            self._sock = None

    def watch(self, sock: socket.socket) -> None:
        """Tell which socket the attempt uses from now on.

        Raises:
            FillUnavailable: the attempt was cancelled.
        """
        with self._lock:
            self._sock = sock
            if self.is_set:
                _shut(sock)
                raise FillUnavailable("another attempt was faster, or nobody waits any more")


def _shut(sock: socket.socket | None) -> None:
    try:
        if sock is not None:
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        pass
