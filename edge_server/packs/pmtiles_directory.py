"""PMTiles directories: delta-coded columns of varints, decoded many entries at a time.

Follows the PMTiles version 3 specification, chapter 4. Works on bytes already inflated,
in numpy columns: an entry costs well under a microsecond where a loop in Python costs
several. Does no I/O, keeps no state and knows no process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_server.packs.tile_ids import MAX_TILE_ID

_U64 = np.uint64
_LONGEST_VARINT = 10
_MAX_U32 = (1 << 32) - 1
# Offsets above this lie past the end of any file, and sums of two of them still fit 64 bits.
_MAX_OFFSET = 1 << 62

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.intp]


class DirectoryFault(Exception):
    """A directory breaks the format; `index` counts in the buffers given. The caller knows the pack."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        self.reason = reason


class Directories(NamedTuple):
    """Several directories one after another in columns, all u64.

    Directory `i` is rows ``[bounds[i], bounds[i + 1])``, never empty. A row with a run length
    of 0 points to a leaf. Offsets are relative to the section the row points into.
    """

    ids: Words
    runs: Words
    lengths: Words
    offsets: Words
    bounds: Indices


def decode_directories(buffers: Sequence[bytes]) -> Directories:
    """Return the entries of inflated directories, each checked by itself.

    Ids ascend strictly within a directory and do not run into the next entry or past
    zoom 31; lengths are 1 to 2**32 - 1; offsets are at most 2**62.

    Raises:
        DirectoryFault: a directory breaks the format.
    """
    values, firsts = _decode_varints(buffers)
    counts = _entry_counts(values, firsts)
    bounds = np.concatenate(([0], np.cumsum(counts)))
    deltas, runs, lengths, raw_offsets = _columns(values, firsts, counts)
    _check_deltas(deltas, bounds)
    ids = _accumulate(deltas, bounds)
    _refuse(ids > MAX_TILE_ID, bounds, "its tile id lies beyond zoom 31")
    _check_runs(ids, runs, deltas, bounds)
    _refuse(lengths == 0, bounds, "its length is 0")
    _refuse(lengths > _MAX_U32, bounds, "its length does not fit 32 bits")
    offsets = _resolve_offsets(raw_offsets, lengths, bounds)
    return Directories(ids, runs, lengths, offsets, bounds)


def _decode_varints(buffers: Sequence[bytes]) -> tuple[Words, Indices]:
    """Return (all values, index of each buffer's first value); every buffer holds whole varints."""
    for index, buffer in enumerate(buffers):
        if not buffer:
            raise DirectoryFault(index, "the directory is empty")
        if buffer[-1] >= 0x80:
            raise DirectoryFault(index, "the directory ends within a number")
    data = np.frombuffer(b"".join(buffers), dtype=np.uint8)
    stops = np.cumsum([len(buffer) for buffer in buffers])
    ends = np.flatnonzero(data < 0x80)
    starts = np.empty_like(ends)
    starts[0] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    firsts = np.searchsorted(starts, np.concatenate(([0], stops)))
    sizes = ends - starts
    values = (data[starts] & 0x7F).astype(_U64)
    longest = int(sizes.max())
    rows: Indices = np.arange(len(sizes))
    # Columns of bytes, not rows of numbers: most numbers are short, so few rows are left after two rounds.
    for place in range(1, min(longest, _LONGEST_VARINT) + 1):
        rows = rows[sizes[rows] >= place]
        byte = data[starts[rows] + place]
        if place == _LONGEST_VARINT or (place == _LONGEST_VARINT - 1 and bool((byte > 1).any())):
            worst = rows[0] if place == _LONGEST_VARINT else rows[np.flatnonzero(byte > 1)[0]]
            index = int(np.searchsorted(stops, starts[worst], side="right"))
            raise DirectoryFault(index, "a number does not fit 64 bits")
        values[rows] |= (byte & 0x7F).astype(_U64) << _U64(7 * place)
    return values, firsts


def _entry_counts(values: Words, firsts: Indices) -> Indices:
    """Return entries per directory, proved by the numbers that are there: one count, four columns."""
    claimed = values[firsts[:-1]]
    present = (np.diff(firsts) - 1).astype(_U64)
    # A claim above what is present is refused first, so that the product cannot wrap.
    wrong = np.flatnonzero((claimed > present) | (claimed * _U64(4) != present) | (claimed == 0))
    if wrong.size:
        index = int(wrong[0])
        reason = f"the directory claims {claimed[index]} entries and holds {present[index]} numbers for them"
        raise DirectoryFault(index, reason if claimed[index] else "the directory has no entries")
    counts: Indices = claimed.astype(np.intp)
    return counts


def _columns(values: Words, firsts: Indices, counts: Indices) -> tuple[Words, Words, Words, Words]:
    spans = [(first + 1, count) for first, count in zip(firsts[:-1].tolist(), counts.tolist(), strict=True)]
    ids, runs, lengths, offsets = (
        np.concatenate([values[start + k * count : start + (k + 1) * count] for start, count in spans])
        for k in range(4)
    )
    return ids, runs, lengths, offsets


def _accumulate(deltas: Words, bounds: Indices) -> Words:
    """Return running sums that begin anew at each directory, exact modulo 2**64.

    No delta is above MAX_TILE_ID, so the first sum beyond it has not wrapped and is seen.
    """
    sums = np.cumsum(deltas, dtype=_U64)
    begins = bounds[:-1]
    before = sums[begins] - deltas[begins]
    ids: Words = sums - np.repeat(before, np.diff(bounds))
    return ids


def _check_deltas(deltas: Words, bounds: Indices) -> None:
    _refuse(deltas > MAX_TILE_ID, bounds, "its tile id lies beyond zoom 31")
    is_repeated = deltas == 0
    is_repeated[bounds[:-1]] = False
    _refuse(is_repeated, bounds, "its tile id is that of the entry before")


def _check_runs(ids: Words, runs: Words, deltas: Words, bounds: Indices) -> None:
    _refuse(runs > _MAX_U32, bounds, "its run length does not fit 32 bits")
    _refuse(runs > _U64(MAX_TILE_ID + 1) - ids, bounds, "its run ends beyond zoom 31")
    has_room = np.ones(len(runs), dtype=bool)
    has_room[:-1] = deltas[1:] >= runs[:-1]
    has_room[bounds[1:] - 1] = True
    _refuse(~has_room, bounds, "its run overlaps the next entry")


def _resolve_offsets(raw: Words, lengths: Words, bounds: Indices) -> Words:
    """Return offsets, with 0 read as "right behind the entry before" and n as n - 1."""
    is_anchor = raw != 0
    begins = bounds[:-1]
    is_orphan = np.zeros(len(raw), dtype=bool)
    is_orphan[begins] = ~is_anchor[begins]
    _refuse(is_orphan, bounds, "it is the first and has no offset")
    _refuse(raw > _MAX_OFFSET, bounds, "its offset lies past the end of any file")
    anchors = np.maximum.accumulate(np.where(is_anchor, np.arange(len(raw)), 0))
    before = np.cumsum(lengths, dtype=_U64) - lengths
    offsets: Words = raw[anchors] - _U64(1) + (before - before[anchors])
    return offsets


def _refuse(is_wrong: npt.NDArray[np.bool_], bounds: Indices, reason: str) -> None:
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        index = int(np.searchsorted(bounds, row, side="right")) - 1
        raise DirectoryFault(index, f"entry {row - int(bounds[index])}: {reason}")
