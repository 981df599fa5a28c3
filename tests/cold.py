"""Files whose bytes are on the disk and in no page cache, for tests of what has to wait for them."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import pytest

_libc = ctypes.CDLL(None, use_errno=True)


def chill(path: Path) -> None:
    """Take a file's bytes out of the page cache; skip the test where that, or to tell it, is not possible."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            pass
        except OSError as error:
            pytest.skip(
                f"the file system of {path} cannot tell what is cold ({error.strerror}); set --basetemp"
            )
        for _ in range(20):
            os.fsync(descriptor)  # what is not on the disk yet stays in memory
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            if not pages_at_hand(descriptor):
                return
    finally:
        os.close(descriptor)
    pytest.skip(f"the bytes of {path} stay in the page cache, whatever is said; set --basetemp to a disk")


def warm(path: Path, start: int, stop: int) -> None:
    """Read bytes of a file into the page cache, and none around them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        assert len(os.pread(descriptor, stop - start, start)) == stop - start
    finally:
        os.close(descriptor)


def pages_at_hand(descriptor: int) -> int:
    """Return how many pages of a file are in the page cache. Source: mincore(2), which reads none."""
    length = os.fstat(descriptor).st_size
    with mmap.mmap(descriptor, length, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
        told = (ctypes.c_ubyte * -(-length // mmap.PAGESIZE))()
        first = ctypes.c_ubyte.from_buffer(mapped)
        try:
            if _libc.mincore(ctypes.byref(first), ctypes.c_size_t(length), told) != 0:
                raise OSError(ctypes.get_errno(), "mincore")
        finally:
            del first
        return sum(page & 1 for page in told)
