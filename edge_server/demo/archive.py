"""Writing a PMTiles archive: the demo's own, small and clustered.

Follows the PMTiles specification version 3. The readers of ``packs/`` share no code
with it, so that one checks the other.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from edge_server.packs.tile_ids import zxy_to_id

HEADER = struct.Struct("<7sB11Q6B4iB2i")  # specification, section 3
assert HEADER.size == 127

_ROOT_MAX_BYTES = 16384 - HEADER.size
_LEAF_ENTRIES = 1024
_GZIP, _MVT = 2, 1


class _Row(NamedTuple):
    tile_id: int
    run_length: int  # 0 in the root: the entry points to a leaf
    length: int
    offset: int


class ArchiveWriter:
    """Collects tiles in memory and writes them as one archive.

    Args:
        metadata: the JSON object of the archive: name, attribution, vector_layers.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._metadata = metadata
        self._tiles: dict[int, bytes] = {}
        self._zooms: set[int] = set()

    def add(self, z: int, x: int, y: int, tile: bytes) -> None:
        """Keep one vector tile, which is stored in gzip; the same input gives the same bytes."""
        self._tiles[zxy_to_id(z, x, y)] = gzip.compress(tile, 9, mtime=0)
        self._zooms.add(z)

    def write(self, path: str) -> None:
        """Write the archive to `path`, which appears whole or not at all."""
        rows, data = self._cluster()
        root, leaves = _directories(rows)
        metadata = gzip.compress(json.dumps(self._metadata).encode(), mtime=0)
        at_metadata = HEADER.size + len(root)
        at_leaves = at_metadata + len(metadata)
        at_data = at_leaves + len(leaves)
        header = HEADER.pack(
            *(b"PMTiles", 3, HEADER.size, len(root), at_metadata, len(metadata)),
            *(at_leaves, len(leaves), at_data, len(data)),
            *(len(self._tiles), len(rows), len({row.offset for row in rows})),
            *(1, _GZIP, _GZIP, _MVT, min(self._zooms), max(self._zooms)),
            *(-1800000000, -850511287, 1800000000, 850511287, 2, 100000000, 200000000),
        )
        with open(f"{path}.tmp", "wb") as file:
            file.write(b"".join([header, root, metadata, leaves, data]))
        os.replace(f"{path}.tmp", path)

    def _cluster(self) -> tuple[list[_Row], bytes]:
        rows: list[_Row] = []
        offsets: dict[bytes, int] = {}
        data = bytearray()
        for tile_id, tile in sorted(self._tiles.items()):
            offset = offsets.setdefault(tile, len(data))
            if offset == len(data):
                data += tile
            last = rows[-1] if rows else None
            if last and last.offset == offset and last.tile_id + last.run_length == tile_id:
                rows[-1] = last._replace(run_length=last.run_length + 1)
            else:
                rows.append(_Row(tile_id, 1, len(tile), offset))
        return rows, bytes(data)


def _directories(rows: list[_Row]) -> tuple[bytes, bytes]:
    """Return the root directory and the leaves, which are empty where the root can hold all."""
    root = _directory(rows)
    if len(root) <= _ROOT_MAX_BYTES:
        return root, b""
    pointers, leaves = [], bytearray()
    for start in range(0, len(rows), _LEAF_ENTRIES):
        leaf = _directory(rows[start : start + _LEAF_ENTRIES])
        pointers.append(_Row(rows[start].tile_id, 0, len(leaf), len(leaves)))
        leaves += leaf
    return _directory(pointers), bytes(leaves)


def _directory(rows: list[_Row]) -> bytes:
    # Section 4.2: the count, then four columns; ids as steps, an offset as 0 where it follows on.
    out = bytearray()
    _put_varint(out, len(rows))
    for before, row in zip([0, *(row.tile_id for row in rows)], rows, strict=False):
        _put_varint(out, row.tile_id - before)
    for row in rows:
        _put_varint(out, row.run_length)
    for row in rows:
        _put_varint(out, row.length)
    end = -1
    for row in rows:
        _put_varint(out, 0 if row.offset == end else row.offset + 1)
        end = row.offset + row.length
    return gzip.compress(bytes(out), mtime=0)


def _put_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
