"""The C allocator as a worker wants it.

Decoded tiles, documents and parts of multipart bodies are bytes objects of up to a few
hundred KiB. By default glibc maps each one afresh and gives it back, and every page of it
is faulted in again: two to four times the cost of the answer itself. Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST = 1 << 30
_KEEP_BYTES = 64 << 20

# Requests make no cycles, so this is not reached by them. Errors do, in Falcon, and hold on to
# the request's head: tens of KiB each where a client means it, until they are collected.
_GC_THRESHOLD = 5_000


def tune() -> None:
    """Set up allocator and collector of the calling process; other C libraries keep their ways."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
    gc.set_threshold(_GC_THRESHOLD, 20, 100)
