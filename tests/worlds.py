"""What the instances of the tests serve: a folder of files of every kind, and PMTiles archives."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3
from pmtiles.tile import tileid_to_zxy

from tests.archives import build, encode

MODIFIED_S = 1_700_000_000  # Tue, 14 Nov 2023 22:13:20 GMT
MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"
EARLIER = "Tue, 14 Nov 2023 22:13:19 GMT"
STYLE = b"body { margin: 0; font: 16px/1.5 sans-serif }\n" * 40
HOLE = 5  # the tile id that the archives have no tile for: 2/0/0
TILES_TO = 21  # tile ids 0 to 20: zooms 0 to 2; the last three are equal


class World(NamedTuple):
    """What stands on the disk, and what must come back.

    Attributes:
        folder: a directory pack; `archive` lies beside it.
        files: path below ``/edge/assets/`` to bytes, of the folder's entries.
        tiles: tile id to decoded bytes of `archive`, which is mounted as ``world``.
    """

    folder: Path
    archive: Path
    files: dict[str, bytes]
    tiles: dict[int, bytes]

    @property
    def packs(self) -> tuple[Path, Path]:
        return self.folder, self.archive

    def tile_path(self, tile_id: int) -> str:
        """Return a tile's path below ``/edge/assets/``."""
        z, x, y = tileid_to_zxy(tile_id)
        return f"world/{z}/{x}/{y}.mvt"


def noise(seed: int, length: int) -> bytes:
    """Return bytes that do not compress and differ by seed."""
    return random.Random(seed).randbytes(length)


def etag(data: bytes) -> str:
    """Return the entity tag of a representation."""
    return f'"b3:{blake3(data).hexdigest()}"'


def make_world(root: Path) -> World:
    """Build it below `root`."""
    folder = root / "assets"
    files = {
        "hello.txt": b"Hello from the edge of the world.\n",
        "bytes.bin": bytes(range(250)) * 4,
        "empty.bin": b"",
        "edge.bin": noise(1, 256 * 1024),  # exactly one chunk of a streamed body
        "big.bin": noise(2, (1 << 20) + 17),
        "maps/näme ü.txt": "Zürich\n".encode(),
        "maps/100%.txt": b"all of it\n",
        "maps/plain.geojson": b'{"type":"FeatureCollection","features":[]}',
        "offline.zip": noise(3, 3000),
        "style.css": STYLE,
        "style.css.br": encode("br", STYLE),
        "style.css.gz": encode("gzip", STYLE),
        "style.css.zst": encode("zstd", STYLE),
    }
    for path, data in {**files, ".hidden": b"secret", "maps/.git/config": b"secret"}.items():
        write(folder / path, data)
    tiles = {tile_id: b"tile %d " % min(tile_id, 18) * 30 for tile_id in range(TILES_TO) if tile_id != HOLE}
    archive = root / "world.pmtiles"
    write(archive, build(tiles, leaf_sizes=(4,)))
    return World(folder, archive, files, tiles)


def write(path: Path, data: bytes, modified_s: int = MODIFIED_S) -> None:
    """Write a file with a fixed modification time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (modified_s, modified_s))
