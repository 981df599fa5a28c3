"""PMTiles archives for tests: sound ones of every kind, and parts to build unsound ones from.

Follows the PMTiles version 3 specification independently of ``edge_server.packs``;
`build_official` writes the same tiles with the `pmtiles` package for comparison.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import brotli
import zstandard

CODINGS = {"unknown": 0, "": 1, "gzip": 2, "br": 3, "zstd": 4}
TYPES = {"unknown": 0, "mvt": 1, "png": 2, "jpeg": 3, "webp": 4, "avif": 5, "mlt": 6}
HEADER_BYTES = 127
METADATA = {
    "name": "demo",
    "description": "tiles of a test",
    "attribution": "nobody",
    "vector_layers": [{"id": "water", "fields": {"kind": "String"}}],
}

# Field name -> (offset, struct format), to build headers and to damage them.
HEADER_FIELDS = {
    "magic": (0, "<7s"),
    "version": (7, "<B"),
    **{
        name: (8 + 8 * place, "<Q")
        for place, name in enumerate(
            (
                "root_offset",
                "root_length",
                "metadata_offset",
                "metadata_length",
                "leaves_offset",
                "leaves_length",
                "tiles_offset",
                "tiles_length",
                "addressed_tiles",
                "tile_entries",
                "tile_contents",
            )
        )
    },
    "clustered": (96, "<B"),
    "internal_compression": (97, "<B"),
    "tile_compression": (98, "<B"),
    "tile_type": (99, "<B"),
    "min_zoom": (100, "<B"),
    "max_zoom": (101, "<B"),
    "min_lon_e7": (102, "<i"),
    "min_lat_e7": (106, "<i"),
    "max_lon_e7": (110, "<i"),
    "max_lat_e7": (114, "<i"),
    "center_zoom": (118, "<B"),
    "center_lon_e7": (119, "<i"),
    "center_lat_e7": (123, "<i"),
}


class Row(NamedTuple):
    """One directory entry as the specification counts it; a run of 0 points to a leaf."""

    tile_id: int
    offset: int
    length: int
    run: int = 1


def encode(coding: str, data: bytes) -> bytes:
    """Return `data` in a content coding, the same bytes each time."""
    if coding == "gzip":
        return gzip.compress(data, 6, mtime=0)
    if coding == "br":
        return brotli.compress(data, quality=5)
    if coding == "zstd":
        return zstandard.ZstdCompressor(level=3).compress(data)
    return data


def varint(number: int) -> bytes:
    """Return a little-endian base-128 number."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def directory(rows: Sequence[Row], *, count: int | None = None) -> bytes:
    """Return a serialized directory; `count` lies about the number of its entries."""
    out = [varint(len(rows) if count is None else count)]
    last = 0
    for row in rows:
        out.append(varint(row.tile_id - last))
        last = row.tile_id
    out += [varint(row.run) for row in rows]
    out += [varint(row.length) for row in rows]
    for place, row in enumerate(rows):
        before = rows[place - 1]
        is_next = place > 0 and row.offset == before.offset + before.length
        out.append(varint(0 if is_next else row.offset + 1))
    return b"".join(out)


def zoom_of(tile_id: int) -> int:
    zoom = 0
    while tile_id >= 4**zoom:
        tile_id -= 4**zoom
        zoom += 1
    return zoom


def header(**fields: Any) -> bytes:
    """Return a header of the given fields; those left out are 0 but magic and version."""
    data = bytearray(HEADER_BYTES)
    for name, value in {"magic": b"PMTiles", "version": 3, **fields}.items():
        offset, layout = HEADER_FIELDS[name]
        struct.pack_into(layout, data, offset, value)
    return bytes(data)


def damaged(archive: bytes, **fields: Any) -> bytes:
    """Return an archive with header fields overwritten."""
    data = bytearray(archive)
    for name, value in fields.items():
        offset, layout = HEADER_FIELDS[name]
        struct.pack_into(layout, data, offset, value)
    return bytes(data)


def assemble(
    root: bytes, metadata: bytes = b"{}", leaves: bytes = b"", tiles: bytes = b"", **fields: Any
) -> bytes:
    """Return an archive of sections as they are stored, one after another, and a header that says so."""
    metadata_offset = HEADER_BYTES + len(root)
    leaves_offset = metadata_offset + len(metadata)
    tiles_offset = leaves_offset + len(leaves)
    head = {
        "root_offset": HEADER_BYTES,
        "root_length": len(root),
        "metadata_offset": metadata_offset,
        "metadata_length": len(metadata),
        "leaves_offset": leaves_offset,
        "leaves_length": len(leaves),
        "tiles_offset": tiles_offset,
        "tiles_length": len(tiles),
        "internal_compression": 1,
        "tile_compression": 1,
        "tile_type": 0,
        "max_zoom": 31,
        **fields,
    }
    return header(**head) + root + metadata + leaves + tiles


def build(
    tiles: Mapping[int, bytes],
    *,
    tile_type: str = "mvt",
    coding: str = "gzip",
    internal: str = "gzip",
    metadata: Any = METADATA,
    leaf_sizes: Sequence[int] = (),
    clustered: bool = True,
    **fields: Any,
) -> bytes:
    """Return a sound archive.

    Args:
        tiles: decoded tile by tile id; equal neighbours become runs.
        coding: how tiles are stored; `internal` is that of directories and metadata.
        leaf_sizes: entries per leaf, from the lowest level up; none puts all in the root.
        clustered: False stores tiles in a shuffled order.
        fields: header fields to write instead of the true ones.
    """
    stored = {tile_id: encode(coding, tiles[tile_id]) for tile_id in sorted(tiles)}
    rows, data = _place(stored, clustered)
    root_rows, leaves = _leaves(rows, leaf_sizes, internal)
    head = {
        "addressed_tiles": len(tiles),
        "tile_entries": len(rows),
        "tile_contents": len({row.offset for row in rows}),
        "clustered": int(clustered),
        "internal_compression": CODINGS[internal],
        "tile_compression": CODINGS[coding],
        "tile_type": TYPES[tile_type],
        "min_zoom": zoom_of(rows[0].tile_id),
        "max_zoom": zoom_of(rows[-1].tile_id + rows[-1].run - 1),
        "min_lon_e7": -1_800_000_000,
        "min_lat_e7": -850_000_000,
        "max_lon_e7": 1_800_000_000,
        "max_lat_e7": 850_000_000,
        "center_lon_e7": 85_000_000,
        "center_lat_e7": 473_000_000,
        **fields,
    }
    text = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
    root = encode(internal, directory(root_rows))
    return assemble(root, encode(internal, text), leaves, data, **head)


def _place(stored: Mapping[int, bytes], clustered: bool) -> tuple[list[Row], bytes]:
    """Return directory rows and the tile data; each distinct blob is stored once."""
    blobs = list(dict.fromkeys(stored.values()))
    if not clustered:
        random.Random(7).shuffle(blobs)
    offsets: dict[bytes, int] = {}
    end = 0
    for blob in blobs:
        offsets[blob] = end
        end += len(blob)
    rows: list[Row] = []
    for tile_id, blob in stored.items():
        last = rows[-1] if rows else None
        if last and last.tile_id + last.run == tile_id and last.offset == offsets[blob]:
            rows[-1] = last._replace(run=last.run + 1)
        else:
            rows.append(Row(tile_id, offsets[blob], len(blob)))
    return rows, b"".join(blobs)


def _leaves(rows: Sequence[Row], leaf_sizes: Iterable[int], internal: str) -> tuple[Sequence[Row], bytes]:
    """Return the rows of the root and the leaf section below it."""
    section = bytearray()
    for size in leaf_sizes:
        above = []
        for start in range(0, len(rows), size):
            leaf = encode(internal, directory(rows[start : start + size]))
            above.append(Row(rows[start].tile_id, len(section), len(leaf), 0))
            section += leaf
        rows = above
    return rows, bytes(section)


def build_official(tiles: Mapping[int, bytes], *, tile_type: str = "mvt", metadata: Any = METADATA) -> bytes:
    """Return an archive of already stored tiles, gzip, written by the `pmtiles` package."""
    from pmtiles.tile import Compression, TileType
    from pmtiles.writer import Writer

    out = io.BytesIO()
    writer = Writer(out)
    for tile_id in tiles:
        writer.write_tile(tile_id, tiles[tile_id])
    writer.finalize({"tile_type": TileType(TYPES[tile_type]), "tile_compression": Compression.GZIP}, metadata)
    return out.getvalue()
