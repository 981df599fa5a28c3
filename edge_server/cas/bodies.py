"""Bodies of filled objects as files: where they stand, how they are sealed, how a reader opens them.

Process      written by the sidecar, opened by workers and by `svc-edge cas`.
Memory       a file a body at ``<2 hex>/<digest hex>`` of its tier's folder. The memory tier is a
             folder on tmpfs.
Consistency  a file gets its name when it is whole, and is never written again, only unlinked: whoever has
             it open keeps the right bytes. It is sealed: nobody may write it, and its time of
             modification follows from its digest, so one that was written to all the same is not opened.
Lifetime     of the memory tier the supervisor's, of the disk tier the operator's.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edge_server.errors import BodyGone
from edge_server.shm.fill_index import DISK, MEMORY, TIERS, FillRecord, Flag

SEALED_MODE = 0o400

# Whole, even seconds of the years 2001 and 2002, which every file system can hold.
_SEAL_START_S = 1_000_000_000
_SEALS = 1 << 24
# NONBLOCK, as opening a FIFO waits for its writer otherwise.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def body_path(folder: Path | str, digest: bytes) -> str:
    """Return where the body with this BLAKE3-256 digest stands in its tier's folder."""
    name = digest.hex()
    return f"{folder}/{name[:2]}/{name}"


def seal_ns(digest: bytes) -> int:
    """Return the time of modification that a sealed body has, Unix ns."""
    return (_SEAL_START_S + 2 * (int.from_bytes(digest[:4], "big") % _SEALS)) * 1_000_000_000


def seal(fd: int, digest: bytes) -> None:
    """Seal the body behind a descriptor.

    Raises:
        OSError: the file system does not take it.
    """
    os.fchmod(fd, SEALED_MODE)
    stamp(fd, digest)


def stamp(fd: int, digest: bytes) -> None:
    """Give a file the time of modification of a sealed body.

    Raises:
        OSError: the file system does not take it.
    """
    time_ns = seal_ns(digest)
    os.utime(fd, ns=(time_ns, time_ns))


def open_file(path: str) -> tuple[int, os.stat_result]:
    """Open a regular file for reading, whatever stands in its place.

    Raises:
        BodyGone: there is none, or something else.
    """
    try:
        fd = os.open(path, _FLAGS)
    except OSError as error:
        raise BodyGone(f"body cannot be opened: {error.strerror}") from error
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise BodyGone("body is no regular file")
    return fd, found


def open_sealed(folder: Path | str, digest: bytes, size: int) -> int:
    """Open a body that is as it was sealed; return its descriptor.

    Raises:
        BodyGone: it is not there, has another size, or was written to.
    """
    fd, found = open_file(body_path(folder, digest))
    if found.st_size != size or found.st_mtime_ns != seal_ns(digest):
        os.close(fd)
        raise BodyGone("body is not as it was stored")
    return fd


class BodyFolder:
    """Both tiers, for those who read.

    Args:
        memory_folder: the memory tier.
        disk_path: the disk tier; None where there is none.
    """

    def __init__(self, memory_folder: Path | str, disk_path: Path | str | None) -> None:
        self._folders = (str(memory_folder), None if disk_path is None else str(disk_path))

    def open(self, record: FillRecord) -> int:
        """Open the body of a record for reading; return its descriptor, which the caller closes.

        A record may have changed tiers or been evicted since it was read: look its key up once
        more before BodyGone means a miss.

        Raises:
            BodyGone: there is no body, or not as it was stored, or nobody has verified it since an
                earlier instance wrote it; the sidecar (`Store.find`) does, or forgets it.
        """
        if record.flags & Flag.UNVERIFIED:
            raise BodyGone("body is not verified yet")
        folder = self._folders[DISK if record.tier == DISK else MEMORY]
        if folder is None:
            raise BodyGone(f"there is no {TIERS[record.tier]} tier")
        return open_sealed(folder, record.digest, record.size)
