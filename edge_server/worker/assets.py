"""Assets: from a request's path to a prepared answer.

Process      a worker; reads the catalog, fills gaps in its digests.
Order        an entry with that exact path, then a tile, then a TileJSON document.

What is worked out here is kept by the cache in ``hitpath.py``; nothing here is hot.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from blake3 import blake3

from edge_server.config.schema import Config
from edge_server.errors import NotAcceptable, NotFound, Unhashed
from edge_server.guard import header_lines
from edge_server.http.codings import DecodeCap
from edge_server.http.dates import http_date
from edge_server.http.headers import (
    ACCEPT_RANGES,
    CACHE_STATUS_HIT,
    SECURITY_FIELDS,
    VARY_ACCEPT_ENCODING,
    Field,
    base_url,
    no_transform,
)
from edge_server.http.paths import asset_key, parse_tile
from edge_server.http.tilejson import document
from edge_server.packs.tile_ids import zxy_to_id
from edge_server.shm.catalog import Catalog, CatalogEntry, TileView
from edge_server.worker.bodies import DecodedSpan, FileSpan, MemoryBody, Source, digest_of
from edge_server.worker.files import OpenFile
from edge_server.worker.prepared import EMPTY_TILE, Answer, Document, EmptyTile, Negotiated, Prepared

_IDENTITY = ""
_HASHED_HERE_BYTES = 2 << 20  # an entry up to this size is hashed by the request that first needs its tag
_COMMON_LINES = header_lines([CACHE_STATUS_HIT, *SECURITY_FIELDS])
_ACCEPT_RANGES_LINE = header_lines([ACCEPT_RANGES])


class Assets:
    """Prepares answers for the paths of one catalog.

    Args:
        catalog: the generation that this worker serves.
        config: its configuration.
        max_files: how many files may be open at once, beside archives.
        make_room: called before one more is opened; forgets prepared answers.
        fallback_host: ``host:port`` of the asset plane, for documents where a request has no usable Host.
    """

    def __init__(
        self,
        catalog: Catalog,
        config: Config,
        fallback_host: str,
        *,
        max_files: int,
        make_room: Callable[[], None],
    ) -> None:
        self._catalog = catalog
        self._http = config.http
        self._ingress = config.ingress
        self._fallback_host = fallback_host
        self._max_files = max_files
        self._make_room = make_room
        self._archives: dict[int, OpenFile] = {}

    def prepare(self, path_info: str) -> Answer | EmptyTile:
        """Return the answer for a path as WSGI gives it, percent-decoded once.

        Raises:
            BadRequest: the path is malformed, or tries to leave the assets.
            NotFound: nothing mounted has it.
            PackUnreadable: its file is gone or no longer what was mounted.
            Cold, Unhashed: it would have to wait, for a disk or for the digest of something big.
            NotAcceptable: see Negotiated.
        """
        key = asset_key(path_info)
        index = self._catalog.find(key.encode())
        if index >= 0:
            return self._entry(index)
        tile = parse_tile(key)
        if tile is not None and (tiles := self._catalog.tilesets.get(tile.name)) is not None:
            return self._tile(tiles, tile.z, tile.x, tile.y, tile.extension)
        if key.endswith(".json") and (tiles := self._catalog.tilesets.get(key[:-5])) is not None:
            return Document(partial(self._tilejson, tiles))
        raise NotFound

    def is_known(self, key: str) -> bool:
        """Return whether a key is a pack's to answer, be it with a refusal."""
        if self._catalog.find(key.encode()) >= 0:
            return True
        tilesets = self._catalog.tilesets
        tile = parse_tile(key)
        return (tile is not None and tile.name in tilesets) or (
            key.endswith(".json") and key[:-5] in tilesets
        )

    def _entry(self, index: int) -> Answer:
        entry = self._catalog.entry(index)
        if not entry.variants:
            return self._entry_in(index, entry, _IDENTITY, is_negotiated=False)
        siblings = dict(entry.variants)

        def prepare(coding: str) -> Prepared:
            if coding == _IDENTITY:
                return self._entry_in(index, entry, coding, is_negotiated=True)
            sibling = siblings[coding]
            stored = self._catalog.entry(sibling)._replace(media_type=entry.media_type)
            return self._entry_in(sibling, stored, coding, is_negotiated=True)

        return Negotiated((*siblings, _IDENTITY), prepare)

    def _entry_in(self, index: int, entry: CatalogEntry, coding: str, *, is_negotiated: bool) -> Prepared:
        if entry.is_inline:
            body = MemoryBody(self._catalog.inline(entry))
            return self._prepared(body, entry.length, self._entry_digest(index, entry), entry.media_type)
        file = self._file(entry.file)
        span = FileSpan(file, entry.offset)
        return self._prepared(
            span,
            entry.length,
            self._entry_digest(index, entry, span),
            entry.media_type,
            modified_s=_modified_s(file),
            coding=coding,
            is_negotiated=is_negotiated,
            is_archive=entry.is_archive,
        )

    def _entry_digest(self, index: int, entry: CatalogEntry, span: FileSpan | None = None) -> bytes:
        digest = self._catalog.digests.get(index)
        if digest is not None:
            return digest
        if span is not None:
            if entry.length > _HASHED_HERE_BYTES:
                raise Unhashed(index, entry.length)
            span.need(0, entry.length)
        hashed = self._catalog.hash_entry(index)
        assert hashed is not None  # nobody stops it
        return hashed

    def _tile(self, tiles: TileView, z: int, x: int, y: int, extension: str) -> Answer | EmptyTile:
        if extension not in tiles.extensions or not tiles.min_zoom <= z <= tiles.max_zoom:
            raise NotFound
        index = tiles.find(zxy_to_id(z, x, y))
        if index < 0:
            if self._http.empty_tile == 204:
                return EMPTY_TILE
            raise NotFound
        prepare = partial(self._tile_in, tiles, index)
        if tiles.coding == _IDENTITY:
            return prepare(_IDENTITY)
        return Negotiated((tiles.coding, _IDENTITY), prepare)

    def _tile_in(self, tiles: TileView, index: int, coding: str) -> Prepared:
        offset, length = tiles.span(index)
        file = self._file(tiles.file)
        span = FileSpan(file, offset)
        prepared = partial(
            self._prepared,
            media_type=tiles.media_type,
            modified_s=_modified_s(file),
            coding=coding,
            is_negotiated=tiles.coding != _IDENTITY,
        )
        if coding == tiles.coding:
            row = tiles.row(index)
            digest = self._catalog.digests.get(row)
            if digest is None:
                span.need(0, length)
                digest = digest_of(span, length)
                self._catalog.digests.put(row, digest)
            return prepared(span, length, digest)
        limits = self._ingress
        decoded = DecodedSpan(
            span, length, tiles.coding, limits.decompress_abs_bytes, limits.max_decompress_ratio
        )
        try:
            body = decoded.read_all()
        except DecodeCap as error:
            raise NotAcceptable(str(error), (VARY_ACCEPT_ENCODING,)) from error
        return prepared(decoded, len(body), blake3(body).digest())

    def _tilejson(self, tiles: TileView, host: str | None) -> Prepared:
        base = base_url(self._http.public_url, "http", host, f"http://{self._fallback_host}")
        body = document(
            tiles.tilejson, f"{base}/edge/assets/{quote(tiles.name)}/{{z}}/{{x}}/{{y}}.{tiles.extensions[0]}"
        )
        # Its URLs are the host's and may change while the tiles stay: revalidated, never immutable.
        return self._prepared(
            MemoryBody(body), len(body), blake3(body).digest(), "application/json", cache_control="no-cache"
        )

    def _file(self, index: int) -> OpenFile:
        found = self._archives.get(index)
        if found is None:
            for _ in range(2):  # the first may only make the young age old
                if OpenFile.open_now >= self._max_files:
                    self._make_room()
            is_archive = index in self._catalog.descriptors
            found = OpenFile(self._catalog.open(index), self._catalog.file(index), may_be_unlinked=is_archive)
            if is_archive:
                self._archives[index] = found
        return found

    def _prepared(
        self,
        source: Source,
        length: int,
        digest: bytes,
        media_type: str,
        *,
        modified_s: int | None = None,
        coding: str = _IDENTITY,
        is_negotiated: bool = False,
        is_archive: bool = False,
        cache_control: str | None = None,
    ) -> Prepared:
        tag = f'"b3:{digest.hex()}"'
        etag = tag if self._http.strong_etag else f"W/{tag}"
        control = cache_control or self._http.cache_control
        shared: list[Field] = [
            ("ETag", etag),
            ("Cache-Control", no_transform(control) if is_archive else control),
        ]
        if is_negotiated:
            shared.append(VARY_ACCEPT_ENCODING)
        if modified_s is not None:
            shared.append(("Last-Modified", http_date(modified_s)))
        own: list[Field] = [("Content-Type", media_type)]
        if coding != _IDENTITY:
            own.append(("Content-Encoding", coding))
        not_modified = header_lines(shared) + _COMMON_LINES
        return Prepared(
            source,
            length,
            etag,
            modified_s,
            media_type,
            ("Content-Length", str(length)),
            header_lines(own) + _ACCEPT_RANGES_LINE + not_modified,
            not_modified,
        )


def _modified_s(file: OpenFile) -> int | None:
    """Return the Last-Modified of a file; None for one from the future (RFC 9110 section 8.8.2.1)."""
    modified_s = file.source.mtime_ns // 1_000_000_000
    return modified_s if modified_s <= time.time() else None
