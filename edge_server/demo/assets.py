"""The demo's folder of assets: a map page with compressed siblings, pictures, data, and bytes for ranges."""

from __future__ import annotations

import gzip
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from importlib import resources

import blake3
import brotli
import zstandard

from edge_server.demo import coastline

BYTES_NAME, BYTES_SIZE = "bytes.bin", 8 * 1024 * 1024

_SITE = ("index.html", "map.css", "map.js", "logo.svg")
_PICTURE_SIDE = 256
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, 9, mtime=0),
    ".br": brotli.compress,
    ".zst": lambda data: zstandard.ZstdCompressor(level=19).compress(data),
}


def write_assets(folder: str) -> Iterator[str]:
    """Write the folder and yield each file's name as it is done; every run writes the same bytes."""
    os.makedirs(folder, exist_ok=True)
    for name, data, is_compressible in _contents():
        _write(folder, name, data)
        yield name
        for suffix, encode in _ENCODERS.items() if is_compressible else ():
            _write(folder, name + suffix, encode(data))
            yield name + suffix


def count_assets() -> int:
    """Return how many files `write_assets` yields."""
    return len(_SITE) * (1 + len(_ENCODERS)) + (1 + len(_ENCODERS)) + 2


def _contents() -> Iterator[tuple[str, bytes, bool]]:
    for name in _SITE:
        yield name, resources.files("edge_server.demo").joinpath(f"site/{name}").read_bytes(), True
    yield "cities.geojson", _cities(), True
    yield "gradient.png", _picture(_PICTURE_SIDE), False
    yield BYTES_NAME, blake3.blake3(b"svc-edge demo").digest(length=BYTES_SIZE), False


def _cities() -> bytes:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [longitude, latitude]},
            "properties": {"name": name},
        }
        for name, longitude, latitude in coastline.CITIES
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False).encode()


def _picture(side: int) -> bytes:
    """Return a square PNG of 8-bit RGB: red to the right, green down, blue against both."""
    rows = b"".join(
        b"\0" + bytes(part for x in range(side) for part in (x % 256, y % 256, (x ^ y) % 256))
        for y in range(side)
    )
    header = struct.pack(">2I5B", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return _PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _write(folder: str, name: str, data: bytes) -> None:
    path = os.path.join(folder, name)
    with open(f"{path}.tmp", "wb") as file:
        file.write(data)
    os.replace(f"{path}.tmp", path)
