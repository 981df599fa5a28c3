"""PMTiles archives as packs: the archive itself, its metadata, and its tiles in columns.

Follows the PMTiles version 3 specification. The archive is opened once and must be the
same file before and after it was parsed. Runs at mount time only; knows no process.
"""

from __future__ import annotations

import os

import numpy as np
from blake3 import blake3

from edge_server.errors import PackError
from edge_server.http.media_types import media_type
from edge_server.packs.pmtiles_document import MAX_METADATA_BYTES, inflate_metadata, parse_metadata, tilejson
from edge_server.packs.pmtiles_header import CODINGS, HEADER, TILE_TYPES, Header, parse_header
from edge_server.packs.pmtiles_tree import read_tiles
from edge_server.packs.reader import NO_FILE, Entry, Pack, SourceFile, TileSet
from edge_server.packs.source import is_unchanged, open_regular, read_exactly

SUFFIX = ".pmtiles"


def read_pmtiles(path: str, name: str) -> Pack:
    """Return the pack of one PMTiles archive.

    Args:
        path: the archive, as configured; symbolic links are followed.
        name: its address: ``<name>.pmtiles``, ``<name>/metadata.json``, ``<name>/{z}/{x}/{y}``.

    Raises:
        PackError: it cannot be read, is damaged or hostile, or changed meanwhile.
    """
    fd, file = open_regular(path, os.path.realpath(path))
    try:
        pack = _read_open(path, name, fd, file)
        if not is_unchanged(os.fstat(fd), file):
            raise PackError(path, "changed while it was read")
    finally:
        os.close(fd)
    return pack


def read_header(pack: str, fd: int, size: int) -> Header:
    """Return the checked header of an open archive of `size` bytes.

    Raises:
        PackError: it is none, or cannot be read.
    """
    return parse_header(pack, read_exactly(pack, fd, 0, min(size, HEADER.size)), size)


def read_metadata(pack: str, fd: int, header: Header) -> bytes:
    """Return the metadata of an open archive as JSON text.

    Raises:
        PackError: they cannot be read, or are too large.
    """
    if header.metadata_length > MAX_METADATA_BYTES:
        raise PackError(pack, f"its metadata take {header.metadata_length} bytes", header.metadata_offset)
    data = read_exactly(pack, fd, header.metadata_offset, header.metadata_length)
    return inflate_metadata(pack, header, data)


def _read_open(path: str, name: str, fd: int, file: SourceFile) -> Pack:
    header = read_header(path, fd, file.size)
    metadata = read_metadata(path, fd, header)
    document = tilejson(header, parse_metadata(path, header, metadata))
    tiles = read_tiles(path, fd, header)
    kind = TILE_TYPES[header.tile_type]
    tileset = TileSet(
        name=name,
        file=0,
        extensions=kind.extensions,
        media_type=kind.media_type,
        # Unknown compression is sent as it is stored: no coding may be claimed for it.
        coding=CODINGS.get(header.tile_compression, ""),
        min_zoom=header.min_zoom,
        max_zoom=header.max_zoom,
        tilejson=document,
        first_ids=tiles.first_ids,
        run_lengths=tiles.run_lengths,
        offsets=tiles.offsets + np.uint64(header.tiles_offset),
        lengths=tiles.lengths,
    )
    entries = [
        Entry(name + SUFFIX, 0, 0, file.size, media_type(name + SUFFIX), is_archive=True),
        _metadata_entry(name, metadata),
    ]
    return Pack(name, "pmtiles", path, [file], entries, [tileset])


def _metadata_entry(name: str, metadata: bytes) -> Entry:
    path = f"{name}/metadata.json"
    digest = blake3(metadata).digest()
    return Entry(path, NO_FILE, 0, len(metadata), media_type(path), digest=digest, inline=metadata)
