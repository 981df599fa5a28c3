"""Channels: a pair of sockets for each identity of a worker, between it and the sidecar.

Process      made by the supervisor before the first fork: those of errands, in live mode also those of
             fills. It keeps both ends for life, so a packet outlives the process that sent it and the one
             that is to read it.
Consistency  a pair for each identity, not for each slot: a worker that drains and its successor never
             read each other's packets.
Lifetime     the supervisor's.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

from edge_server.errors import ResourceError
from edge_server.shm.scoreboard import LETTERS, SIDECAR_SLOT, identity_of

_BUFFER_BYTES = 1 << 20  # wanted; the kernel gives up to net.core.wmem_max


class Channels:
    """All pairs of one supervisor.

    Args:
        slots: how many worker slots there are.

    Raises:
        ResourceError: there are not enough descriptors.
    """

    def __init__(self, slots: int) -> None:
        self._near: dict[str, socket.socket] = {}
        self._far: dict[str, socket.socket] = {}
        try:
            for slot in range(slots):
                for letter in LETTERS:
                    self._open(identity_of(slot, letter))
        except OSError as error:
            self.close()
            raise ResourceError(f"cannot make channels to the sidecar: {error.strerror}") from error

    def worker_end(self, identity: str) -> socket.socket:
        """Return the end of one worker."""
        return self._near[identity]

    def ends_of(self, slot: int, letter: str) -> dict[str, socket.socket]:
        """Return what a process of a slot is told: a worker its own end, the sidecar all the others."""
        if slot == SIDECAR_SLOT:
            return self.sidecar_ends()
        identity = identity_of(slot, letter)
        return {identity: self.worker_end(identity)}

    def sidecar_ends(self) -> dict[str, socket.socket]:
        """Return the other ends, by the identity of the worker."""
        return dict(self._far)

    def close(self) -> None:
        """Close every end in this process."""
        for end in self._ends():
            end.close()

    def leave(self, slot: int | None, letter: str) -> None:
        """Right after a fork, in the child: close what is not its own.

        Args:
            slot: of the child; None for one that serves nobody.
        """
        kept = set() if slot is None else set(self.ends_of(slot, letter).values())
        for end in self._ends():
            if end not in kept:
                end.close()

    def _ends(self) -> Iterator[socket.socket]:
        yield from self._near.values()
        yield from self._far.values()

    def _open(self, identity: str) -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._near[identity], self._far[identity] = near, far
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
