"""Addresses: which paths a request can name, and so which entries are worth mounting.

The rule is that of ``http/paths.py``; an entry that breaks it could never be asked for.
Does no I/O and knows no process.
"""

from __future__ import annotations

from edge_server.errors import BadRequest
from edge_server.http.paths import ASSET_PREFIX, asset_key


def is_address(path: str) -> bool:
    """Whether a request can name `path`, e.g. ``fonts/a.pbf``."""
    try:
        wire = path.encode("utf-8").decode("latin-1")
        return asset_key(ASSET_PREFIX + wire) == path
    except (BadRequest, UnicodeEncodeError):
        return False


def printable(path: str) -> str:
    """Return a path from the file system for a log or message: no control characters, valid UTF-8."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
