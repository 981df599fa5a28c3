"""The catalog: from a path or a tile to the bytes that answer it.

Process      built once a generation: the first by the supervisor before it forks, later ones by a
             builder child, from which the supervisor adopts them; read by all.
Memory       one sealed segment of columns (below) and the digests beside it; the few
             objects a pack needs for itself (name, TileJSON) are its manifest, inherited by fork.
Consistency  nobody writes after `build` returns: the views handed out are read-only.
Lifetime     closed by each process that leaves it, unlinked by the supervisor.

Rows of `digests` are the entries first, then the tiles of each tile set in turn.

    header      16 u64: magic, version, generation, counts
    table       u64 hash and u32 entry a slot, see path_table.py
    entries     u64 path start, u64 offset, u64 length, u32 file, u16 type, u8 flags, 3 x u32 variant
    files       u64 path start, u64 device, u64 inode, u64 size, u64 mtime_ns
    tiles       u64 first id, u32 run length, u64 offset, u32 length; one group a tile set
    bytes       the paths of entries and files, UTF-8; inline bodies
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from edge_server.errors import PackUnreadable
from edge_server.packs.reader import NO_FILE, Entry, Pack, SourceFile, TileSet
from edge_server.packs.source import is_unchanged, open_source
from edge_server.shm.digests import Digests
from edge_server.shm.path_table import bind_find, layout
from edge_server.shm.segment import Segment

MAGIC = int.from_bytes(b"SVECATLG", "little")
VERSION = 1
CODINGS = ("br", "zstd", "gzip")  # order of the variant columns
HASH_INLINE_BYTES = 8 << 20  # an entry up to this size is hashed when it is first wanted, larger ones before
_HEADER_WORDS = 16
_NO_FILE_WORD = 0xFFFFFFFF
_INLINE, _ARCHIVE = 1, 2
_HASH_BLOCK_BYTES = 1 << 20
_TILE_COLUMNS = ("first_ids", "run_lengths", "offsets", "lengths")
_ALIGN_BYTES = 64


class PackSummary(NamedTuple):
    """What status pages tell of a pack; `bytes` is what its files measure, `verified` how they were."""

    name: str
    kind: str
    entries: int
    tiles: int
    bytes: int
    min_zoom: int | None
    max_zoom: int | None
    verified: str


class CatalogEntry(NamedTuple):
    """One entry as the catalog holds it; `row` is its digest's, `variants` are entry numbers."""

    path: str
    file: int
    offset: int
    length: int
    media_type: str
    is_archive: bool
    is_inline: bool
    variants: tuple[tuple[str, int], ...]


class Manifest(NamedTuple):
    """What a process must be handed besides the segments to read a catalog; it can be pickled.

    Attributes:
        name: of the segment of columns; the digests' name follows from it.
        columns: where each column begins in bytes, what it measures, and its memoryview code.
        tilesets: each without its columns, with its file and its first digest row.
        archives: the files whose descriptors belong to it, in the order in which they are passed.
    """

    name: str
    generation: int
    columns: dict[str, tuple[int, int, str]]
    mask: int
    media_types: tuple[str, ...]
    tilesets: tuple[tuple[TileSet, int, int], ...]
    packs: tuple[PackSummary, ...]
    archives: tuple[int, ...]


class TileView:
    """The tiles of one archive: a search over columns in shared memory."""

    __slots__ = (
        "_first_ids",
        "_lengths",
        "_offsets",
        "_run_lengths",
        "coding",
        "extensions",
        "file",
        "first_row",
        "max_zoom",
        "media_type",
        "min_zoom",
        "name",
        "rows",
        "tilejson",
    )

    def __init__(self, tiles: TileSet, file: int, first_row: int, columns: Sequence[memoryview]) -> None:
        self.name = tiles.name
        self.extensions = tiles.extensions
        self.media_type = tiles.media_type
        self.coding = tiles.coding
        self.min_zoom = tiles.min_zoom
        self.max_zoom = tiles.max_zoom
        self.tilejson: Mapping[str, Any] = tiles.tilejson
        self.file = file
        self.first_row = first_row
        self._first_ids, self._run_lengths, self._offsets, self._lengths = columns
        self.rows = len(self._first_ids)

    def find(self, tile_id: int) -> int:
        """Return the number of the directory entry that covers `tile_id`, or -1."""
        index = bisect_right(self._first_ids, tile_id) - 1
        if index >= 0 and tile_id - self._first_ids[index] < self._run_lengths[index]:
            return index
        return -1

    def span(self, index: int) -> tuple[int, int]:
        """Return ``(offset, length)`` of a directory entry's bytes in the archive."""
        return self._offsets[index], self._lengths[index]

    def row(self, index: int) -> int:
        """Return the digest row of a directory entry."""
        return self.first_row + index


class Catalog:
    """All packs of one generation. Made by `build`, or by `adopt` of what another process built."""

    def __init__(
        self, manifest: Manifest, segment: Segment, digests: Digests, descriptors: Sequence[int]
    ) -> None:
        sealed = segment.buf.toreadonly()
        columns = {key: _view(sealed, *place) for key, place in manifest.columns.items()}
        self.manifest = manifest
        self.generation = manifest.generation
        self.packs = manifest.packs
        self.digests = digests
        self.tilesets = {
            tiles.name: TileView(tiles, file, first_row, [columns[key] for key in _tile_columns(tiles.name)])
            for tiles, file, first_row in manifest.tilesets
        }
        self.descriptors = dict(zip(manifest.archives, descriptors, strict=True))
        self.entries = len(columns["entry_offset"])
        self._segment = segment
        self._columns = columns
        self.find = bind_find(columns["table_hash"], columns["table_entry"], manifest.mask, self.path_bytes)

    @classmethod
    def build(cls, packs: Sequence[Pack], *, generation: int, name: str) -> Catalog:
        """Lay the packs out in a new segment called `name`, and seal it.

        Opens every archive once: its descriptor is inherited by the children, so that
        an archive replaced on disk keeps answering with the bytes that were mounted.

        Raises:
            PackUnreadable: an archive is no longer the file that was read.
            ResourceError: there is no room in /dev/shm.
        """
        return _Builder(packs, generation).build(name)

    @classmethod
    def adopt(cls, manifest: Manifest, descriptors: Sequence[int]) -> Catalog:
        """Return the catalog that a child of this process has built, and is its owner from now on.

        Args:
            descriptors: of ``manifest.archives``, owned by the catalog once this returns.

        Raises:
            ResourceError: its segments are gone.
        """
        segment = Segment.adopt(manifest.name)
        try:
            return cls(manifest, segment, Digests.adopt(_digests_name(manifest.name)), descriptors)
        except BaseException:
            segment.close()
            raise

    def path_bytes(self, index: int) -> bytes:
        """Return the path of an entry, UTF-8."""
        starts = self._columns["entry_path"]
        return bytes(self._columns["bytes"][starts[index] : starts[index + 1]])

    def entry(self, index: int) -> CatalogEntry:
        """Return an entry's record; `index` is what `find` returned."""
        columns = self._columns
        flags = columns["entry_flags"][index]
        is_inline = bool(flags & _INLINE)
        variants = tuple(
            (coding, columns[f"entry_{coding}"][index] - 1)
            for coding in CODINGS
            if columns[f"entry_{coding}"][index]
        )
        return CatalogEntry(
            path=self.path_bytes(index).decode(),
            file=NO_FILE if is_inline else columns["entry_file"][index],
            offset=columns["entry_offset"][index],
            length=columns["entry_length"][index],
            media_type=self.manifest.media_types[columns["entry_type"][index]],
            is_archive=bool(flags & _ARCHIVE),
            is_inline=is_inline,
            variants=variants,
        )

    def inline(self, entry: CatalogEntry) -> bytes:
        """Return the body of an entry that has no file."""
        return bytes(self._columns["bytes"][entry.offset : entry.offset + entry.length])

    def file(self, index: int) -> SourceFile:
        """Return a file as it was when its pack was read."""
        columns = self._columns
        starts = columns["file_path"]
        return SourceFile(
            path=os.fsdecode(bytes(columns["bytes"][starts[index] : starts[index + 1]])),
            device=columns["file_device"][index],
            inode=columns["file_inode"][index],
            size=columns["file_size"][index],
            mtime_ns=columns["file_mtime"][index],
        )

    def open(self, index: int) -> int:
        """Open a file of a pack for reading; the caller closes the descriptor.

        Raises:
            PackUnreadable: it is gone, cannot be opened, or is another file by now.
        """
        inherited = self.descriptors.get(index)
        return os.dup(inherited) if inherited is not None else open_source(self.file(index))

    def pending_digests(self) -> list[int]:
        """Return the entries too big to be hashed within a request and not yet hashed, smallest first."""
        lengths = np.frombuffer(self._columns["entry_length"], dtype=np.uint64)
        big = np.flatnonzero((lengths > HASH_INLINE_BYTES) & ~self.digests.known(self.entries))
        return [int(index) for index in big[np.argsort(lengths[big], kind="stable")]]

    def hash_entry(self, index: int, stop: threading.Event | None = None) -> bytes | None:
        """Return an entry's digest, computing and recording it if nobody has; None if stopped.

        Raises:
            PackUnreadable: the file cannot be read, or changed since its pack was read.
        """
        known = self.digests.get(index)
        if known is not None:
            return known
        entry = self.entry(index)
        if entry.is_inline:
            digest = blake3(self.inline(entry)).digest()
        else:
            descriptor = self.open(entry.file)
            try:
                stopped_or_digest = _hash_span(
                    descriptor, entry.offset, entry.length, self.file(entry.file), stop
                )
            finally:
                os.close(descriptor)
            if stopped_or_digest is None:
                return None
            digest = stopped_or_digest
        self.digests.put(index, digest)
        return digest

    def close(self) -> None:
        """Drop this process's mappings and descriptors; nothing of the catalog may be used after it."""
        for descriptor in self.descriptors.values():
            os.close(descriptor)
        self.descriptors = {}
        for column in self._columns.values():
            column.release()
        self.digests.close()
        self._segment.close()

    def unlink(self) -> None:
        """Remove the segments; their memory goes with the last process that maps them."""
        self.digests.unlink()
        self._segment.unlink()


def _hash_span(
    descriptor: int, offset: int, length: int, file: SourceFile, stop: threading.Event | None
) -> bytes | None:
    hasher = blake3()
    position, end = offset, offset + length
    try:
        while position < end:
            if stop is not None and stop.is_set():
                return None
            block = os.pread(descriptor, min(_HASH_BLOCK_BYTES, end - position), position)
            if not block:
                raise PackUnreadable(f"ends at byte {position} instead of {end}", file.path)
            hasher.update(block)
            position += len(block)
        if not is_unchanged(os.fstat(descriptor), file):
            raise PackUnreadable("changed since it was mounted", file.path)
    except OSError as error:
        raise PackUnreadable(f"cannot be read: {error.strerror}", file.path) from error
    return hasher.digest()


class _Builder:
    """Collects the columns of all packs, then copies them into one segment."""

    def __init__(self, packs: Sequence[Pack], generation: int) -> None:
        self._packs = packs
        self._generation = generation
        self._strings: list[bytes] = []
        self._strings_bytes = 0
        self._media_types: dict[str, int] = {}
        self._file_base: list[int] = []
        base = 0
        for pack in packs:
            self._file_base.append(base)
            base += len(pack.files)

    def build(self, name: str) -> Catalog:
        columns = {**self._entry_columns(), **self._file_columns()}
        tilesets = self._tilesets()
        for tiles, _ in tilesets:
            for column, key in zip(_TILE_COLUMNS, _tile_columns(tiles.name), strict=True):
                columns[key] = getattr(tiles, column)
        columns["bytes"] = np.frombuffer(b"".join(self._strings), dtype=np.uint8)
        segment, places = _place(name, columns, self._generation)
        digests = self._digests(_digests_name(name), sum(tiles.first_ids.size for tiles, _ in tilesets))
        descriptors = self._open_archives()
        manifest = Manifest(
            name=name,
            generation=self._generation,
            columns=places,
            mask=self._mask,
            media_types=tuple(self._media_types),
            tilesets=_without_columns(tilesets, len(self._digest_of_entry)),
            packs=tuple(map(_summary, self._packs)),
            archives=tuple(descriptors),
        )
        return Catalog(manifest, segment, digests, list(descriptors.values()))

    def _entry_columns(self) -> dict[str, npt.NDArray[Any]]:
        entries: list[tuple[int, Entry]] = [
            (base, entry)
            for base, pack in zip(self._file_base, self._packs, strict=True)
            for entry in pack.entries
        ]
        paths = [entry.path.encode() for _, entry in entries]
        numbers = {entry.path: number for number, (_, entry) in enumerate(entries, 1)}
        table_hash, table_entry, self._mask = layout(paths)
        self._digest_of_entry = [entry.digest for _, entry in entries]
        columns: dict[str, npt.NDArray[Any]] = {
            "table_hash": table_hash,
            "table_entry": table_entry,
            "entry_path": self._add_strings(paths),
            "entry_offset": np.array([self._offset(entry) for _, entry in entries], dtype=np.uint64),
            "entry_length": np.array([entry.length for _, entry in entries], dtype=np.uint64),
            "entry_file": np.array(
                [_NO_FILE_WORD if entry.file == NO_FILE else base + entry.file for base, entry in entries],
                dtype=np.uint32,
            ),
            "entry_type": np.array(
                [self._media_type(entry.media_type) for _, entry in entries], dtype=np.uint16
            ),
            "entry_flags": np.array([_flags(entry) for _, entry in entries], dtype=np.uint8),
        }
        variants = [dict(entry.variants) for _, entry in entries]
        for coding in CODINGS:
            columns[f"entry_{coding}"] = np.array(
                [numbers[siblings[coding]] if coding in siblings else 0 for siblings in variants],
                dtype=np.uint32,
            )
        return columns

    def _file_columns(self) -> dict[str, npt.NDArray[Any]]:
        files = [file for pack in self._packs for file in pack.files]
        return {
            "file_path": self._add_strings([os.fsencode(file.path) for file in files]),
            "file_device": np.array([file.device for file in files], dtype=np.uint64),
            "file_inode": np.array([file.inode for file in files], dtype=np.uint64),
            "file_size": np.array([file.size for file in files], dtype=np.uint64),
            "file_mtime": np.array([file.mtime_ns for file in files], dtype=np.int64),
        }

    def _add_strings(self, strings: Sequence[bytes]) -> npt.NDArray[np.uint64]:
        """Append to the bytes column; return where each begins, and where the last ends."""
        lengths = np.fromiter(map(len, strings), dtype=np.uint64, count=len(strings))
        starts = np.zeros(len(strings) + 1, dtype=np.uint64)
        np.cumsum(lengths, out=starts[1:])
        starts += np.uint64(self._strings_bytes)
        self._strings.extend(strings)
        self._strings_bytes = int(starts[-1])
        return starts

    def _offset(self, entry: Entry) -> int:
        if entry.inline is None:
            return entry.offset
        return int(self._add_strings([entry.inline])[0])

    def _media_type(self, name: str) -> int:
        return self._media_types.setdefault(name, len(self._media_types))

    def _tilesets(self) -> list[tuple[TileSet, int]]:
        return [
            (tiles, base + tiles.file)
            for base, pack in zip(self._file_base, self._packs, strict=True)
            for tiles in pack.tilesets
        ]

    def _digests(self, name: str, tile_rows: int) -> Digests:
        digests = Digests.create(name, len(self._digest_of_entry) + tile_rows)
        for row, digest in enumerate(self._digest_of_entry):
            if digest is not None:
                digests.put(row, digest)
        return digests

    def _open_archives(self) -> dict[int, int]:
        descriptors: dict[int, int] = {}
        for base, pack in zip(self._file_base, self._packs, strict=True):
            for tiles in pack.tilesets:
                descriptors[base + tiles.file] = open_source(pack.files[tiles.file])
        return descriptors


def _flags(entry: Entry) -> int:
    return (_INLINE if entry.inline is not None else 0) | (_ARCHIVE if entry.is_archive else 0)


def _tile_columns(name: str) -> list[str]:
    return [f"{name}/{column}" for column in _TILE_COLUMNS]


def _without_columns(
    tilesets: Iterable[tuple[TileSet, int]], first_row: int
) -> tuple[tuple[TileSet, int, int], ...]:
    """Return tile sets as a manifest has them; `first_row` is the first one's."""
    result = []
    for tiles, file in tilesets:
        described = {column: getattr(tiles, column)[:0].copy() for column in _TILE_COLUMNS}
        result.append((replace(tiles, **described), file, first_row))
        first_row += tiles.first_ids.size
    return tuple(result)


def segment_names(name: str) -> tuple[str, str]:
    """Return the names of the segments of a catalog called `name`."""
    return name, _digests_name(name)


def _digests_name(name: str) -> str:
    return f"{name}-digests"


def _summary(pack: Pack) -> PackSummary:
    tiles = pack.tilesets
    return PackSummary(
        name=pack.name,
        kind=pack.kind,
        entries=len(pack.entries),
        tiles=sum(int(each.run_lengths.sum(dtype=np.uint64)) for each in tiles),
        bytes=sum(file.size for file in pack.files),
        min_zoom=min((each.min_zoom for each in tiles), default=None),
        max_zoom=max((each.max_zoom for each in tiles), default=None),
        verified=pack.verified,
    )


def _place(
    name: str, columns: Mapping[str, npt.NDArray[Any]], generation: int
) -> tuple[Segment, dict[str, tuple[int, int, str]]]:
    """Copy the columns into a new segment, each on a cache line of its own; the magic comes last."""
    places, position = {}, _HEADER_WORDS * 8
    for key, column in columns.items():
        places[key] = (position, column.nbytes, _code_of(column))
        position += (column.nbytes + _ALIGN_BYTES - 1) & ~(_ALIGN_BYTES - 1)
    segment = Segment.create(name, position)
    for key, column in columns.items():
        np.frombuffer(segment.buf, column.dtype, column.size, places[key][0])[:] = column
    header = segment.buf[: _HEADER_WORDS * 8].cast("Q")
    header[1], header[2], header[3] = VERSION, generation, len(columns)
    header[0] = MAGIC
    return segment, places


def _code_of(column: npt.NDArray[Any]) -> str:
    """Return the code of integers of a column's own width."""
    return "q" if column.dtype == np.int64 else {1: "B", 2: "H", 4: "I", 8: "Q"}[column.dtype.itemsize]


def _view(sealed: memoryview, start: int, size: int, code: str) -> memoryview:
    """Return a column as integers."""
    return sealed[start : start + size].cast(cast(Literal["B", "H", "I", "Q", "q"], code))
