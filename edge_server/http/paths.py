"""Request paths: what follows ``/edge/assets/``, and which of it may name a tile.

Specification: RFC 3986 sections 2.1, 3.3 and 6; RFC 3629 for UTF-8; PEP 3333 for the
latin-1 strings of WSGI. The server has decoded percent signs once; nothing here
decodes them again, so ``%252e`` names a literal ``%2e``. Does no I/O.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from edge_server.errors import BadRequest, NotFound

ASSET_PREFIX = "/edge/assets/"
MAX_KEY_BYTES = 1024
MAX_ZOOM = 31  # PMTiles v3 numbers tiles in 64 bits, which ends there

# C0, DEL and C1: no path that a person made has them. A backslash is a separator elsewhere.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
# RFC 3986 section 3.3: "." and ".." are segments with a meaning; an empty one names nothing here.
_BAD_SEGMENT = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)")

# Digits only, without leading zeros: a tile has one address.
_NUMBER = r"(0|[1-9][0-9]{0,9})"
_TILE = re.compile(rf"(.+)/(0|[1-9][0-9]?)/{_NUMBER}/{_NUMBER}\.([A-Za-z0-9]{{1,16}})", re.ASCII)


class TileAddress(NamedTuple):
    """A tile of a named set; ``x`` and ``y`` are below ``2**z``, counted from the north-west."""

    name: str
    z: int
    x: int
    y: int
    extension: str


def asset_key(path_info: str) -> str:
    """Return the path of an asset as packs name it.

    Args:
        path_info: WSGI's PATH_INFO, percent-decoded once, one character per byte.

    Raises:
        NotFound: the path is not under ``/edge/assets/``.
        BadRequest: it is empty or too long, no UTF-8, or has a control character, a
            backslash, or an empty, ``.`` or ``..`` segment.
    """
    if not path_info.startswith(ASSET_PREFIX):
        raise NotFound("outside the assets")
    key = path_info[len(ASSET_PREFIX) :]
    if len(key) > MAX_KEY_BYTES:
        raise BadRequest("path too long")
    if not key.isascii():
        try:
            key = key.encode("latin-1").decode("utf-8")
        except UnicodeError:
            raise BadRequest("path is not UTF-8") from None
    if _FORBIDDEN.search(key):
        raise BadRequest("control character or backslash in the path")
    if _BAD_SEGMENT.search(key):
        raise BadRequest("empty or dot segment in the path")
    return key


def parse_tile(rest: str) -> TileAddress | None:
    """Return the tile that a key addresses, or None if it is not of that form or outside the grid.

    Args:
        rest: ``name/z/x/y.ext`` as `asset_key` returns it; the name may have slashes.
    """
    match = _TILE.fullmatch(rest)
    if match is None:
        return None
    z, x, y = int(match[2]), int(match[3]), int(match[4])
    if z > MAX_ZOOM or x >> z or y >> z:
        return None
    return TileAddress(match[1], z, x, y, match[5])
