"""Verifying: no body of an earlier instance is served before somebody has hashed it.

Process      the sidecar, any thread; hashing holds no lock.
Consistency  a body is sealed when it is written. One whose seal is broken, or that this instance has not
             seen hashed, is hashed before it counts; what is damaged is forgotten, and filled again.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from typing import Any

from blake3 import blake3

from edge_server.cas.bodies import body_path, open_file, seal, seal_ns
from edge_server.cas.contents import Body, Contents
from edge_server.cas.disk import OnEvent
from edge_server.errors import BodyGone

_BLOCK_BYTES = 1 << 20


class Verifying:
    """Looks at the bodies of a store.

    Args:
        contents: what it holds.
        lock: the store's.
        on_event: told of damage.
    """

    def __init__(self, contents: Contents, lock: AbstractContextManager[Any], on_event: OnEvent) -> None:
        self._contents = contents
        self._lock = lock
        self._on_event = on_event

    def check(self, digest: bytes) -> bool:
        """Return whether a body can be served, after hashing it if need be; forget it if it is damaged."""
        with self._lock:
            body = self._contents.bodies.get(digest)
            if body is None:
                return False
            broken = [number for number in body.tiers if not self._is_sealed(number, digest, body)]
            doubtful = broken if body.is_verified else list(body.tiers)
        for number in doubtful:
            path = body_path(self._contents.tier(number).folder, digest)
            self._note(number, digest, body, is_whole(path, digest, body.size))
        with self._lock:
            return self._contents.bodies.get(digest) is body and bool(body.tiers)

    def _is_sealed(self, number: int, digest: bytes, body: Body) -> bool:
        return self._contents.tier(number).has(digest, body.size)

    def _note(self, number: int, digest: bytes, body: Body, is_right: bool) -> None:
        with self._lock:
            if self._contents.bodies.get(digest) is not body or number not in body.tiers:
                return
            if is_right:
                self._contents.verify(digest, body)
            else:
                self._on_event("cas_damaged", {"level": "error", "hash": digest.hex()})
                self._contents.lose(digest, number)


def is_whole(path: str, digest: bytes, size: int | None = None) -> bool:
    """Hash a file; return whether it is the body with this digest, and seal it again if it is.

    Args:
        size: bytes that it must have; None for any.
    """
    try:
        fd, found = open_file(path)
    except BodyGone:
        return False
    try:
        if size is not None and found.st_size != size:
            return False
        if digest_of(fd) != digest:
            return False
        if found.st_mtime_ns != seal_ns(digest):
            with suppress(OSError):
                seal(fd, digest)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def digest_of(fd: int) -> bytes:
    """Return the BLAKE3-256 of a file from its beginning.

    Raises:
        OSError: it cannot be read.
    """
    hasher = blake3()
    offset = 0
    while block := os.pread(fd, _BLOCK_BYTES, offset):
        hasher.update(block)
        offset += len(block)
    return hasher.digest()
