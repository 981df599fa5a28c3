"""The header of a PMTiles archive: where its sections lie and what its tiles are.

Follows the PMTiles version 3 specification, chapter 3. Reads bytes that it is given,
does no I/O and knows no process.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from edge_server.errors import PackError
from edge_server.packs.tile_ids import MAX_ZOOM

MAGIC = b"PMTiles"
VERSION = 3
# magic, version; offset and length of root, metadata, leaves, tiles; three counts; clustered,
# internal and tile compression, tile type, zooms; bounds; center zoom, longitude, latitude.
HEADER = struct.Struct("<7sB11Q6B4iB2i")
assert HEADER.size == 127
# Section 2: clients fetch header and root directory in one request of this size.
FIRST_READ_BYTES = 16384

CODINGS = {1: "", 2: "gzip", 3: "br", 4: "zstd"}
UNKNOWN = 0


class TileType(NamedTuple):
    """What the tiles of an archive are; `format` is the word for it in TileJSON documents."""

    label: str
    extensions: tuple[str, ...]
    media_type: str
    format: str | None


# The first extension is the one of section 3.3's media types; "pbf" and "jpeg" are accepted because
# styles in the wild ask for them.
TILE_TYPES = {
    0: TileType("unknown", ("bin",), "application/octet-stream", None),
    1: TileType("mvt", ("mvt", "pbf"), "application/vnd.mapbox-vector-tile", "pbf"),
    2: TileType("png", ("png",), "image/png", "png"),
    3: TileType("jpeg", ("jpg", "jpeg"), "image/jpeg", "jpg"),
    4: TileType("webp", ("webp",), "image/webp", "webp"),
    5: TileType("avif", ("avif",), "image/avif", "avif"),
    6: TileType("mlt", ("mlt",), "application/vnd.maplibre-tile", "mlt"),
}


class Header(NamedTuple):
    """The fields as they stand in the archive; offsets and lengths in bytes, degrees times 10**7."""

    root_offset: int
    root_length: int
    metadata_offset: int
    metadata_length: int
    leaves_offset: int
    leaves_length: int
    tiles_offset: int
    tiles_length: int
    addressed_tiles: int  # the three counts are 0 where the writer did not know
    tile_entries: int
    tile_contents: int
    clustered: int
    internal_compression: int
    tile_compression: int
    tile_type: int
    min_zoom: int
    max_zoom: int
    min_lon_e7: int
    min_lat_e7: int
    max_lon_e7: int
    max_lat_e7: int
    center_zoom: int
    center_lon_e7: int
    center_lat_e7: int


def parse_header(pack: str, data: bytes, size: int) -> Header:
    """Return the header, its sections checked against the file.

    Args:
        data: the first bytes of the archive, at least 127 of an intact one.
        size: bytes in the whole file.

    Raises:
        PackError: not a PMTiles archive of version 3, or a field that cannot be true.
    """
    if len(data) < HEADER.size:
        raise PackError(pack, f"is no PMTiles archive: {size} bytes, a header alone is {HEADER.size}", 0)
    magic, version, *fields = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise PackError(pack, "is no PMTiles archive: it does not begin with PMTiles", 0)
    if version != VERSION:
        raise PackError(pack, f"is of PMTiles version {version}; this server reads version 3", 7)
    header = Header._make(fields)
    _check_sections(pack, header, size)
    _check_kinds(pack, header)
    return header


def _check_sections(pack: str, header: Header, size: int) -> None:
    sections = (
        ("root directory", header.root_offset, header.root_length, 8),
        ("metadata", header.metadata_offset, header.metadata_length, 24),
        ("leaf directories", header.leaves_offset, header.leaves_length, 40),
        ("tile data", header.tiles_offset, header.tiles_length, 56),
    )
    for label, offset, length, position in sections:
        if offset + length > size:
            raise PackError(pack, f"{label} end at {offset + length}, the file at {size}", position)
        if length and offset < HEADER.size:
            raise PackError(pack, f"{label} begin at {offset}, inside the header", position)
    if not header.root_length:
        raise PackError(pack, "the root directory is empty", 16)
    if header.root_offset + header.root_length > FIRST_READ_BYTES:
        raise PackError(pack, f"the root directory ends past the first {FIRST_READ_BYTES} bytes", 8)


def _check_kinds(pack: str, header: Header) -> None:
    if header.internal_compression not in CODINGS:
        raise PackError(pack, f"unknown internal compression {header.internal_compression}", 97)
    if header.tile_compression not in CODINGS and header.tile_compression != UNKNOWN:
        raise PackError(pack, f"unknown tile compression {header.tile_compression}", 98)
    if header.tile_type not in TILE_TYPES:
        raise PackError(pack, f"unknown tile type {header.tile_type}", 99)
    if not header.min_zoom <= header.max_zoom <= MAX_ZOOM:
        raise PackError(pack, f"impossible zooms {header.min_zoom} to {header.max_zoom}", 100)
