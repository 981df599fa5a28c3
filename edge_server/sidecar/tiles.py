"""Tiles for the map preview: the admin plane's own reading of tile packs.

Process      the sidecar's main thread. Reads the catalog and, with pread, the archives whose descriptors
             came with it; writes nothing, hashes nothing.
Bounds       a stored tile of MAX_TILE_BYTES, decoded within what ingress lets decoding take.

The preview could ask the asset plane, which is another origin: it would need CORS, and an operator who looks
at a map would be in its metrics. Reading is the same search and the same bytes; only the way out is another.

Specification: TileJSON 3.0.0; PMTiles version 3 for tile ids.
"""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import quote

from edge_server.config.schema import Config
from edge_server.errors import BadRequest, NotAcceptable, NotFound, PackUnreadable
from edge_server.http.codings import DecodeCap, DecodeError, decode
from edge_server.http.negotiation import IDENTITY, choose_coding, parse_accept_encoding
from edge_server.http.paths import MAX_KEY_BYTES, parse_tile
from edge_server.http.tilejson import document
from edge_server.packs.source import is_unchanged
from edge_server.packs.tile_ids import zxy_to_id
from edge_server.shm.catalog import Catalog, TileView

PREVIEW_PATH = "/preview/"
TILES_PATH = "/api/tiles/"
MAX_TILE_BYTES = 16 << 20


class Tile(NamedTuple):
    """A tile as it is sent; `coding` is its Content-Encoding, empty for identity."""

    body: bytes
    media_type: str
    coding: str


class Tiles:
    """The tile packs of one catalog.

    Args:
        catalog: the generation that this sidecar belongs to.
        config: its configuration.
    """

    def __init__(self, catalog: Catalog, config: Config) -> None:
        self._catalog = catalog
        self._ingress = config.ingress

    def find(self, name: str) -> TileView:
        """Return a tile set by name.

        Raises:
            NotFound: there is none.
        """
        found = self._catalog.tilesets.get(name)
        if found is None:
            raise NotFound
        return found

    def tilejson(self, name: str) -> bytes:
        """Return a TileJSON document whose tiles are those of the admin plane, relative to it.

        Raises:
            NotFound: no tile set has this name.
        """
        tiles = self.find(name)
        return document(
            tiles.tilejson, f"{TILES_PATH}{quote(tiles.name)}/{{z}}/{{x}}/{{y}}.{tiles.extensions[0]}"
        )

    def read(self, address: str, accept_encoding: str | None) -> Tile | None:
        """Return the tile at ``name/z/x/y.ext``; None for one that its archive does not have.

        Raises:
            BadRequest, NotFound: it is no address of a tile, or not one of a mounted tile set.
            PackUnreadable: its archive is not what was mounted any more.
            NotAcceptable: the client does not take it as it is stored, and refuses identity too, or it
                cannot be decoded within the bounds.
        """
        if len(address) > MAX_KEY_BYTES:
            raise BadRequest("path too long")
        asked = parse_tile(address)
        if asked is None:
            raise NotFound
        tiles = self.find(asked.name)
        if asked.extension not in tiles.extensions or not tiles.min_zoom <= asked.z <= tiles.max_zoom:
            raise NotFound
        index = tiles.find(zxy_to_id(asked.z, asked.x, asked.y))
        if index < 0:
            return None
        stored = self._stored(tiles, index)
        coding = choose_coding(parse_accept_encoding(accept_encoding), (tiles.coding, IDENTITY))
        if coding is None:
            raise NotAcceptable
        if coding != tiles.coding:
            stored = self._decoded(tiles.coding, stored)
        return Tile(stored, tiles.media_type, coding)

    def _stored(self, tiles: TileView, index: int) -> bytes:
        offset, length = tiles.span(index)
        file = self._catalog.file(tiles.file)
        if length > MAX_TILE_BYTES:
            raise PackUnreadable(f"a tile of {length} bytes is too large to be shown")
        descriptor = self._catalog.open(tiles.file)
        try:
            body = os.pread(descriptor, length, offset)
            if len(body) != length or not is_unchanged(os.fstat(descriptor), file):
                raise PackUnreadable("changed since it was mounted", file.path)
        except OSError as error:
            raise PackUnreadable(f"cannot be read: {error.strerror}", file.path) from error
        finally:
            os.close(descriptor)
        return body

    def _decoded(self, coding: str, stored: bytes) -> bytes:
        limits = self._ingress
        try:
            return decode(
                coding,
                stored,
                max_bytes=limits.decompress_abs_bytes,
                max_ratio=limits.max_decompress_ratio,
            )
        except DecodeCap as error:
            raise NotAcceptable(str(error)) from error
        except DecodeError as error:
            raise PackUnreadable(f"a tile is not {coding}: {error}") from error
