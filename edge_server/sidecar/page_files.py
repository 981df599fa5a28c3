"""Page files: style sheets, scripts and pictures of the pages, as they lie in the package.

Process      the sidecar. The names are read once, when it starts; a request chooses among them and
             never makes a path.
Freshness    a browser keeps a file and asks whether it is still the same: each has an entity tag.

``pages/vendor/`` is filled by ``make pages`` and may be empty: then there is no map, and the page of a
preview says how to get it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from edge_server.errors import NotFound
from edge_server.http.media_types import media_type

FOLDER = Path(__file__).parent / "pages"
MAP_LIBRARY = ("maplibre-gl.mjs", "maplibre-gl-worker.mjs", "maplibre-gl.css")


class PageFile(NamedTuple):
    """A file as it is sent."""

    body: bytes
    media_type: str
    etag: str


class PageFiles:
    """What ``/pages/`` answers.

    Args:
        folder: where the files lie; ``vendor`` in it may be missing.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._paths = {
            path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
        }

    @property
    def has_map(self) -> bool:
        """Whether the library that draws maps has been built in."""
        return all(f"vendor/{name}" in self._paths for name in MAP_LIBRARY)

    def read(self, name: str) -> PageFile:
        """Return a file by its path below ``/pages/``.

        Raises:
            NotFound: there is none.
        """
        path = self._paths.get(name)
        if path is None:
            raise NotFound
        try:
            body = path.read_bytes()
        except FileNotFoundError:
            raise NotFound from None
        return PageFile(body, media_type(name), f'"b3:{blake3(body).hexdigest()}"')
