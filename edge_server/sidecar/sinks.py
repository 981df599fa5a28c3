"""Sinks: where the engine writes what it fetches, a body of the store each.

Process      the sidecar; a sink belongs to one thread of the engine at a time.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_server.cas.store import Store
from edge_server.cas.writer import Writer
from edge_server.errors import FillUnavailable, NoRoom


class StoreSink:
    """A body that is being written; see Sink of fill/fetch.py.

    Attributes:
        writer: what `Store.commit` takes.
    """

    __slots__ = ("writer",)

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    @property
    def size(self) -> int:
        """Bytes written."""
        return self.writer.size

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            FillUnavailable: the store has no room for them.
        """
        try:
            self.writer.write(data)
        except NoRoom as error:
            raise FillUnavailable(str(error)) from error

    def digest(self) -> bytes:
        """Return the BLAKE3-256 of what was written."""
        return self.writer.digest()

    def abort(self) -> None:
        """Forget what was written; nothing where it was committed."""
        self.writer.abort()


def opener(store: Store) -> Callable[[int | None], StoreSink]:
    """Return what opens a sink of a store, given the length of the body where it is known."""

    def open_sink(length: int | None) -> StoreSink:
        try:
            return StoreSink(store.begin(length))
        except NoRoom as error:
            raise FillUnavailable(str(error)) from error

    return open_sink
