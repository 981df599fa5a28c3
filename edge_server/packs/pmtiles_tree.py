"""The directory tree of a PMTiles archive, walked level by level into sorted tile columns.

Follows the PMTiles version 3 specification, chapter 4. An archive may be hostile: every
leaf is visited once, inside its section and inside the id range that its parent leaves
it, at most `MAX_DEPTH` directories deep, and what may be inflated is bounded by what is
there. Reads with pread(2) from a descriptor that it is given; knows no process.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_server.errors import PackError
from edge_server.http.codings import DecodeCap, DecodeError, decode
from edge_server.packs.pmtiles_directory import Directories, DirectoryFault, Words, decode_directories
from edge_server.packs.pmtiles_header import CODINGS, Header
from edge_server.packs.source import read_exactly
from edge_server.packs.tile_ids import MAX_TILE_ID

# The root and three leaves below it: what the readers of the specification's authors follow.
MAX_DEPTH = 4
# gzip inflates at most 1032 : 1, so no gzip root of 16 KiB is larger than this.
MAX_DIRECTORY_BYTES = 32 << 20
# Equally long, adjacent tiles compress 1000 : 1; below this size a directory tree may do so.
FREE_INFLATED_BYTES = 32 << 20
MAX_INFLATE_RATIO = 64
MAX_ENTRIES = 1 << 28
# Directories decoded together: enough to keep numpy busy, small enough to keep its temporaries small.
_BATCH_BYTES = 2 << 20


class TileColumns(NamedTuple):
    """One row a directory entry, sorted by id, free of overlaps; offsets relative to the tile data."""

    first_ids: npt.NDArray[np.uint64]
    run_lengths: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.uint32]


class _Pointers(NamedTuple):
    """Directories of one level still to be read, in columns; `offsets` are absolute in the file.

    Ids found in directory `i` lie in ``[lows[i], highs[i])``.
    """

    offsets: Words
    lengths: Words
    lows: Words
    highs: Words


def read_tiles(pack: str, fd: int, header: Header) -> TileColumns:
    """Return all tile entries of an open archive.

    Raises:
        PackError: a directory is damaged or hostile; its offset is that of the directory.
    """
    walk = _Walk(pack, fd, header)
    level = _Pointers(
        *(
            np.array([word], dtype=np.uint64)
            for word in (header.root_offset, header.root_length, 0, MAX_TILE_ID + 1)
        )
    )
    for _ in range(MAX_DEPTH):
        level = walk.descend(level)
        if not len(level.offsets):
            return walk.tiles()
    raise PackError(
        pack, f"leaf directories are nested more than {MAX_DEPTH - 1} deep", int(level.offsets[0])
    )


class _Walk:
    """The state of one walk: what was found, and what may still be inflated."""

    def __init__(self, pack: str, fd: int, header: Header) -> None:
        self._pack, self._fd, self._header = pack, fd, header
        self._coding = CODINGS[header.internal_compression]
        self._seen: Words = np.empty(0, dtype=np.uint64)
        self._leaf_bytes = 0
        self._read_bytes = 0
        self._inflated_bytes = 0
        self._entries = 0
        self._found: list[TileColumns] = []

    def descend(self, level: _Pointers) -> _Pointers:
        """Read all directories of one level and return those of the next, in the same order."""
        below = []
        start = 0
        while start < len(level.offsets):
            buffers = self._read_batch(level, start)
            stop = start + len(buffers)
            batch = _Pointers(*(column[start:stop] for column in level))
            below.append(self._take(batch, buffers))
            start = stop
        pointers = _Pointers(*(np.concatenate(columns) for columns in zip(*below, strict=True)))
        self._admit(pointers)
        return pointers

    def tiles(self) -> TileColumns:
        """Return everything found, sorted by id."""
        ids, runs, offsets, lengths = (np.concatenate(columns) for columns in zip(*self._found, strict=True))
        self._found.clear()
        # Tiles on different levels come out of order; ranges of directories keep them from overlapping.
        if not (ids[1:] > ids[:-1]).all():
            order = np.argsort(ids, kind="stable")
            ids, runs, offsets, lengths = ids[order], runs[order], offsets[order], lengths[order]
        return TileColumns(ids, runs, offsets, lengths)

    def _read_batch(self, level: _Pointers, start: int) -> list[bytes]:
        """Return inflated directories from `start` on, at least one, about `_BATCH_BYTES` in all."""
        buffers: list[bytes] = []
        total = 0
        while start + len(buffers) < len(level.offsets) and total < _BATCH_BYTES:
            place = start + len(buffers)
            buffers.append(self._inflate(int(level.offsets[place]), int(level.lengths[place])))
            total += len(buffers[-1])
        return buffers

    def _inflate(self, offset: int, length: int) -> bytes:
        if length > MAX_DIRECTORY_BYTES:
            raise PackError(self._pack, f"a directory of {length} bytes is beyond the limit", offset)
        data = read_exactly(self._pack, self._fd, offset, length)
        self._read_bytes += length
        allowance = max(FREE_INFLATED_BYTES, MAX_INFLATE_RATIO * self._read_bytes) - self._inflated_bytes
        try:
            inflated = data
            if self._coding:
                inflated = decode(self._coding, data, max_bytes=max(0, min(MAX_DIRECTORY_BYTES, allowance)))
        except DecodeCap as error:
            raise PackError(self._pack, "a directory inflates beyond all measure", offset) from error
        except DecodeError as error:
            raise PackError(self._pack, f"a directory is not {self._coding}: {error}", offset) from error
        self._inflated_bytes += len(inflated)
        return inflated

    def _take(self, batch: _Pointers, buffers: list[bytes]) -> _Pointers:
        """Decode directories, keep their tiles, and return their leaves."""
        try:
            found = decode_directories(buffers)
        except DirectoryFault as fault:
            raise PackError(
                self._pack, f"bad directory: {fault.reason}", int(batch.offsets[fault.index])
            ) from fault
        self._entries += len(found.ids)
        if self._entries > MAX_ENTRIES:
            raise PackError(
                self._pack, f"has more than {MAX_ENTRIES} directory entries", int(batch.offsets[0])
            )
        highs = self._checked_highs(batch, found)
        is_leaf = found.runs == 0
        self._check_places(batch, found, is_leaf)
        keep = ~is_leaf
        self._found.append(
            TileColumns(
                found.ids[keep],
                found.runs[keep].astype(np.uint32),
                found.offsets[keep],
                found.lengths[keep].astype(np.uint32),
            )
        )
        base = np.uint64(self._header.leaves_offset)
        return _Pointers(
            found.offsets[is_leaf] + base, found.lengths[is_leaf], found.ids[is_leaf], highs[is_leaf]
        )

    def _checked_highs(self, batch: _Pointers, found: Directories) -> Words:
        """Return where the ids of each row's leaf end; refuse rows outside their own directory's range."""
        lasts = found.bounds[1:] - 1
        highs = np.empty_like(found.ids)
        highs[:-1] = found.ids[1:]
        highs[lasts] = batch.highs
        room = np.maximum(found.runs[lasts], np.uint64(1))
        is_below = found.ids[found.bounds[:-1]] < batch.lows
        is_above = (found.ids[lasts] >= batch.highs) | (batch.highs - found.ids[lasts] < room)
        wrong = np.flatnonzero(is_below | is_above)
        if wrong.size:
            reason = "a directory holds tile ids outside the range its parent gives it"
            raise PackError(self._pack, reason, int(batch.offsets[wrong[0]]))
        return highs

    def _check_places(self, batch: _Pointers, found: Directories, is_leaf: npt.NDArray[np.bool_]) -> None:
        """Refuse rows that point outside the section they belong to."""
        sizes = np.where(is_leaf, np.uint64(self._header.leaves_length), np.uint64(self._header.tiles_length))
        is_wrong = (found.lengths > sizes) | (found.offsets > sizes - np.minimum(found.lengths, sizes))
        if not is_wrong.any():
            return
        row = int(np.argmax(is_wrong))
        index = int(np.searchsorted(found.bounds, row, side="right")) - 1
        what = "leaf directories" if is_leaf[row] else "tile data"
        reason = f"entry {row - int(found.bounds[index])} points past the end of the {what}"
        raise PackError(self._pack, f"bad directory: {reason}", int(batch.offsets[index]))

    def _admit(self, leaves: _Pointers) -> None:
        """Refuse leaves already visited, and more bytes of leaves than their section has."""
        if not len(leaves.offsets):
            return
        seen, counts = np.unique(np.concatenate((self._seen, leaves.offsets)), return_counts=True)
        if len(seen) < len(self._seen) + len(leaves.offsets):
            raise PackError(
                self._pack, "a leaf directory is pointed to twice", int(seen[np.argmax(counts > 1)])
            )
        self._seen = seen
        # No overflow: each length is below 2**32 and entries are bounded.
        self._leaf_bytes += int(leaves.lengths.sum())
        if self._leaf_bytes > self._header.leaves_length:
            raise PackError(self._pack, "leaf directories overlap each other", int(leaves.offsets[0]))
