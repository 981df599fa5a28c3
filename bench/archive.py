"""PMTiles archives of any number of tiles, one directory entry each, written in columns.

Format: PMTiles version 3, clustered, gzip directories, leaves of 4,096 entries. No run
lengths and no shared contents, so that the number of tiles is the number of entries.
Knows no process; the ``pmtiles`` package is its oracle in the tests.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Columns = npt.NDArray[np.uint64]

HEADER = struct.Struct("<7sB11Q6B4iB2i")
assert HEADER.size == 127

LEAF_ENTRIES = 4096
CODINGS = {"": 1, "gzip": 2}  # codes of the specification, section "Compression"
_MVT = 1


def encode_varints(values: Columns) -> bytes:
    """Return `values`, u64, as LEB128 varints one after another."""
    sizes = np.ones(len(values), dtype=np.int64)
    for bits in range(7, 64, 7):
        sizes += values >= np.uint64(1 << bits)
    starts = np.cumsum(sizes) - sizes
    encoded = np.zeros(int(sizes.sum()), dtype=np.uint8)
    for index in range(int(sizes.max(initial=0))):
        rows = np.flatnonzero(sizes > index)
        septets = (values[rows] >> np.uint64(7 * index)) & np.uint64(0x7F)
        more = np.where(sizes[rows] > index + 1, 0x80, 0)
        encoded[starts[rows] + index] = septets.astype(np.uint8) | more.astype(np.uint8)
    return encoded.tobytes()


def encode_directory(tile_ids: Columns, run_lengths: Columns, lengths: Columns, offsets: Columns) -> bytes:
    """Return one directory, gzipped; the columns are u64 of equal length, sorted by tile id."""
    deltas = np.diff(tile_ids, prepend=np.uint64(0))
    follows = np.zeros(len(offsets), dtype=bool)
    follows[1:] = offsets[1:] == offsets[:-1] + lengths[:-1]
    places = np.where(follows, np.uint64(0), offsets + np.uint64(1))
    count = np.array([len(tile_ids)], dtype=np.uint64)
    columns = (count, deltas, run_lengths, lengths, places)
    return gzip.compress(b"".join(map(encode_varints, columns)), compresslevel=6, mtime=0)


def write_archive(path: Path, lengths: Columns, tiles: Iterable[bytes], *, coding: str) -> None:
    """Write an archive with the tile ids ``0 .. len(lengths) - 1``.

    Args:
        path: where; replaced if it exists.
        lengths: bytes of each tile as stored, u64, in order of tile id.
        tiles: the tiles themselves in the same order.
        coding: how they are stored, "" or "gzip"; a label, nothing is compressed here.
    """
    count = len(lengths)
    tile_ids = np.arange(count, dtype=np.uint64)
    offsets = np.cumsum(lengths, dtype=np.uint64) - lengths
    root, leaves = _directories(tile_ids, lengths, offsets)
    metadata = gzip.compress(json.dumps({"vector_layers": []}).encode(), mtime=0)
    sizes = (len(root), len(metadata), len(leaves), int(lengths.sum()))
    header = _header(sizes, count, coding)
    with path.open("wb") as file:
        file.writelines((header, root, metadata, leaves))
        file.writelines(tiles)


def zoom_of(tile_id: int) -> int:
    """Return the zoom level of a tile id: ids below (4**z - 1) / 3 belong to lower ones."""
    return ((3 * tile_id + 1).bit_length() - 1) // 2


def zxy_of(tile_id: int) -> tuple[int, int, int]:
    """Return zoom, column and row of a tile id: the Hilbert curve, from its finest turn outwards."""
    z = zoom_of(tile_id)
    position = tile_id - (4**z - 1) // 3
    x = y = 0
    for level in range(z):
        side = 1 << level
        right = position >> 1 & 1
        up = (position ^ right) & 1
        if not up:
            if right:
                x, y = side - 1 - x, side - 1 - y
            x, y = y, x
        x, y = x + side * right, y + side * up
        position >>= 2
    return z, x, y


def _directories(tile_ids: Columns, lengths: Columns, offsets: Columns) -> tuple[bytes, bytes]:
    ones = np.ones(len(tile_ids), dtype=np.uint64)
    if len(tile_ids) <= LEAF_ENTRIES:
        return encode_directory(tile_ids, ones, lengths, offsets), b""
    starts = range(0, len(tile_ids), LEAF_ENTRIES)
    slices = [slice(start, start + LEAF_ENTRIES) for start in starts]
    leaves = [encode_directory(tile_ids[s], ones[s], lengths[s], offsets[s]) for s in slices]
    sizes = np.array([len(leaf) for leaf in leaves], dtype=np.uint64)
    firsts = tile_ids[np.array(starts)]
    root = encode_directory(firsts, np.zeros_like(sizes), sizes, np.cumsum(sizes, dtype=np.uint64) - sizes)
    assert len(root) <= 16384 - HEADER.size, "the root must fit into the first 16 KiB"
    return root, b"".join(leaves)


def _header(sizes: tuple[int, int, int, int], count: int, coding: str) -> bytes:
    root, metadata, leaves, data = sizes
    root_offset = HEADER.size
    metadata_offset = root_offset + root
    leaves_offset = metadata_offset + metadata
    data_offset = leaves_offset + leaves
    places = (root_offset, root, metadata_offset, metadata, leaves_offset, leaves, data_offset, data)
    kinds = (1, CODINGS["gzip"], CODINGS[coding], _MVT, 0, zoom_of(count - 1))
    bounds = (-1_800_000_000, -850_000_000, 1_800_000_000, 850_000_000)
    return HEADER.pack(b"PMTiles", 3, *places, count, count, count, *kinds, *bounds, 0, 0, 0)
