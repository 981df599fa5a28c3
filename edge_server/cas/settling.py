"""Settling: bodies of the memory tier are copied to the disk after they are served from memory.

Process      the sidecar, one thread; copying holds no lock.
Consistency  a copy is hashed on the way and counts when it has its name. Until then the body is in memory
             only, and goes with it; nobody has ever waited for a disk.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from typing import Any

from blake3 import blake3

from edge_server.cas.bodies import body_path, open_sealed
from edge_server.cas.contents import Body, Contents
from edge_server.cas.tier import Tier, write_all
from edge_server.cas.verifying import is_whole
from edge_server.errors import BodyGone
from edge_server.shm.fill_index import DISK, MEMORY

_BLOCK_BYTES = 1 << 20


class Settling:
    """Copies what waits.

    Args:
        contents: what the store holds.
        lock: the store's.
    """

    def __init__(self, contents: Contents, lock: AbstractContextManager[Any]) -> None:
        self._contents = contents
        self._lock = lock

    def step(self) -> bool:
        """Copy the body that has waited longest; return whether there was one, and the disk works."""
        contents = self._contents
        with self._lock:
            disk = contents.disk
            if disk is None or not disk.is_usable or not contents.unsettled:
                return False
            digest = next(iter(contents.unsettled))
            del contents.unsettled[digest]
            body = contents.bodies.get(digest)
            if body is None or DISK in body.tiers or not self._claim(disk.tier, body):
                return True
            body.pins += 1
        try:
            self._copy(disk.tier, digest, body)
        except OSError as error:
            with self._lock:
                contents.unsettle(digest)
                contents.fail(DISK, error)
        except BodyGone:
            pass
        finally:
            with self._lock:
                disk.tier.claimed_bytes -= body.size
                contents.unpin(digest, body)
        return True

    def _claim(self, tier: Tier, body: Body) -> bool:
        tier.claimed_bytes += body.size
        if body.size <= tier.max_bytes and self._contents.make_room(DISK):
            return True
        tier.claimed_bytes -= body.size
        return False

    def _copy(self, tier: Tier, digest: bytes, body: Body) -> None:
        if not is_whole(body_path(tier.folder, digest), digest, body.size):
            self._write(tier, digest, body)
        with self._lock:
            if self._contents.bodies.get(digest) is body:
                self._contents.add(digest, body.size, DISK, is_verified=True)
                self._contents.keep(body)

    def _write(self, tier: Tier, digest: bytes, body: Body) -> None:
        source = open_sealed(self._contents.tier(MEMORY).folder, digest, body.size)
        try:
            fd, path = tier.create()
            try:
                if _copied(source, fd) != digest:
                    raise BodyGone("body is not as it was stored")
                tier.seal(fd, digest)
                tier.install(path, digest)
                tier.sync_names(digest)
            except BaseException:
                with suppress(OSError):
                    os.unlink(path)
                raise
            finally:
                os.close(fd)
        finally:
            os.close(source)


def _copied(source: int, target: int) -> bytes:
    """Copy a file; return the BLAKE3-256 of what was copied."""
    hasher = blake3()
    offset = 0
    while block := os.pread(source, _BLOCK_BYTES, offset):
        write_all(target, block)
        hasher.update(block)
        offset += len(block)
    return hasher.digest()
