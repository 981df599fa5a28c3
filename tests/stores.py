"""A store as tests use it: small tiers, keys filled by a word, bodies read as a worker reads them."""

from __future__ import annotations

import os
from pathlib import Path

from blake3 import blake3

from edge_server.cas.bodies import BodyFolder
from edge_server.cas.store import Store
from edge_server.shm.fill_index import NO_DIGEST, FillIndex, FillRecord, Word, key_id

RECORDS = 200
KIB = 1 << 10
MEMORY_BYTES, DISK_BYTES = 64 * KIB, 256 * KIB

BLANK = FillRecord(
    digest=NO_DIGEST,
    size=0,
    tier=0,
    flags=0,
    stored_ms=1_700_000_000_000,
    age_s=1,
    fresh_ms=1_700_000_060_000,
    swr_ms=1_700_000_090_000,
    sie_ms=1_700_003_600_000,
    status=200,
    meta=b'{"type":"text/plain"}',
)


class Shelf:
    """One store after the other, on the same index and folders.

    Attributes:
        store: the present one, which has adopted.
        events: what it has told.
    """

    def __init__(
        self,
        index: FillIndex,
        memory: Path,
        disk: Path | None,
        memory_bytes: int = MEMORY_BYTES,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        self.index = index
        self.memory = memory
        self.disk = disk
        self.events: list[tuple[str, dict[str, object]]] = []
        self._sizes = (memory_bytes, disk_bytes)
        self.bodies = BodyFolder(memory, disk)
        self.store = self.successor()

    def successor(self) -> Store:
        """Begin another store in this one's place."""
        memory_bytes, disk_bytes = self._sizes
        self.store = Store(self.index, self.memory, memory_bytes, self.disk, disk_bytes, self._on_event)
        assert self.store.adopt()
        return self.store

    def fill(self, key: str, body: bytes, is_memory_only: bool = False, **fields: int) -> FillRecord:
        """Store a body as the response of a key."""
        writer = self.store.begin(len(body), is_memory_only)
        for start in range(0, len(body), 5000):
            writer.write(body[start : start + 5000])
        return self.store.commit(writer, key_id(key), BLANK._replace(**fields), key)

    def read(self, key: str) -> bytes | None:
        """Return a body as the sidecar and then a worker get at it; None where there is none."""
        record = self.store.find(key_id(key))
        return None if record is None else self.body(record)

    def body(self, record: FillRecord) -> bytes:
        """Return the body of a record, which must be what it says."""
        fd = self.bodies.open(record)
        with open(fd, "rb") as file:
            body = file.read()
        assert blake3(body).digest() == record.digest
        return body

    def settle(self) -> None:
        """Have all that is in memory copied to the disk."""
        while self.store.settle():
            pass

    def told(self, event: str) -> list[dict[str, object]]:
        """Return what was told of an event."""
        return [fields for name, fields in self.events if name == event]

    def files(self) -> dict[Path, int]:
        """Return the bodies that stand in both folders, with their sizes; temporary files too."""
        folders = [folder for folder in (self.memory, self.disk) if folder is not None and folder.is_dir()]
        found = (path for folder in folders for path in folder.glob("*/*"))
        return {path: path.lstat().st_size for path in found}

    def check(self) -> None:
        """See that files, sums and bounds agree."""
        stats, files = self.store.stats(), self.files()
        for folder, used, bound in (
            (self.memory, stats.memory_bytes, self._sizes[0]),
            (self.disk, stats.disk_bytes, self._sizes[1]),
        ):
            there = sum(size for path, size in files.items() if folder in path.parents)
            assert there == used <= bound
        assert self.index.get(Word.MEMORY_BYTES) == stats.memory_bytes
        assert self.index.get(Word.DISK_BYTES) == stats.disk_bytes

    def close(self) -> None:
        """End the present store."""
        self.store.close()

    def _on_event(self, event: str, fields: dict[str, object]) -> None:
        self.events.append((event, fields))


def body_of(number: int, size: int) -> bytes:
    """Return `size` bytes that no other number has."""
    return blake3(b"%d" % number).digest(length=size) if size else b""


def damage(path: Path, at: int = 0) -> None:
    """Flip a bit of a file in its place, as a disk does: nothing but the byte shows it."""
    before = os.stat(path)
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    os.chmod(path, 0o400)
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
