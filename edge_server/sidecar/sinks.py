"""Sinks: where the engine writes what it fetches, a body of the store each.

Process      the sidecar; a sink belongs to one task of the engine at a time.
Consistency  bodies in memory are written by the loop itself. Those on a disk are written by a few threads, as
             that may take long, or hang: the task waits, for DISK_S at most, and the others go on. Then the
             disk counts as unusable, and nobody waits for it until it has been opened again. Their records
             go to a log that nobody waits for (cas/disk_records.py).
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from edge_server.cas.store import Store
from edge_server.cas.writer import Writer
from edge_server.errors import FillUnavailable, NoRoom, StoreUnavailable
from edge_server.fill.threads import Threads
from edge_server.shm.fill_index import MEMORY

T = TypeVar("T")

DISK_S = 10.0  # of one step with a disk
_DISK_THREADS = 4
_WAITING = 64


class StoreSink:
    """A body that is being written; see Sink of fill/receiving.py.

    Attributes:
        writer: what `Store.commit` takes.

    Args:
        store: of it.
        threads: that touch disks.
    """

    __slots__ = ("_is_lost", "_store", "_threads", "writer")

    def __init__(self, writer: Writer, store: Store, threads: Threads) -> None:
        self.writer = writer
        self._store = store
        self._threads = threads
        self._is_lost = False

    @property
    def size(self) -> int:
        """Bytes written."""
        return self.writer.size

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            StoreUnavailable: the store has no room for them, or its disk takes too long.
        """
        if self.writer.write_in_memory(data):
            return
        _require_disk(self._store)
        try:
            self._by_thread(lambda: self.writer.write(data))
        except NoRoom as error:
            raise StoreUnavailable(str(error)) from error

    def digest(self) -> bytes:
        """Return the BLAKE3-256 of what was written."""
        return self.writer.digest()

    def commit(self, step: Callable[[], T]) -> T:
        """Call what commits the writer, by a thread where that touches a disk; return what it returns.

        Raises:
            StoreUnavailable: the disk takes too long.
        """
        return step() if self.writer.number == MEMORY else self._by_thread(step)

    def abort(self) -> None:
        """Forget what was written; nothing where it was committed."""
        if self._is_lost or not self.writer.is_open:
            return
        if self.writer.number == MEMORY:
            self.writer.abort()
        else:
            self._threads.post(self.writer.abort, is_owed=True)

    def _by_thread(self, step: Callable[[], T]) -> T:
        try:
            return self._threads.run(step, monotonic() + DISK_S, self.writer.abort)
        except TimeoutError as error:
            self._is_lost = True  # the thread that hangs has it, and aborts it
            self._store.give_up_disk()
            raise StoreUnavailable("the disk takes too long") from error
        except FillUnavailable as error:
            raise StoreUnavailable(str(error)) from error


def opener(store: Store) -> Callable[[int | None, bool], StoreSink]:
    """Return what opens a sink of a store, as `fill.receiving.Receiver` wants it.

    A body that may not be stored is in memory only, until those who wait for it have had it.
    """
    threads = Threads("storing", _DISK_THREADS, _WAITING)

    def begin_on_disk(length: int | None) -> Writer:
        begun: list[Writer] = []

        def begin() -> Writer:
            begun.append(store.begin(length))
            return begun[0]

        def abandon() -> None:
            for writer in begun:
                writer.abort()

        try:
            return threads.run(begin, monotonic() + DISK_S, abandon)
        except TimeoutError as error:
            store.give_up_disk()
            raise StoreUnavailable("the disk takes too long") from error
        except FillUnavailable as error:
            raise StoreUnavailable(str(error)) from error

    def open_sink(length: int | None, may_store: bool) -> StoreSink:
        try:
            if not may_store or length is None or store.is_for_memory(length):
                return StoreSink(store.begin(length, is_memory_only=not may_store), store, threads)
            _require_disk(store)
            return StoreSink(begin_on_disk(length), store, threads)
        except NoRoom as error:
            raise StoreUnavailable(str(error)) from error

    return open_sink


def _require_disk(store: Store) -> None:
    """See that it is worth asking a thread for the disk.

    Raises:
        StoreUnavailable: the disk is known not to work.
    """
    if not store.is_reachable():
        raise StoreUnavailable("the disk cannot be used")
