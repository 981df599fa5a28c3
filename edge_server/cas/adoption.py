"""Adoption: what a store takes over from a sidecar before it, or from an instance before that.

Process      the sidecar, under the store's lock, once it is the writer, and whenever the disk works again.
Consistency  a record without its file is removed, and so is a temporary file, or a body in memory without a
             record. The index is newer than the disk's records, which add what it does not have. Bodies on
             the disk that nobody knows are left to the sweep.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from edge_server.cas.bodies import body_path
from edge_server.cas.contents import Contents
from edge_server.cas.disk import Opened
from edge_server.cas.tier import FOLDERS
from edge_server.errors import NoRoom, ResourceError
from edge_server.shm.fill_index import DISK, MEMORY, NO_DIGEST, Flag, Stored


class Survey(NamedTuple):
    """What of the disk's bodies is there.

    Attributes:
        gone: of those that were expected.
        there: of those that its records name.
    """

    gone: set[bytes]
    there: set[bytes]


class Adoption:
    """Takes over what stands in index, memory and on the disk."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    def run(self) -> None:
        """Take over what is in the index and in memory; the disk follows.

        Raises:
            ResourceError: the memory tier's folder cannot be used.
        """
        contents = self._contents
        try:
            contents.memory.open()
        except OSError as error:
            raise ResourceError(f"memory tier {contents.memory.folder} cannot be used: {error}") from error
        for stored in sorted(contents.index.adopt(), key=lambda stored: stored.order):
            self._take(stored)
        self._remove_unknown()
        contents.make_room(MEMORY)

    def expected(self) -> dict[bytes, int]:
        """Return which bodies are to be on the disk, and their sizes."""
        return {digest: body.size for digest, body in self._contents.bodies.items() if DISK in body.tiers}

    def survey(self, expected: dict[bytes, int], rows: list[tuple[str, Stored]]) -> Survey:
        """Look which bodies are on the disk; without the store's lock."""
        disk = self._contents.disk
        assert disk is not None
        gone = {digest for digest, size in expected.items() if not disk.tier.has(digest, size)}
        told = {stored.record.digest: stored.record.size for _, stored in rows}
        there = {
            digest for digest, size in told.items() if _is_file(body_path(disk.tier.folder, digest), size)
        }
        return Survey(gone, there)

    def take_disk(self, opened: Opened, survey: Survey) -> None:
        """Use the disk tier, and take over what its records add."""
        disk = self._contents.disk
        assert disk is not None
        rows = disk.take(opened)
        if rows is None:
            return
        for digest in survey.gone:
            body = self._contents.bodies.get(digest)
            if body is None or DISK not in body.tiers:
                continue
            self._contents.lose(digest, DISK)
            if digest in self._contents.bodies:
                self._contents.unsettle(digest)
        self._load(rows, survey.there)
        disk.fit(opened.found)
        self._keep({stored.key_id: stored for _, stored in rows})
        self._contents.make_room(DISK)

    def _take(self, stored: Stored) -> None:
        """Take over one record of the index."""
        contents, record = self._contents, stored.record
        if record.flags & Flag.PASSED:
            contents.index.remove(stored.key_id)
        elif record.digest == NO_DIGEST:
            contents.bodiless.add(stored.key_id)
        elif (number := self._where(stored)) is None:
            contents.index.remove(stored.key_id)
        else:
            body = contents.add(record.digest, record.size, number, not record.flags & Flag.UNVERIFIED)
            body.keys.add(stored.key_id)
            contents.tier(number).queue.add(record.digest)
            if number != record.tier:
                contents.retarget(body)
            if number == MEMORY:
                contents.unsettle(record.digest)

    def _where(self, stored: Stored) -> int | None:
        """Return the tier that has the body of a record."""
        record = stored.record
        for number in (record.tier, DISK, MEMORY):
            if (number != DISK or self._contents.disk is not None) and self._contents.tier(number).has(
                record.digest, record.size
            ):
                return number
        return None

    def _remove_unknown(self) -> None:
        memory = self._contents.memory
        for folder in FOLDERS:
            for digest in memory.listing(folder):
                if digest not in self._contents.bodies:
                    memory.unlink(digest)

    def _load(self, rows: list[tuple[str, Stored]], there: set[bytes]) -> None:
        """Add the disk's records that the index does not have, the newest that it has room for."""
        contents = self._contents
        assert contents.disk is not None
        new = [(key, stored) for key, stored in rows if contents.index.find(stored.key_id) is None]
        room = contents.index.room
        unusable = [stored.key_id for _, stored in new[: max(0, len(new) - room)]]
        for key, stored in new[max(0, len(new) - room) :]:
            if not self._load_one(key, stored, there):
                unusable.append(stored.key_id)
        contents.disk.forget(unusable)

    def _load_one(self, key: str, stored: Stored, there: set[bytes]) -> bool:
        """Take over a record of the disk; return False if it is of no use."""
        contents, record = self._contents, stored.record
        assert contents.disk is not None
        is_cut = stored.is_cut and key == stored.key
        try:
            if record.digest == NO_DIGEST:
                contents.put(stored.key_id, record, key, stored.order, is_kept=True, is_cut=is_cut)
                return True
            body = contents.bodies.get(record.digest)
            if body is None:
                if record.digest not in there:
                    return False
                body = contents.add(record.digest, record.size, DISK, is_verified=False)
            contents.put(stored.key_id, record, key, stored.order, is_kept=True, is_cut=is_cut)
            return True
        except NoRoom:
            return False

    def _keep(self, kept: dict[bytes, Stored]) -> None:
        """Have the disk keep what stands there, and was put while it did not work."""
        contents = self._contents
        assert contents.disk is not None
        for stored in contents.index.items():
            is_new = _told(stored) != _told(kept.get(stored.key_id))
            if is_new and contents.is_on_disk(stored.record):
                contents.disk.keep(stored.key_id, stored)


def _told(stored: Stored | None) -> object:
    """Return what a record says, wherever its body is."""
    return (
        None
        if stored is None
        else stored.record._replace(tier=0, flags=stored.record.flags & ~Flag.UNVERIFIED)
    )


def _is_file(path: str, size: int) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size
