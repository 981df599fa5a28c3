"""Page routes: what the admin plane answers to a person's browser.

Process      the sidecar's main thread.

    /                       the status page
    /pages/{name}           style sheets and scripts of the pages
    /preview/{name}         the map of a tile pack
    /api/tiles/{name}.json  its TileJSON, /api/tiles/{name}/{z}/{x}/{y}.{ext} its tiles

Every page has a Content-Security-Policy that allows this origin and nothing else.
"""

from __future__ import annotations

from typing import Any

import falcon

from edge_server.http.negotiation import IDENTITY
from edge_server.http.preconditions import evaluate
from edge_server.http.reasons import STATUS_LINES
from edge_server.sidecar import preview_page, status_page
from edge_server.sidecar.page_files import PageFiles
from edge_server.sidecar.reading import Reading
from edge_server.sidecar.status import StatusReader
from edge_server.sidecar.tiles import PREVIEW_PATH, TILES_PATH, Tiles

_JSON_SUFFIX = ".json"


def add_page_routes(app: falcon.App[Any, Any], status: StatusReader, tiles: Tiles, files: PageFiles) -> None:
    """Add them to the app of the admin plane."""
    pages = _Pages(status, tiles, files)
    app.add_route("/", Reading(pages.status))
    app.add_route("/pages/{name:path}", Reading(pages.file))
    app.add_route(PREVIEW_PATH + "{name:path}", Reading(pages.preview))
    app.add_route(TILES_PATH + "{name:path}", Reading(pages.tile))


class _Pages:
    """The answers; each raises a Rejection for what there is not."""

    def __init__(self, status: StatusReader, tiles: Tiles, files: PageFiles) -> None:
        self._status = status
        self._tiles = tiles
        self._files = files

    def status(self, req: falcon.Request, resp: falcon.Response) -> None:
        _send_page(resp, status_page.render(self._status.read()), status_page.CONTENT_SECURITY_POLICY)

    def preview(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        tiles = self._tiles.find(name)
        page = preview_page.render(tiles, has_map=self._files.has_map)
        _send_page(resp, page, preview_page.CONTENT_SECURITY_POLICY)

    def file(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        found = self._files.read(name)
        resp.set_header("Cache-Control", "no-cache")
        resp.set_header("ETag", found.etag)
        status = evaluate(found.etag, None, if_none_match=req.get_header("If-None-Match"))
        resp.status = STATUS_LINES[status]
        if status == 200:
            resp.content_type = found.media_type
            resp.data = found.body

    def tile(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        if name.endswith(_JSON_SUFFIX):
            resp.content_type = "application/json"
            resp.data = self._tiles.tilejson(name.removesuffix(_JSON_SUFFIX))
            return
        found = self._tiles.read(name, req.get_header("Accept-Encoding"))
        resp.set_header("Vary", "Accept-Encoding")
        if found is None:
            resp.status = STATUS_LINES[204]
            return
        resp.content_type = found.media_type
        if found.coding != IDENTITY:
            resp.set_header("Content-Encoding", found.coding)
        resp.data = found.body


def _send_page(resp: falcon.Response, page: bytes, policy: str) -> None:
    resp.content_type = status_page.MEDIA_TYPE
    resp.set_header("Content-Security-Policy", policy)
    resp.set_header("X-Frame-Options", "DENY")
    resp.set_header("Cross-Origin-Opener-Policy", "same-origin")
    resp.data = page
