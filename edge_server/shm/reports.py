"""Reports: what workers hand to the sidecar, rejects and spans; and the head of the audit chain.

Process      the supervisor makes it before the first fork; workers send, the sidecar reads. The head is
             written by the sidecar that holds the lock, which the kernel frees when it dies.
Memory       what the kernel buffers of a pair of sockets; one page.
Consistency  a packet comes whole or not at all, and sending never waits. The head is written beside the one
             that stands, then one aligned 8-byte word says which of the two it is.
Lifetime     the supervisor's, over every reload and every sidecar.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct

PACKET_BYTES = 16 << 10
NO_HASH = bytes(32)

_PAGE = 4096
_HEAD = struct.Struct("<Q32s")  # sequence number, BLAKE3 of the record
_PLACES = (64, 128)
_WHICH = 0  # word 0


class Reports:
    """See above.

    Attributes:
        sending: a worker's end; never waits.
        receiving: the sidecar's end; never waits.
    """

    def __init__(self) -> None:
        self.receiving, self.sending = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.receiving.setblocking(False)
        self.sending.setblocking(False)
        self._descriptor = os.memfd_create("svc-edge-audit")
        os.ftruncate(self._descriptor, _PAGE)
        self._page = mmap.mmap(self._descriptor, _PAGE)
        self._words = memoryview(self._page).cast("Q")

    def leave(self, *, is_worker: bool, is_sidecar: bool) -> None:
        """Close, in a child, the ends that are not its own."""
        if not is_worker:
            self.sending.close()
        if not is_sidecar:
            self.receiving.close()

    def lock(self) -> bool:
        """Become the one that reads and writes; return False while another process is.

        Source: fcntl(2), record locks: they belong to a process, and end with it.
        """
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def unlock(self) -> None:
        """Let a successor be the one."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    @property
    def head(self) -> tuple[int, bytes]:
        """Number and hash of the last record that was written out; zeros before the first."""
        number, digest = _HEAD.unpack_from(self._page, _PLACES[self._words[_WHICH]])
        return int(number), bytes(digest)

    @head.setter
    def head(self, head: tuple[int, bytes]) -> None:
        other = 1 - self._words[_WHICH]
        _HEAD.pack_into(self._page, _PLACES[other], *head)
        self._words[_WHICH] = other
