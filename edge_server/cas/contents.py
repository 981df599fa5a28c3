"""What the store holds: which body is in which tier, and which keys have it.

Process      the sidecar, under the store's lock.
Consistency  a record is put when its body stands, and removed before its body goes. What fails on the
             disk is left for the sweep of what nobody knows. Once it is closed nothing is put or removed:
             a thread that has waited for a disk all the while finds that index and bodies are another's.
Lifetime     built from the fill index and the disk's records by each sidecar.
"""

from __future__ import annotations

import time
from pathlib import Path

from edge_server.cas.disk import Disk, OnEvent
from edge_server.cas.eviction import Eviction
from edge_server.cas.sieve import Sieve
from edge_server.cas.tier import Tier
from edge_server.errors import NoRoom
from edge_server.shm.fill_index import (
    DISK,
    MEMORY,
    NO_DIGEST,
    FillIndex,
    FillRecord,
    Flag,
    Stored,
    Word,
)

_UNVERIFIED = int(Flag.UNVERIFIED)  # PERF: as in fill_results.py


class Body:
    """One body.

    Attributes:
        size: bytes.
        tiers: MEMORY, DISK or both.
        keys: ids of the keys whose response it is.
        pins: how many are about to give it a key.
        is_verified: whether this instance has seen what it hashes to.
    """

    __slots__ = ("is_verified", "keys", "pins", "size", "tiers")

    def __init__(self, size: int, is_verified: bool) -> None:
        self.size = size
        self.tiers: set[int] = set()
        self.keys: set[bytes] = set()
        self.pins = 0
        self.is_verified = is_verified


class Contents:
    """Bodies, keys and tiers.

    Attributes:
        memory: the memory tier.
        disk: the disk tier; None where there is none.
        bodies: by digest.
        eviction: what goes when there is no room.
        unsettled: digests of bodies that are to be copied to the disk, in their order.
        unverified: digests of bodies that nobody has hashed since this instance began.
        installing: digests of files that are about to be bodies on the disk.
        is_closed: whether another process may be the writer by now.
    """

    def __init__(
        self,
        index: FillIndex,
        memory_folder: Path | str,
        memory_bytes: int,
        disk_path: Path | str | None,
        disk_bytes: int,
        on_event: OnEvent,
    ) -> None:
        self.index = index
        self.eviction = Eviction(self, on_event)
        self.memory = Tier(memory_folder, memory_bytes, False, self.eviction.visits(MEMORY))
        self.disk: Disk | None = None
        if disk_path is not None:
            self.disk = Disk(Tier(disk_path, disk_bytes, True, self.eviction.visits(DISK)), index, on_event)
        self.bodies: dict[bytes, Body] = {}
        self.bodiless: Sieve[bytes] = Sieve(index.take_visited)
        self.unsettled: dict[bytes, None] = {}
        self.unverified: dict[bytes, None] = {}
        self.installing: set[bytes] = set()
        self.is_closed = False
        self._on_event = on_event

    def tier(self, number: int) -> Tier:
        """Return a tier by its number."""
        if number == MEMORY:
            return self.memory
        assert self.disk is not None
        return self.disk.tier

    def put(
        self,
        key_id: bytes,
        record: FillRecord,
        key: str,
        order: int = 0,
        is_kept: bool = False,
        is_cut: bool = False,
        digest: bytes | None = None,
    ) -> FillRecord:
        """Have a key answered by a record, whose body is among `bodies`; return it as it was put.

        Args:
            order: see Stored; 0 for that of the record before, or now.
            is_kept: whether the disk's records have it already.
            is_cut: whether `key` is only the beginning of it.
            digest: of the body; None for that of the record.

        Raises:
            NoRoom: the fill index has no room, whatever is evicted; or it is closed.
        """
        self.require_open()
        old = self.index.stored(key_id)
        order = order or (time.time_ns() if old is None else old.order)
        if old is None:
            self.eviction.make_place()
        made = self._placed(record, record.digest if digest is None else digest)
        is_cut = is_cut or (old is not None and old.is_cut and old.key == key)
        self.index.put(key_id, made, key, order, is_cut)
        if old is not None and old.record.digest != made.digest:
            self._release(key_id, old.record.digest)
        self._hold(key_id, made.digest)
        if not is_kept and self.disk is not None:
            self._keep(Stored(key_id, key, is_cut, order, -1, made), old)
        return made

    def require_open(self) -> None:
        """See that this process is the writer still.

        Raises:
            NoRoom: it is not.
        """
        if self.is_closed:
            raise NoRoom("the store is another process's by now")

    def remove(self, key_id: bytes) -> bool:
        """Forget a key, and its body if no other has it; return whether it was there."""
        old = None if self.is_closed else self.index.stored(key_id)
        if old is None:
            return False
        self.index.remove(key_id)
        if self.is_on_disk(old.record):
            self._forget([key_id])
        self._release(key_id, old.record.digest)
        return True

    def drop(self, digest: bytes) -> int:
        """Forget a body and all of its keys; return how many there were."""
        body = None if self.is_closed else self.bodies.pop(digest, None)
        if body is None:
            return 0
        for key_id in body.keys:
            self.index.remove(key_id)
        if DISK in body.tiers:
            self._forget(body.keys)
        for number in tuple(body.tiers):
            self._take_out(digest, body, number)
        self.unsettled.pop(digest, None)
        self.unverified.pop(digest, None)
        return len(body.keys)

    def add(self, digest: bytes, size: int, number: int, is_verified: bool) -> Body:
        """Note that a body stands in a tier; return it."""
        body = self.bodies.get(digest)
        if body is None:
            body = self.bodies[digest] = Body(size, is_verified)
            if not is_verified:
                self.unverified[digest] = None
        elif is_verified and not body.is_verified:
            self._trust(digest, body)
            for other in body.tiers - {number}:
                self._take_out(digest, body, other)
        if number not in body.tiers:
            body.tiers.add(number)
            self.tier(number).used_bytes += size
            self._show()
        if body.keys:
            self.tier(number).queue.add(digest)
        return body

    def unpin(self, digest: bytes, body: Body) -> None:
        """Let go of a body that was pinned; without a key it goes."""
        body.pins -= 1
        if not body.pins and not body.keys and self.bodies.get(digest) is body:
            self.drop(digest)

    def verify(self, digest: bytes, body: Body) -> None:
        """Note that a body is what its name says."""
        if not body.is_verified and not self.is_closed:
            self._trust(digest, body)
            self.retarget(body)

    def retarget(self, body: Body) -> None:
        """Put the records of a body again, after its tiers have changed or it was verified."""
        for key_id in tuple(body.keys):
            old = self.index.stored(key_id)
            if old is not None:
                self.put(key_id, old.record, old.key, old.order, is_kept=True)

    def make_room(self, number: int) -> bool:
        """Evict until all that is claimed of a tier has room; return whether it has."""
        return not self.is_closed and self.eviction.make_room(number)

    def lose(self, digest: bytes, number: int) -> None:
        """Note that a body is not in a tier any more; where it is in no other, its keys are forgotten."""
        body = self.bodies[digest]
        if body.tiers == {number}:
            self.drop(digest)
        elif not self.is_closed:
            self._move_out(digest, body, number)

    def keep(self, body: Body) -> None:
        """Have the disk's records hold the keys of a body that stands there."""
        assert self.disk is not None
        for key_id in body.keys:
            stored = self.index.stored(key_id)
            if stored is not None and self.is_on_disk(stored.record):
                self.disk.keep(key_id, stored)

    def unsettle(self, digest: bytes) -> None:
        """Have a body copied to the disk, if it is not there."""
        if self.disk is not None and DISK not in self.bodies[digest].tiers:
            self.unsettled[digest] = None

    def fail(self, number: int, error: OSError) -> None:
        """Note that a tier does not work; memory is given another try with the next body."""
        if self.is_closed:
            return
        if number == DISK and self.disk is not None:
            self.disk.fail(error)
        else:
            self._on_event("cas_memory", {"level": "warning", "reason": error.strerror or str(error)})

    def is_on_disk(self, record: FillRecord) -> bool:
        """Whether a record is among the disk's."""
        if self.disk is None or record.flags & Flag.PASSED:
            return False
        if record.digest == NO_DIGEST:
            return bool(record.flags & (Flag.VARIES | Flag.LARGE))
        body = self.bodies.get(record.digest)
        return record.tier == DISK if body is None else DISK in body.tiers

    def _trust(self, digest: bytes, body: Body) -> None:
        body.is_verified = True
        self.unverified.pop(digest, None)

    def _move_out(self, digest: bytes, body: Body, number: int) -> None:
        """Leave a body in its other tier only."""
        body.tiers.discard(number)
        if number == MEMORY:
            self.retarget(body)
        else:
            self._forget(body.keys)
        self._take_out(digest, body, number)

    def _take_out(self, digest: bytes, body: Body, number: int) -> None:
        if self.is_closed:
            return
        tier = self.tier(number)
        body.tiers.discard(number)
        tier.queue.discard(digest)
        tier.used_bytes -= body.size
        self._show()
        if number == DISK and digest in self.installing:
            return
        try:
            tier.unlink(digest)
        except OSError as error:
            self.fail(number, error)

    def _placed(self, record: FillRecord, digest: bytes) -> FillRecord:
        """Return a record with this body, and with tier and flags as that is."""
        if digest == NO_DIGEST:
            return record._replace(digest=digest, size=0, tier=MEMORY)
        body = self.bodies[digest]
        flags = int(record.flags) & ~_UNVERIFIED if body.is_verified else int(record.flags) | _UNVERIFIED
        return record._replace(digest=digest, size=body.size, tier=min(body.tiers), flags=flags)

    def _hold(self, key_id: bytes, digest: bytes) -> None:
        if digest == NO_DIGEST:
            self.bodiless.add(key_id)
            return
        body = self.bodies[digest]
        body.keys.add(key_id)
        for number in body.tiers:
            self.tier(number).queue.add(digest)

    def _release(self, key_id: bytes, digest: bytes) -> None:
        if digest == NO_DIGEST:
            self.bodiless.discard(key_id)
            return
        body = self.bodies.get(digest)
        if body is not None:
            body.keys.discard(key_id)
            if not body.keys and not body.pins:
                self.drop(digest)

    def _keep(self, stored: Stored, old: Stored | None) -> None:
        """Have the disk's records follow, and a new body settle there."""
        if self.disk is None:
            return
        if self.is_on_disk(stored.record):
            self.disk.keep(stored.key_id, stored)
        elif old is not None and self.is_on_disk(old.record):
            self.disk.forget([stored.key_id])
        if stored.record.digest != NO_DIGEST and not stored.record.flags & Flag.PASSED:
            self.unsettle(stored.record.digest)

    def _forget(self, key_ids: set[bytes] | list[bytes]) -> None:
        if self.disk is not None:
            self.disk.forget(key_ids)

    def _show(self) -> None:
        """Store in the index how much there is, for whoever reads it there."""
        if self.is_closed:
            return
        self.index.set(Word.MEMORY_BYTES, self.memory.used_bytes)
        self.index.set(Word.DISK_BYTES, 0 if self.disk is None else self.disk.tier.used_bytes)
