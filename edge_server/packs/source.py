"""Source files: how the files behind entries are opened, read and recognised again.

Files are only ever opened for reading. A file is the one that was mounted while device,
inode, size and modification time agree; anything else is a different file, whatever its
path says. Knows no process.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from edge_server.errors import PackError, PackUnreadable
from edge_server.packs.reader import SourceFile

# O_NONBLOCK: a path that became a FIFO must not hang its opener; regular files ignore it.
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def source_file(path: str, status: os.stat_result) -> SourceFile:
    """Return the identity of the file at `path`, an absolute path free of symbolic links."""
    return SourceFile(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def is_unchanged(status: os.stat_result, file: SourceFile) -> bool:
    """Whether `status`, from fstat(2) or stat(2), is that of the file as it was mounted."""
    return (
        status.st_ino == file.inode
        and status.st_size == file.size
        and status.st_mtime_ns == file.mtime_ns
        and status.st_dev == file.device
    )


def open_source(file: SourceFile) -> int:
    """Open a mounted file and return its descriptor.

    Raises:
        PackUnreadable: it cannot be opened, or is no longer the file that was mounted.
    """
    try:
        fd = os.open(file.path, _OPEN_FLAGS)
    except OSError as error:
        raise PackUnreadable(f"cannot be opened: {error.strerror}", file.path) from error
    try:
        if is_unchanged(os.fstat(fd), file):
            return fd
    except OSError as error:
        os.close(fd)
        raise PackUnreadable(f"cannot be opened: {error.strerror}", file.path) from error
    os.close(fd)
    raise PackUnreadable("changed since it was mounted", file.path)


@contextlib.contextmanager
def opened(pack: str, file: SourceFile) -> Iterator[int]:
    """Open a mounted file for the length of a with statement, for work at mount time.

    Raises:
        PackError: what `open_source` found, in the name of `pack`.
    """
    try:
        fd = open_source(file)
    except PackUnreadable as error:
        raise PackError(pack, str(error)) from error
    try:
        yield fd
    finally:
        os.close(fd)


def open_regular(pack: str, path: str) -> tuple[int, SourceFile]:
    """Open a file that is about to be mounted.

    Args:
        path: absolute and free of symbolic links.

    Returns:
        (descriptor, identity); the caller closes the descriptor.

    Raises:
        PackError: it cannot be opened or is not a regular file.
    """
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        raise PackError(pack, f"cannot be opened: {error.strerror}") from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise PackError(pack, "is not a regular file")
    return fd, source_file(path, status)


def read_exactly(pack: str, fd: int, offset: int, length: int) -> bytes:
    """Return ``[offset, offset + length)`` of an open file.

    Raises:
        PackError: the file ends before, or the device fails.
    """
    pieces = []
    while length:
        try:
            piece = os.pread(fd, length, offset)
        except OSError as error:
            raise PackError(pack, f"cannot be read: {error.strerror}", offset) from error
        if not piece:
            raise PackError(pack, f"the file ends {length} bytes too early", offset)
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
