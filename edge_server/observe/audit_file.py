"""Where an audit chain stands: a file, or standard output.

Process      the sidecar that writes the chain, in its thread.
Consistency  a batch is whole lines. What the descriptor took of one is remembered, so that the rest follows,
             and nothing else before it. A file has one writing process, by a lock (flock) that goes with it.
Lifetime     until `close`; a file is opened anew by `open`, after SIGUSR1.
"""

from __future__ import annotations

import fcntl
import os
from typing import NamedTuple

from edge_server.errors import ResourceError
from edge_server.observe.audit import Record, read
from edge_server.observe.log_sink import WHOLE_BYTES, bind_put

_MODE = 0o640
_TAIL_BYTES = 1 << 20  # of the end of a file, where its last record is looked for
_FILE_BATCH = 64 << 10


class Tail(NamedTuple):
    """How a file ends.

    Attributes:
        last: its last record; None where there is none.
        torn: what stands behind it.
        is_ended: whether it ends with a newline, or is empty.
    """

    last: Record | None
    torn: bytes
    is_ended: bool = True


class Output:
    """A descriptor that records are written to.

    Attributes:
        tail: how the file ended when it was opened.
        batch_bytes: how much is written at once.
    """

    def __init__(self, descriptor: int, tail: Tail, *, is_file: bool) -> None:
        self.tail = tail
        self.batch_bytes = _FILE_BATCH if is_file else WHOLE_BYTES
        self._descriptor = descriptor
        self._is_file = is_file
        self._put, self._close_put = bind_put(descriptor)
        self._left = b"" if tail.is_ended else b"\n"

    @classmethod
    def standard(cls, descriptor: int = 1) -> Output:
        """Return standard output."""
        return cls(descriptor, Tail(None, b""), is_file=False)

    @classmethod
    def open(cls, path: str) -> Output:
        """Open a file for appending, and look at its end.

        Raises:
            ResourceError: it cannot be opened, another process writes to it, or it is no audit file.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)
        except OSError as error:
            raise ResourceError(f"cannot open {path}: {error.strerror}") from error
        try:
            return cls(descriptor, _locked_tail(descriptor, path), is_file=True)
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def is_settled(self) -> bool:
        """Whether all that was given has been written."""
        return not self._left

    def write(self, data: bytes = b"") -> bool:
        """Write what is left, and `data`; return whether all of it is out.

        Raises:
            OSError: the descriptor does not take it; what is left is tried again with the next call.
        """
        self._left += data
        try:
            while self._left:
                self._left = self._left[self._put(self._left) :]
        except BlockingIOError:
            return False
        return True

    def is_still(self, path: str) -> bool:
        """Whether the file stands under its name."""
        try:
            named, own = os.stat(path), os.fstat(self._descriptor)
        except OSError:
            return False
        return (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)

    def sync(self) -> None:
        """Have a file's records on the disk."""
        if self._is_file:
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close a file; standard output stays open."""
        self._close_put()
        if self._is_file:
            os.close(self._descriptor)


def _locked_tail(descriptor: int, path: str) -> Tail:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ResourceError(f"{path} is written to by another process; give each instance its own") from error
    size = os.fstat(descriptor).st_size
    start = max(0, size - _TAIL_BYTES)
    tail = tail_of(os.pread(descriptor, size - start, start))
    if tail.last is None and b"\n" in tail.torn:
        raise ResourceError(f"{path} has no audit record at its end; move it away")
    return tail


def tail_of(data: bytes) -> Tail:
    """Return how a file ends whose last bytes these are.

    A last record without its newline counts as whole: the newline is what is missing.
    """
    stop = len(data)
    while stop > 0:
        start = data.rfind(b"\n", 0, stop) + 1
        record = read(data[start:stop])
        if record is not None:
            return Tail(record, data[stop + 1 :], data.endswith(b"\n"))
        stop = start - 1
    return Tail(None, data, data.endswith(b"\n") or not data)
