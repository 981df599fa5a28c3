"""A disk tier from outside: looked at by anybody, tidied while no instance has it.

Process      `svc-edge cas`. Looking takes no lock, and leaves everything as it is.
Consistency  changes take the lock that an instance holds, so it is one or the other.
Lifetime     a command's.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from edge_server.cas.bodies import body_path
from edge_server.cas.disk import lock_folder
from edge_server.cas.disk_records import NAME, DiskRecords
from edge_server.cas.tier import FOLDERS, Tier
from edge_server.cas.verifying import is_whole
from edge_server.errors import ResourceError
from edge_server.shm.fill_index import NO_DIGEST, FillRecord, Stored


class InUse(ResourceError):
    """An instance has the folder."""


class Held(NamedTuple):
    """A response that a folder holds."""

    key: str
    stored: Stored

    @property
    def record(self) -> FillRecord:
        """Its record."""
        return self.stored.record


class Tidied(NamedTuple):
    """What `tidy` has removed."""

    records: int  # whose body was not there
    bodies: int  # that no record had
    temporary: int  # files that a killed process left
    freed_bytes: int


class DiskShelf:
    """The folder of a disk tier (`cas.path`).

    Raises:
        ResourceError: there is no store in it, or it cannot be read.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = str(folder)
        self._tier = Tier(folder, 0, True, lambda digest: False)
        if not os.path.isfile(f"{folder}/{NAME}"):
            raise ResourceError(f"{folder} holds no store of filled objects")

    def held(self) -> list[Held]:
        """Return all that is held, the oldest first.

        Raises:
            ResourceError: the records cannot be read.
        """
        with _explained(self.folder):
            records = DiskRecords(self.folder, is_read_only=True)
            try:
                return [Held(key, stored) for key, stored in records.load()]
            finally:
                records.close()

    def bodies(self, sample: int | None = None) -> list[tuple[bytes, int]]:
        """Return digest and size of the bodies of all that is held, or of so many of them, by chance."""
        sizes = {
            held.record.digest: held.record.size for held in self.held() if held.record.digest != NO_DIGEST
        }
        found = sorted(sizes.items())
        return found if sample is None or sample >= len(found) else random.sample(found, sample)

    def is_whole(self, digest: bytes, size: int) -> bool:
        """Hash a body; return whether it is what its name says."""
        return is_whole(body_path(self.folder, digest), digest, size)

    def remove(self, digests: Iterable[bytes]) -> int:
        """Remove bodies, and the responses that have them; return how many responses.

        Raises:
            ResourceError: an instance has the folder, or it cannot be written.
        """
        doomed = set(digests)
        with self._alone() as records:
            keys = [held.stored.key_id for held in self.held() if held.record.digest in doomed]
            records.remove(keys)
            for digest in doomed:
                self._tier.unlink(digest)
        return len(keys)

    def purge(self, key: str, is_prefix: bool) -> int:
        """Remove the responses of a key, or of those that begin so; return how many.

        Raises:
            ResourceError: an instance has the folder, or it cannot be written.
        """
        with self._alone() as records:
            doomed = [
                held for held in self.held() if (held.key.startswith(key) if is_prefix else held.key == key)
            ]
            records.remove(held.stored.key_id for held in doomed)
            kept = {held.record.digest for held in self.held()}
            for digest in {held.record.digest for held in doomed} - kept - {NO_DIGEST}:
                self._tier.unlink(digest)
        return len(doomed)

    def tidy(self) -> Tidied:
        """Remove what is of no use: records without their body, bodies without a record, temporary files.

        Raises:
            ResourceError: an instance has the folder, or it cannot be written.
        """
        with self._alone() as records:
            held = [each for each in self.held() if each.record.digest != NO_DIGEST]
            empty = [each.stored.key_id for each in held if not self._has(each.record)]
            records.remove(empty)
            kept = {each.record.digest for each in held if each.stored.key_id not in set(empty)}
            freed = [self._unlinked(path) for path in self._unknown(kept)]
            temporary = [self._unlinked(path) for path in _files(f"{self.folder}/tmp")]
        return Tidied(len(empty), len(freed), len(temporary), sum(freed) + sum(temporary))

    def _has(self, record: FillRecord) -> bool:
        path = body_path(self.folder, record.digest)
        return os.path.isfile(path) and not os.path.islink(path) and os.lstat(path).st_size == record.size

    def _unknown(self, kept: set[bytes]) -> Iterator[str]:
        for folder in FOLDERS:
            for digest in list(self._tier.listing(folder)):
                if digest not in kept:
                    yield body_path(self.folder, digest)

    def _unlinked(self, path: str) -> int:
        size = os.lstat(path).st_size
        os.unlink(path)
        return size

    @contextmanager
    def _alone(self) -> Iterator[DiskRecords]:
        """Hold the folder's lock, and its records."""
        with _explained(self.folder):
            try:
                fd = lock_folder(self.folder)
            except BlockingIOError as error:
                raise InUse(f"{self.folder} is in use by another process") from error
            try:
                records = DiskRecords(self.folder)
                try:
                    yield records
                finally:
                    records.close()
            finally:
                os.close(fd)


@contextmanager
def _explained(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceError(f"{folder}: {error.strerror or error}") from error


def _files(folder: str) -> list[str]:
    try:
        return [f"{folder}/{name}" for name in os.listdir(folder)]
    except FileNotFoundError:
        return []
