"""The fill index: which key has which filled response, and whether anybody asked for it lately.

Process      written by the sidecar, one at a time, after `adopt`; read by all workers.
Memory       one segment: a header, then columns (heads of chains, next in chain, sequences, visited
             bytes) and fixed records of RECORD_BYTES, metadata and key inline.
Consistency  a sequence lock a record: odd while it is written, another one after, and another when it is
             taken out, so that its state is the sequence modulo four. A response
             that changes is written to a free record, which is linked before the old one, so a
             reader finds one or the other and never none. CHANGES grows before, in and after
             each change: who found nothing meanwhile looks again. Each record has a CRC, as Python
             has no barriers: what is torn, for whatever reason, is never returned.
             Exception: any reader may set a visited byte, and only ever to 1.
Lifetime     created before the first fork, unlinked by the supervisor when it exits. A sidecar that
             is killed at any instruction leaves chains that can be walked; its successor adopts
             them, and drops what was half written.

Chains are chosen by Python's own hash of bytes, which is keyed per supervisor and inherited by
fork: nobody outside can aim at one chain, and an outsider who attached could not find a key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from edge_server.errors import NoRoom
from edge_server.shm.fill_record import (
    DISK,
    KEY_ID_BYTES,
    MEMORY,
    META_MAX,
    NO_DIGEST,
    RECORD_BYTES,
    TIERS,
    FillRecord,
    Flag,
    Stored,
    is_of,
    key_id,
    pack,
    unpack,
)
from edge_server.shm.segment import Segment

__all__ = [
    "DISK",
    "KEY_ID_BYTES",
    "MEMORY",
    "META_MAX",
    "NO_DIGEST",
    "TIERS",
    "DiskState",
    "FillIndex",
    "FillRecord",
    "Flag",
    "Stored",
    "Word",
    "bytes_for",
    "key_id",
    "records_for",
]

MAGIC = int.from_bytes(b"edgefill", "little")
VERSION = 1

_HEADER_WORDS = 24
_OBJECT_BYTES = 16 << 10  # what an object is taken to have, when records are counted
_LEAST_RECORDS, _MOST_RECORDS = 1 << 10, 1 << 16
_TRIES = 16
_STATES, _LINKED = 4, 2  # of a sequence: free, being written, linked, and never the third


class DiskState(IntEnum):
    """How the disk tier is."""

    NONE = 0  # not configured, or nobody has looked yet
    USABLE = 1
    UNUSABLE = 2


class Word(IntEnum):
    """Words of the header, as indices into its u64 array; CHANGES has a line of its own."""

    MAGIC = 0
    VERSION = 1
    RECORDS = 2
    BUCKETS = 3
    MEMORY_BYTES = 4  # stored in the memory tier
    DISK_BYTES = 5
    DISK_STATE = 6
    CHANGES = 8


def records_for(memory_bytes: int, disk_bytes: int) -> int:
    """Return how many records an index for tiers of these sizes needs: one for each 16 KiB, in bounds."""
    wanted = (memory_bytes + disk_bytes) // _OBJECT_BYTES
    return min(max(wanted, _LEAST_RECORDS), _MOST_RECORDS)


def bytes_for(records: int) -> int:
    """Return how large the segment of an index for `records` responses is."""
    return _starts(*_sizes(records))[-1]


class FillIndex:
    """The index, as it is inherited by fork; made by `create`.

    Attributes:
        records: how many records there are; one of them is always free.
        changes_word: an array of one u64 that has grown when anything has changed.
        sequences: u64 of each place. Who keeps what it made of a record keeps place and sequence
            of `locate` too: while ``sequences[place]`` is that sequence, the record stands unchanged.
        visited: a byte for each place; ``visited[place] = 1`` keeps a body from being evicted.
    """

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._words = segment.buf[: _HEADER_WORDS * 8].cast("Q")
        self.records: Final[int] = self._words[Word.RECORDS]
        buckets = self._words[Word.BUCKETS]
        self._mask = buckets - 1
        starts = _starts(self.records, buckets)
        buf = segment.buf
        self._heads = buf[starts[0] : starts[1]].cast("Q")
        self._nexts = buf[starts[1] : starts[2]].cast("Q")
        self.sequences = buf[starts[2] : starts[3]].cast("Q")
        self.visited = buf[starts[3] : starts[3] + self.records]
        self._bytes = buf[starts[4] : starts[5]]
        self.changes_word = self._words[Word.CHANGES : Word.CHANGES + 1]
        self._free: deque[int] | None = None  # None until `adopt`

    @classmethod
    def create(cls, name: str, records: int) -> FillIndex:
        """Return a new index with room for `records` responses.

        Raises:
            ResourceError: the segment cannot be created.
        """
        segment = Segment.create(name, bytes_for(records))
        records, buckets = _sizes(records)
        words = segment.buf[: _HEADER_WORDS * 8].cast("Q")
        words[Word.RECORDS] = records
        words[Word.BUCKETS] = buckets
        words[Word.VERSION] = VERSION
        words[Word.MAGIC] = MAGIC
        return cls(segment)

    @property
    def changes(self) -> int:
        """How far `changes_word` is."""
        value: int = self.changes_word[0]
        return value

    def get(self, word: Word) -> int:
        """Return a word of the header."""
        value: int = self._words[word]
        return value

    def set(self, word: Word, value: int) -> None:
        """Store a word of the header; for the writer only."""
        self._words[word] = value

    def find(self, key_id: bytes) -> FillRecord | None:
        """Return the response of a key; None where there is none, or only one that is being changed."""
        found = self._find(key_id)
        return None if found is None else found[0].record

    def locate(self, key_id: bytes) -> tuple[int, int, FillRecord] | None:
        """Return place, sequence and response of a key, for `sequences` and `visited`; None as `find`."""
        found = self._find(key_id)
        return None if found is None else (found[0].place, found[1], found[0].record)

    def stored(self, key_id: bytes) -> Stored | None:
        """Return all that is known of a key; None as `find`."""
        found = self._find(key_id)
        return None if found is None else found[0]

    def visit(self, key_id: bytes) -> None:
        """Note that somebody asked for a key."""
        found = self._find(key_id)
        if found is not None:
            self.visited[found[0].place] = 1

    def take_visited(self, key_id: bytes) -> bool:
        """Return whether a key has been visited since this was last asked; for the writer only."""
        found = self._find(key_id)
        if found is None or not self.visited[found[0].place]:
            return False
        self.visited[found[0].place] = 0
        return True

    def items(self) -> Iterator[Stored]:
        """Yield every response; for the writer only, which may change the index meanwhile."""
        for bucket in range(len(self._heads)):
            for place in list(self._chain(bucket)):
                found = self._read(place)
                if found is not None:
                    yield found

    def put(
        self, key_id: bytes, record: FillRecord, key: str = "", order: int = 0, is_cut: bool = False
    ) -> None:
        """Have a key answered by `record` from now on; for the writer only.

        Args:
            key: of which `key_id` was made; kept as far as it fits beside the metadata.
            order: wall clock, ns, when the key was first put.
            is_cut: whether `key` is only the beginning of it.

        Raises:
            NoRoom: there is no free record, or the metadata is longer than META_MAX.
        """
        data = pack(key_id, record, key, order, is_cut)
        assert self._free is not None, "adopt comes first"
        bucket = hash(key_id) & self._mask
        old = self._place(key_id, bucket)
        if old is None and self.is_full:
            raise NoRoom("the fill index is full")
        place = self._free.popleft()
        self.changes_word[0] += 1
        self.sequences[place] += 1
        self._bytes[place * RECORD_BYTES : place * RECORD_BYTES + len(data)] = data
        self._nexts[place] = self._heads[bucket]
        self.visited[place] = 0 if old is None else self.visited[old]
        self.sequences[place] += 1
        self._heads[bucket] = place + 1
        if old is not None:
            # NOTE: who came before the new record was linked, and does not meet the old one, looks again.
            self.changes_word[0] += 1
            self._unlink(old, bucket)
        self.changes_word[0] += 1

    def remove(self, key_id: bytes) -> bool:
        """Forget a key; return whether it was there. For the writer only."""
        bucket = hash(key_id) & self._mask
        place = self._place(key_id, bucket)
        if place is None:
            return False
        self.changes_word[0] += 1
        self._unlink(place, bucket)
        self.changes_word[0] += 1
        return True

    @property
    def room(self) -> int:
        """How many new keys can be put; for the writer only."""
        assert self._free is not None, "adopt comes first"
        return len(self._free) - 1

    @property
    def used(self) -> int:
        """How many keys there are; for the writer only."""
        return self.records - 1 - self.room

    @property
    def is_full(self) -> bool:
        """Whether a `put` of a new key has no room; for the writer only."""
        return self.room <= 0

    def adopt(self) -> list[Stored]:
        """Become the writer: drop what a predecessor left half done, and return what stands.

        The predecessor must have ended, or never write again.
        """
        self.changes_word[0] += 1
        kept: dict[int, Stored] = {}
        for bucket in range(len(self._heads)):
            self._adopt_chain(bucket, kept)
        free = [place for place in range(self.records) if place not in kept]
        for place in free:
            self.sequences[place] += _STATES - self.sequences[place] % _STATES
        self._free = deque(free)
        self.changes_word[0] += 1
        return list(kept.values())

    def close(self) -> None:
        """Drop this process's mapping."""
        for view in (self._words, self._heads, self._nexts, self.sequences, self.changes_word):
            view.release()
        self.visited.release()
        self._bytes.release()
        self.segment.close()

    def _adopt_chain(self, bucket: int, kept: dict[int, Stored]) -> None:
        """Link again what is whole in a chain, the first of each key."""
        mine: dict[bytes, int] = {}
        for place in self._chain(bucket):
            found = self._read(place)
            if found is None or place in kept:
                continue
            if found.key_id not in mine and hash(found.key_id) & self._mask == bucket:
                mine[found.key_id] = place
                kept[place] = found
        following = 0
        for place in reversed(mine.values()):
            self._nexts[place] = following
            following = place + 1
        self._heads[bucket] = following

    def _chain(self, bucket: int) -> Iterator[int]:
        place = self._heads[bucket]
        steps = 0
        while place and steps < self.records:
            yield place - 1
            place = self._nexts[place - 1]
            steps += 1

    def _place(self, key_id: bytes, bucket: int) -> int | None:
        for place in self._chain(bucket):
            start = place * RECORD_BYTES
            if is_of(self._bytes[start : start + RECORD_BYTES], key_id):
                return place
        return None

    def _unlink(self, place: int, bucket: int) -> None:
        """Take a record out of its chain, and then out of the hands of those who keep its sequence."""
        assert self._free is not None, "adopt comes first"
        before = None
        for other in self._chain(bucket):
            if other == place:
                break
            before = other
        if before is None:
            self._heads[bucket] = self._nexts[place]
        else:
            self._nexts[before] = self._nexts[place]
        self.sequences[place] += 2
        self._free.append(place)

    def _find(self, key_id: bytes) -> tuple[Stored, int] | None:
        """Return what is stored for a key, and its sequence."""
        bucket = hash(key_id) & self._mask
        for _ in range(_TRIES):
            before = self.changes_word[0]
            place = self._place(key_id, bucket)
            if place is not None:
                sequence = self.sequences[place]
                found = self._read(place)
                if found is not None and found.key_id == key_id and self.sequences[place] == sequence:
                    return found, sequence
            elif self.changes_word[0] == before:
                return None
        return None

    def _read(self, place: int) -> Stored | None:
        """Return a record that is whole; None for any other."""
        sequence = self.sequences[place]
        start = place * RECORD_BYTES
        data = bytes(self._bytes[start : start + RECORD_BYTES])
        if sequence % _STATES != _LINKED or self.sequences[place] != sequence:
            return None
        found = unpack(data)
        return None if found is None else found._replace(place=place)


def _sizes(records: int) -> tuple[int, int]:
    """Return how many records there are, with the one that is free, and how many buckets."""
    return records + 1, 1 << (records + 1).bit_length()


def _starts(records: int, buckets: int) -> list[int]:
    """Return where heads, nexts, sequences, visited and records begin, and where all ends."""
    starts = [_HEADER_WORDS * 8]
    for size in (buckets * 8, records * 8, records * 8, records, records * RECORD_BYTES):
        starts.append(-(-(starts[-1] + size) // 64) * 64)
    return starts
