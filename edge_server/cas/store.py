"""The store of filled objects: responses by key, bodies by content, in memory and on a disk.

Process      lives in the sidecar; one process at a time writes, by a lock of the memory tier's folder that
             the kernel frees when its process ends.
Memory       bodies are files (bodies.py), responses are records of the fill index; here only who has what.
Consistency  a body stands before its record is put, and a record is removed before its body goes. Methods
             may be called from any thread; hashing and synchronising hold no lock.
Lifetime     both tiers and the index outlive it. `adopt` makes it the writer, and takes over what is there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

from edge_server.cas.adoption import Adoption
from edge_server.cas.contents import Body, Contents
from edge_server.cas.disk import OnEvent, lock_folder
from edge_server.cas.opening import Opening
from edge_server.cas.settling import Settling
from edge_server.cas.verifying import Verifying
from edge_server.cas.writer import MEMORY_SHARE, Writer
from edge_server.errors import NoRoom, ResourceError
from edge_server.shm.fill_index import DISK, MEMORY, NO_DIGEST, FillIndex, FillRecord, Flag


class Stats(NamedTuple):
    """What a store holds and has done."""

    memory_bytes: int
    disk_bytes: int
    bodies: int
    records: int
    unverified: int  # bodies that nobody has hashed since this instance began
    unsettled: int  # bodies that are still to be copied to the disk
    evictions_memory: int
    evictions_disk: int
    disk: str  # "none", "usable", or why it is not


class Store:
    """See above.

    Args:
        index: the fill index.
        folder: of the memory tier, on tmpfs; made if it is not there.
        memory_bytes: what it may hold.
        disk_path: folder of the disk tier; None keeps everything in memory.
        disk_bytes: what that may hold.
        on_event: told of writes, evictions, damage and of the state of the disk, with a lock held: it must
            not call the store. See telemetry.py.
    """

    def __init__(
        self,
        index: FillIndex,
        folder: Path | str,
        memory_bytes: int,
        disk_path: Path | str | None,
        disk_bytes: int,
        on_event: OnEvent,
    ) -> None:
        self._lock = RLock()
        self._index = index
        self._on_event = on_event
        self.contents = Contents(index, folder, memory_bytes, disk_path, disk_bytes, on_event)
        self._verifying = Verifying(self.contents, self._lock, on_event)
        self._settling = Settling(self.contents, self._lock)
        self._adoption = Adoption(self.contents)
        self._opening = Opening(
            self.contents, self._lock, self._adoption, lambda: self._writer_fd is not None
        )
        self._writer_fd: int | None = None

    def adopt(self) -> bool:
        """Become the writer, and take over what is there.

        Returns:
            False while another process is the writer; try again later.

        Raises:
            ResourceError: the memory tier's folder cannot be used.
        """
        with self._lock:
            folder = self.contents.memory.folder
            try:
                os.makedirs(folder, mode=0o700, exist_ok=True)
                self._writer_fd = self._writer_fd or lock_folder(folder)
            except BlockingIOError:
                return False
            except OSError as error:
                raise ResourceError(f"memory tier {folder} cannot be used: {error}") from error
            self.contents.is_closed = False
            self._adoption.run()
        self.retry_disk()
        return True

    def begin(self, size_hint: int | None = None, is_memory_only: bool = False) -> Writer:
        """Return a writer for a body.

        Args:
            size_hint: how many bytes it will be, as far as that is known.
            is_memory_only: keep it off any disk, as for what may not be stored.

        Raises:
            NoRoom: neither tier takes it.
        """
        return Writer(self.contents, self._lock, size_hint, is_memory_only)

    def is_for_memory(self, size: int) -> bool:
        """Whether a body of so many bytes goes to memory first; else its writer touches the disk at once."""
        return size <= self.contents.memory.max_bytes // MEMORY_SHARE

    def commit(self, writer: Writer, key_id: bytes, record: FillRecord, key: str) -> FillRecord:
        """Store what has been written as the response of a key.

        Args:
            writer: not to be used again.
            key_id: of `fill_index.key_id`.
            record: digest, size and tier are set here.
            key: of which `key_id` was made, for `purge`.

        Returns:
            the record as it stands in the index.

        Raises:
            NoRoom: neither tier or the index takes it; the writer is aborted.
        """
        digest = writer.digest()
        try:
            made = self._put_if_held(writer, digest, key_id, record, key)
            return made or self._put_written(writer, digest, key_id, record, key)
        except NoRoom:
            self._on_event("cas_write", {"status": "error"})
            raise
        finally:
            writer.abort()

    def remember(self, key_id: bytes, record: FillRecord, key: str) -> FillRecord:
        """Store a response without a body; return its record.

        Raises:
            NoRoom: the index does not take it.
        """
        with self._lock:
            return self.contents.put(key_id, record, key, digest=NO_DIGEST)

    def refresh(self, key_id: bytes, changes: Mapping[str, Any]) -> FillRecord | None:
        """Change fields of a record and keep its body, as after a 304; return it, None if there is none.

        Raises:
            NoRoom: its metadata is too long.
        """
        assert not {"digest", "size", "tier"} & set(changes)
        with self._lock:
            old = self._index.stored(key_id)
            if old is None:
                return None
            flags = int(changes.get("flags", old.record.flags)) & ~Flag.UNVERIFIED
            made = old.record._replace(**{**changes, "flags": flags})
            return self.contents.put(key_id, made, old.key, old.order)

    def find(self, key_id: bytes) -> FillRecord | None:
        """Return a response that can be served now; None where there is none.

        A body that an earlier instance wrote, or that was written to since, is hashed first: what is
        damaged is forgotten.
        """
        record = self._index.find(key_id)
        if record is None or record.digest == NO_DIGEST:
            return record
        return self._index.find(key_id) if self._verifying.check(record.digest) else None

    def forget(self, key_id: bytes) -> bool:
        """Remove one response; return whether it was there."""
        with self._lock:
            return self.contents.remove(key_id)

    def purge(self, key: str, is_prefix: bool = False) -> int:
        """Remove the responses of a key, all variants, or of all keys that begin so; return how many.

        A key that the index has cut counts as one that begins so, if it may.
        """
        with self._lock:
            doomed = [each.key_id for each in self._index.items() if each.is_of(key, is_prefix)]
            return sum(map(self.contents.remove, doomed))

    def is_reachable(self) -> bool:
        """Whether the disk tier works, or there is none."""
        disk = self.contents.disk
        return disk is None or disk.is_usable

    def give_up_disk(self) -> None:
        """Take the disk for unusable, as it answers nobody; it is tried again like any that has failed."""
        with self._lock:
            self.contents.fail(DISK, TimeoutError(errno.ETIMEDOUT, "takes too long"))

    def retry_disk(self) -> None:
        """Try a disk that is not in use, if it is time to; see opening.py."""
        self._opening.retry()

    def settle(self) -> bool:
        """Copy one body from memory to the disk; return whether there was one, and the disk works."""
        return self._settling.step()

    def scrub(self, max_bytes: int) -> int:
        """Hash bodies of an earlier instance, one at least; return how many bytes that were."""
        done = 0
        while done < max_bytes:
            with self._lock:
                if not self.contents.unverified:
                    break
                digest = next(iter(self.contents.unverified))
                done += max(1, self.contents.bodies[digest].size)
            self._verifying.check(digest)
        return done

    def sweep(self, folder: str) -> int:
        """Remove what nobody knows from one of the disk tier's folders; return how many bodies that were."""
        disk = self.contents.disk
        if disk is None or not disk.is_usable:
            return 0
        removed = 0
        for digest in list(disk.tier.listing(folder)):
            with self._lock:
                body = self.contents.bodies.get(digest)
                is_wanted = body is not None and (DISK in body.tiers or body.pins)
                if is_wanted or digest in self.contents.unsettled or digest in self.contents.installing:
                    continue
                if self.contents.is_closed:
                    break
                try:
                    disk.tier.unlink(digest)
                except OSError as error:
                    self.contents.fail(DISK, error)
                    break
                removed += 1
        return removed

    def checkpoint(self) -> None:
        """Have the disk's records synchronised, if that is due; one thread at a time."""
        with self._lock:
            overdue = None if self.contents.disk is None else self.contents.disk.overdue
        if overdue is None:
            return
        try:
            overdue.checkpoint()
        except OSError as error:
            with self._lock:
                self.contents.fail(DISK, error)

    def stats(self) -> Stats:
        """Return what it holds and has done."""
        with self._lock:
            contents, disk = self.contents, self.contents.disk
            return Stats(
                memory_bytes=contents.memory.used_bytes,
                disk_bytes=0 if disk is None else disk.tier.used_bytes,
                bodies=len(contents.bodies),
                records=self._index.used,
                unverified=len(contents.unverified),
                unsettled=len(contents.unsettled),
                evictions_memory=contents.eviction.counts[MEMORY],
                evictions_disk=contents.eviction.counts[DISK],
                disk="none" if disk is None else disk.reason or "usable",
            )

    def close(self) -> None:
        """Stop being the writer, as a successor waits. Nothing is lost; what still runs changes nothing."""
        with self._lock:
            self.contents.is_closed = True
            if self.contents.disk is not None:
                self.contents.disk.close()
            if self._writer_fd is not None:
                os.close(self._writer_fd)
                self._writer_fd = None

    def _put_if_held(
        self, writer: Writer, digest: bytes, key_id: bytes, record: FillRecord, key: str
    ) -> FillRecord | None:
        """Give a key to a body that is held already, if that can be trusted."""
        with self._lock:
            self.contents.require_open()
            body = self.contents.bodies.get(digest)
            if body is None or not body.is_verified:
                return None
            if not all(self.contents.tier(number).has(digest, body.size) for number in body.tiers):
                return None
            self._on_event("cas_write", {"status": "dedup"})
            return self._put(body, digest, key_id, record, key)

    def _put_written(
        self, writer: Writer, digest: bytes, key_id: bytes, record: FillRecord, key: str
    ) -> FillRecord:
        """Give what has been written its name, and its key."""
        while True:
            writer.finish()
            try:
                made = self._install(writer, digest, key_id, record, key)
                break
            except OSError as error:
                writer.give_up(error)
        if writer.number == DISK:
            with suppress(OSError):
                self.contents.tier(DISK).sync_names(digest)
        self._on_event("cas_write", {"status": "ok"})
        return made

    def _install(
        self, writer: Writer, digest: bytes, key_id: bytes, record: FillRecord, key: str
    ) -> FillRecord:
        is_on_disk = writer.number == DISK
        if is_on_disk:
            self._install_on_disk(writer, digest)
        with self._lock:
            self.contents.installing.discard(digest)
            self.contents.require_open()
            if not is_on_disk:
                writer.install()
            body = self.contents.add(digest, writer.size, writer.number, is_verified=True)
            self.contents.retarget(body)
            return self._put(body, digest, key_id, record, key)

    def _install_on_disk(self, writer: Writer, digest: bytes) -> None:
        """Give a body its name there, without the lock: a disk that hangs holds up nobody else."""
        with self._lock:
            self.contents.installing.add(digest)
        try:
            writer.install()
        except OSError:
            with self._lock:
                self.contents.installing.discard(digest)
            raise

    def _put(self, body: Body, digest: bytes, key_id: bytes, record: FillRecord, key: str) -> FillRecord:
        """Give a body a key, under the lock; it is pinned meanwhile, and goes if it does not get one."""
        body.pins += 1
        try:
            return self.contents.put(key_id, record, key, digest=digest)
        finally:
            self.contents.unpin(digest, body)
