"""A body that is being written: hashed on the way, and moved to the other tier when its own does not take it.

Process      the sidecar; one thread a writer, any of them. Takes the store's lock to claim room only.
Lifetime     until it is committed or aborted. A file of a killed sidecar is removed by its successor.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from typing import Any

from blake3 import blake3

from edge_server.cas.contents import Contents
from edge_server.cas.tier import Tier, write_all
from edge_server.errors import NoRoom
from edge_server.shm.fill_index import DISK, MEMORY, TIERS

MEMORY_SHARE = 4  # a body may take a quarter of the memory tier

_BLOCK_BYTES = 1 << 20
_CLAIM_BYTES = 64 << 10  # claimed at a time where nobody has said how much it will be


class Writer:
    """Takes the bytes of one body; made by `Store.begin`.

    Attributes:
        size: bytes written so far.
        number: the tier that it is in.
        is_memory_only: whether it never touches a disk; it may then take all of the memory tier.

    Args:
        contents: what the store holds.
        lock: the store's.
        size_hint: how many bytes it will be; None where nobody knows.
        is_memory_only: whether it must never touch a disk.

    Raises:
        NoRoom: neither tier takes it.
    """

    def __init__(
        self,
        contents: Contents,
        lock: AbstractContextManager[Any],
        size_hint: int | None,
        is_memory_only: bool,
    ) -> None:
        self.size = 0
        self.number = MEMORY
        self._contents = contents
        self._lock = lock
        self.is_memory_only = is_memory_only
        self._tiers = [MEMORY] if is_memory_only else [MEMORY, DISK]  # that have not failed it
        self._hasher = blake3()
        self._digest = b""
        self._fd = -1
        self._path = ""
        self._claimed = 0
        self._open_any(size_hint or 0)

    @property
    def is_open(self) -> bool:
        """Whether it has been neither committed nor aborted."""
        return self._fd >= 0

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            NoRoom: no tier takes them; the writer is aborted.
        """
        assert self.is_open, "committed or aborted"
        needed = self.size + len(data)
        if self.write_in_memory(data):
            return
        try:
            if self.number == MEMORY or not self._claim(needed):
                self._move(needed)
            try:
                write_all(self._fd, data)
            except OSError as error:
                self._fail(error)
                self._move(needed)
                self._retry(data)
        except NoRoom:
            self.abort()
            raise
        self._note(data)

    def write_in_memory(self, data: bytes) -> bool:
        """Add bytes if no disk is touched for it; return whether they were added."""
        assert self.is_open, "committed or aborted"
        needed = self.size + len(data)
        if self.number != MEMORY or MEMORY not in self._tiers:
            return False
        if needed > self._claimed and not self._claim(needed):
            return False
        try:
            write_all(self._fd, data)
        except OSError as error:
            self._fail(error)
            return False
        self._note(data)
        return True

    def digest(self) -> bytes:
        """Return the BLAKE3-256 of what has been written."""
        if not self._digest:
            self._digest = self._hasher.digest()
        return self._digest

    def abort(self) -> None:
        """Throw away what has been written; fine at any time, and again."""
        if self.is_open:
            _discard(self._fd, self._path)
            self._close()

    def finish(self) -> None:
        """Seal the file, in the other tier if its own fails.

        Raises:
            NoRoom: no tier takes it; the writer is aborted.
        """
        while True:
            try:
                self._tier.seal(self._fd, self.digest())
                return
            except OSError as error:
                self.give_up(error)

    def give_up(self, error: OSError) -> None:
        """Go on in the other tier, as this one fails.

        Raises:
            NoRoom: the other does not take it; the writer is aborted.
        """
        self._fail(error)
        try:
            self._move(self.size)
        except NoRoom:
            self.abort()
            raise

    def install(self) -> None:
        """Give the sealed file its name; on a disk without the store's lock.

        Raises:
            OSError: it cannot be renamed, and has its temporary name still.
        """
        self._tier.install(self._path, self.digest())
        os.close(self._fd)
        self._close()

    @property
    def _tier(self) -> Tier:
        return self._contents.tier(self.number)

    def _open_any(self, size: int) -> None:
        for number in tuple(self._tiers):
            with suppress(NoRoom):
                self._open(number, size)
                return
        raise NoRoom(f"no tier takes {size} bytes")

    def _open(self, number: int, size: int) -> None:
        """Begin a file in a tier."""
        self.number = number
        self._claimed = 0
        if not self._claim(size):
            raise NoRoom(f"the {TIERS[number]} tier has no room for {size} bytes")
        try:
            self._fd, self._path = self._tier.create()
        except OSError as error:
            self._give_back()
            self._fail(error)
            raise NoRoom(str(error)) from error

    def _claim(self, needed: int) -> bool:
        """Have room for `needed` bytes in this tier; return whether there is."""
        if needed <= self._claimed:
            return True
        with self._lock:
            if not self._fits(needed):
                return False
            tier = self._tier
            step = min(_CLAIM_BYTES, tier.max_bytes // 64) if self.size else 0
            more = max(needed - self._claimed, step)
            tier.claimed_bytes += more
            if not self._contents.make_room(self.number):
                tier.claimed_bytes -= more
                return False
            self._claimed += more
        return True

    def _fits(self, size: int) -> bool:
        if self.number == MEMORY:
            return size <= self._contents.memory.max_bytes // (1 if self.is_memory_only else MEMORY_SHARE)
        disk = self._contents.disk
        return disk is not None and disk.is_usable and size <= disk.tier.max_bytes

    def _fail(self, error: OSError) -> None:
        """Note that this tier does not work."""
        if self.number in self._tiers:
            self._tiers.remove(self.number)
        with self._lock:
            self._contents.fail(self.number, error)

    def _move(self, needed: int) -> None:
        """Go on in the other tier, with room for `needed` bytes."""
        old_fd, old_path = self._fd, self._path
        self._close()
        other = DISK if self.number == MEMORY else MEMORY
        try:
            if other not in self._tiers:
                raise NoRoom(f"the {TIERS[self.number]} tier does not take it, and no other may")
            self._tiers.remove(other)
            self._open(other, needed)
            _copy(old_fd, self._fd, self.size)
        except OSError as error:
            self._fail(error)
            raise NoRoom(str(error)) from error
        finally:
            _discard(old_fd, old_path)

    def _note(self, data: bytes) -> None:
        self._hasher.update(data)
        self._digest = b""
        self.size += len(data)

    def _retry(self, data: bytes) -> None:
        try:
            write_all(self._fd, data)
        except OSError as error:
            self._fail(error)
            raise NoRoom(str(error)) from error

    def _close(self) -> None:
        self._fd, self._path = -1, ""
        self._give_back()

    def _give_back(self) -> None:
        with self._lock:
            self._tier.claimed_bytes -= self._claimed
        self._claimed = 0


def _copy(source: int, target: int, size: int) -> None:
    done = 0
    while done < size:
        block = os.pread(source, min(_BLOCK_BYTES, size - done), done)
        if not block:
            raise OSError(5, "a temporary file is shorter than what was written")
        write_all(target, block)
        done += len(block)


def _discard(fd: int, path: str) -> None:
    os.close(fd)
    with suppress(OSError):
        os.unlink(path)
