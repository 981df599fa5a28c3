"""Open files of packs, and reads that never return a byte that was not mounted.

Process      a worker, single-threaded. A descriptor lives as long as somebody holds its
             OpenFile: the cache of prepared answers, or a body that is being sent.
Waiting      `send` and `need` wait for no disk; `read` does, for what `need` has not been asked about.
Consistency  a read counts only if the file, looked at after it, is still the one that was
             mounted: a writer changes size or mtime before it changes a byte.
"""

from __future__ import annotations

import os
from typing import ClassVar

from edge_server.errors import Cold, PackUnreadable
from edge_server.guard import File
from edge_server.packs.reader import SourceFile

WINDOW_BYTES = 1 << 20  # of a body, that must be in memory before it begins or goes on
AHEAD_BYTES = 3 << 20  # behind the window, that the disk is asked for meanwhile
NEEDED_BYTES = 16 << 20  # at most, that is read ahead as a whole: what is hashed or decoded at once is less


class OpenFile:
    """A descriptor for reading, closed with its last reference.

    Args:
        descriptor: owned from now on.
        source: the file's identity when its pack was read.
        may_be_unlinked: whether the mounted bytes are served on after the name is gone
            (archives: a replaced one answers until the next generation).

    Attributes:
        guarded: the file as the guard sends it.
        open_now: how many of them are open in this process.
    """

    open_now: ClassVar[int] = 0

    __slots__ = ("_descriptor", "_mtime_ns", "_needed_links", "_size", "guarded", "source")

    def __init__(self, descriptor: int, source: SourceFile, *, may_be_unlinked: bool) -> None:
        self._descriptor = descriptor
        self.source = source
        self._size = source.size
        self._mtime_ns = source.mtime_ns
        self._needed_links = 0 if may_be_unlinked else 1
        self.guarded = File(descriptor, self._size, self._mtime_ns, self._needed_links)
        OpenFile.open_now += 1

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes at `offset`.

        Raises:
            PackUnreadable: the file is shorter, has changed, was removed, or fails to read.
        """
        try:
            data = os.pread(self._descriptor, length, offset)
            now = os.fstat(self._descriptor)
        except OSError as error:
            raise PackUnreadable(f"cannot be read: {error.strerror}", self.source.path) from error
        if (
            len(data) != length
            or now.st_mtime_ns != self._mtime_ns
            or now.st_size != self._size
            or now.st_nlink < self._needed_links
        ):
            raise PackUnreadable("changed since it was mounted", self.source.path)
        return data

    def send(self, offset: int, length: int) -> None:
        """Have the guard send exactly `length` bytes at `offset` as the body of this answer.

        Raises:
            PackUnreadable: as `read`. A change that comes later cuts the connection.
            Cold: it would have to wait for a disk.
        """
        if not (is_sent := self.guarded.send(offset, length)):
            if is_sent is None:
                window = min(length, WINDOW_BYTES)
                raise Cold(self._descriptor, offset, window, min(length - window, AHEAD_BYTES))
            raise PackUnreadable("cannot be read, or changed since it was mounted", self.source.path)

    def need(self, offset: int, length: int) -> None:
        """Raise Cold if reading these bytes would wait for a disk."""
        if not self.guarded.at_hand(offset, length):
            raise Cold(self._descriptor, offset, min(length, NEEDED_BYTES))

    def check(self) -> None:
        """Raise PackUnreadable if the file is no longer the one that was mounted."""
        self.read(0, 0)

    def __del__(self) -> None:
        OpenFile.open_now -= 1
