"""Tile packs to look at: the demo's coastlines as vector tiles, pictures as raster tiles, a hostile one."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

from edge_server.demo import world
from edge_server.demo.archive import ArchiveWriter
from tests.archives import build

SIDE = 256
HOSTILE_MARKUP = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
FOREIGN_NAME = "maps/näme 100% {z}"
HOSTILE_NAME = "a'b\"<img src=x onerror=document.title='taken'>"


def write_world(path: Path, max_zoom: int = 3, *, names_layers: bool = True) -> None:
    """Write the demo's archive, with fewer zooms; whether it names its layers is said."""
    layers = [{"id": layer, "fields": {}} for layer in world.LAYERS] if names_layers else []
    archive = ArchiveWriter({"name": "World", "attribution": "Natural Earth", "vector_layers": layers})
    for tile in world.tiles(max_zoom):
        if tile is not None:
            archive.add(*tile)
    archive.write(str(path))


def write_pictures(path: Path) -> None:
    """Write an archive of PNG tiles, zooms 0 and 1: a red one, and four of other colours."""
    colours = [(200, 40, 40), (40, 160, 60), (40, 60, 200), (220, 180, 40), (120, 40, 160)]
    tiles = {number: picture(colour) for number, colour in enumerate(colours)}
    path.write_bytes(build(tiles, tile_type="png", coding="", metadata={"name": "Pictures"}))


def write_hostile(path: Path) -> None:
    """Write an archive whose every text would be markup, and code, if it were taken for such."""
    texts = dict.fromkeys(("name", "description", "attribution", "version"), HOSTILE_MARKUP)
    layers = [{"id": HOSTILE_MARKUP, "fields": {}}]
    path.write_bytes(build({0: b""}, metadata={**texts, "vector_layers": layers}))


def write_config(path: Path, folder: Path) -> None:
    """Write a configuration that mounts all of them; JSON is YAML."""
    packs = [
        str(folder / "world.pmtiles"),
        str(folder / "pictures.pmtiles"),
        {"path": str(folder / "foreign.pmtiles"), "name": FOREIGN_NAME},
        {"path": str(folder / "hostile.pmtiles"), "name": HOSTILE_NAME},
    ]
    path.write_text(json.dumps({"edge": {"packs": packs}}))


def picture(colour: tuple[int, int, int]) -> bytes:
    """Return a PNG of one colour with a dark frame."""
    frame = bytes((20, 20, 20))
    full = b"\0" + frame * SIDE
    row = b"\0" + frame * 8 + bytes(colour) * (SIDE - 16) + frame * 8
    data = full * 8 + row * (SIDE - 16) + full * 8
    head = struct.pack(">2I5B", SIDE, SIDE, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
