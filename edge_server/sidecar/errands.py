"""Errands, run: bytes are read ahead and entries are hashed, so that no worker waits for a disk.

Process      the sidecar: a thread reads the channels, READERS others wait for each disk, so that one which
             hangs holds up nobody who wants the bytes of another. While a sidecar is replaced both run
             errands; whoever reads one first has it.
Writes       ERRANDS_NS in the sidecar's own row; digests.
Memory       PIECE_BYTES a reader, and a descriptor for each ReadAhead that waits for one.
Consistency  what is read here is thrown away; it is in the page cache then, where workers find it. Every
             errand with a ticket is answered, unless the process ends: then its workers see that it is gone.
Lifetime     the sidecar's.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import traceback
from collections.abc import Mapping
from functools import partial
from time import monotonic_ns

from edge_server.errands import ERRAND_BYTES, NOBODY, ErrandDone, HashEntry, ReadAhead, unpack
from edge_server.errors import FillUnavailable, MessageInvalid
from edge_server.fill.threads import Threads
from edge_server.observe.logs import log
from edge_server.shm.scoreboard import Field, Row
from edge_server.sidecar.hashing import Hashing
from edge_server.sidecar.outbox import Outbox

READERS = 8  # reads under way of one disk, which sorts them
DISKS = 16  # with readers of their own; all others share some
WAITING_MAX = 512  # reads of one disk that wait for a reader; beyond that workers read themselves
PIECE_BYTES = 256 << 10
_OTHERS = -1
_PERIOD_S = 0.05  # of the thread, while nothing comes
_ERRANDS_A_TURN = 64  # of one channel, before the others have theirs


class Errands:
    """Runs the errands of all workers.

    Args:
        row: the sidecar's own.
        channels: the far ends, by the worker's identity.
        hashing: of the catalog that this sidecar knows.
        generation: of that catalog.
    """

    def __init__(
        self, row: Row, channels: Mapping[str, socket.socket], hashing: Hashing, generation: int
    ) -> None:
        self._row = row
        self._channels = channels
        self._hashing = hashing
        self._generation = generation
        self._outbox = Outbox(channels)
        self._readers: dict[int, Threads] = {}  # by device
        self._pieces = threading.local()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="errands", daemon=True)

    def start(self) -> None:
        """Begin in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more; what is under way is still answered, if there is time."""
        self._is_stopping = True
        self._row.set(Field.ERRANDS_NS, 0)

    def _run(self) -> None:
        by_descriptor = {channel.fileno(): identity for identity, channel in self._channels.items()}
        self._row.set(Field.ERRANDS_NS, monotonic_ns())
        try:
            with select.epoll() as poll:
                for descriptor in by_descriptor:
                    poll.register(descriptor, select.EPOLLIN)
                while not self._is_stopping:
                    for descriptor, _ in poll.poll(_PERIOD_S):
                        self._read(by_descriptor[descriptor])
                    self._outbox.flush()
        except Exception as error:  # workers read themselves from now on
            log("defect", "error", detail=repr(error), traceback=traceback.format_exc())
        finally:
            self._row.set(Field.ERRANDS_NS, 0)

    def _read(self, identity: str) -> None:
        channel = self._channels[identity]
        for _ in range(_ERRANDS_A_TURN):
            try:
                packet, descriptors, _, _ = socket.recv_fds(
                    channel, ERRAND_BYTES, 1, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            try:
                errand = unpack(packet)
            except MessageInvalid as error:
                log("defect", "error", detail=str(error))
                _close(descriptors)
                continue
            if isinstance(errand, HashEntry):
                _close(descriptors)
                self._hash(identity, errand)
            elif not (
                isinstance(errand, ReadAhead) and descriptors and self._post(identity, errand, descriptors[0])
            ):
                _close(descriptors)
                self._answer(identity, errand.ticket, False)

    def _post(self, identity: str, errand: ReadAhead, descriptor: int) -> bool:
        """Have something read ahead; return False if too much of that disk waits."""
        device = errand.device if errand.device in self._readers or len(self._readers) < DISKS else _OTHERS
        readers = self._readers.get(device)
        if readers is None:
            readers = self._readers[device] = Threads("reading-ahead", READERS, WAITING_MAX)
        try:
            readers.post(partial(self._read_ahead, identity, errand, descriptor))
        except FillUnavailable:
            return False
        return True

    def _hash(self, identity: str, errand: HashEntry) -> None:
        if errand.generation != self._generation:
            self._answer(identity, errand.ticket, False)
        else:
            self._hashing.want(errand.entry, partial(self._answer, identity, errand.ticket))

    def _read_ahead(self, identity: str, errand: ReadAhead, descriptor: int) -> None:
        """Read what is waited for, say so, and have the disk begin with what follows."""
        is_read = False
        try:
            stop = errand.offset + errand.length
            os.posix_fadvise(descriptor, errand.offset, errand.length, os.POSIX_FADV_WILLNEED)
            self._touch(descriptor, errand.offset, stop)
            is_read = True
            self._answer(identity, errand.ticket, True)
            if errand.more:
                os.posix_fadvise(descriptor, stop, errand.more, os.POSIX_FADV_WILLNEED)
        except OSError:  # the worker reads it itself, and finds out
            if not is_read:
                self._answer(identity, errand.ticket, False)
        finally:
            os.close(descriptor)

    def _touch(self, descriptor: int, start: int, stop: int) -> None:
        piece: memoryview | None = getattr(self._pieces, "piece", None)
        if piece is None:
            piece = self._pieces.piece = memoryview(bytearray(PIECE_BYTES))
        while start < stop:
            got = os.preadv(descriptor, [piece[: min(PIECE_BYTES, stop - start)]], start)
            if got == 0:  # the file is shorter than it was
                return
            start += got

    def _answer(self, identity: str, ticket: int, is_done: bool) -> None:
        if ticket != NOBODY:
            self._outbox.send(identity, ErrandDone(ticket, is_done).pack())


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
