"""The files that both servers serve, built on first use in one folder.

    assets/objects/<size>.bin     one object of each size
    assets/large.bin              64 MiB, for ranges
    assets/small/<a|b>/<n>.bin    20,000 distinct files of 4 KiB
    tiles.pmtiles                 20,000 gzipped vector tiles, as svc-edge mounts them
    tiles/<z>/<x>/<y>.mvt         the same tiles, as a file server needs them
    million.pmtiles               1,000,000 distinct tiles of 24 to 64 bytes

Contents come from a seeded generator: two worlds are equal byte for byte. A part is
built under another name and renamed when it is whole, so a kept folder can be used again.
"""

from __future__ import annotations

import random
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.archive import write_archive, zxy_of

KIB = 1024
MIB = 1024 * KIB
OBJECT_SIZES = {
    "1KiB": KIB,
    "4KiB": 4 * KIB,
    "16KiB": 16 * KIB,
    "64KiB": 64 * KIB,
    "256KiB": 256 * KIB,
    "1MiB": MIB,
}
LARGE_BYTES = 64 * MIB
SMALL_FILES_A_FOLDER = 10_000
SMALL_BYTES = 4 * KIB
TILES = 20_000
TILE_MEDIAN_BYTES = 6 * KIB
TILE_MAX_BYTES = 48 * KIB
MILLION = 1_000_000
MILLION_MIN_BYTES = 24

_SEED = 2026
_FILLER = b"one of a million tiles, " * 4


class World:
    """Paths of the parts; reading an attribute builds that part if it is not there."""

    def __init__(self, root: Path, say: Callable[[str], None] = lambda _line: None) -> None:
        self.root = root
        self.assets = root / "assets"
        self._say = say
        self.assets.mkdir(parents=True, exist_ok=True)

    @property
    def objects(self) -> Path:
        return self._part(self.assets / "objects", "objects of 1 KiB to 1 MiB", _write_objects)

    @property
    def large(self) -> Path:
        return self._part(self.assets / "large.bin", "a file of 64 MiB", _write_large)

    @property
    def small(self) -> Path:
        return self._part(self.assets / "small", "20,000 files of 4 KiB", _write_small)

    @property
    def tile_archive(self) -> Path:
        return self._part(self.root / "tiles.pmtiles", "an archive of 20,000 tiles", _write_tile_archive)

    @property
    def tile_files(self) -> Path:
        return self._part(self.root / "tiles", "the same 20,000 tiles as files", _write_tile_files)

    @property
    def million_archive(self) -> Path:
        return self._part(self.root / "million.pmtiles", "an archive of 1,000,000 tiles", _write_million)

    def _part(self, path: Path, what: str, write: Callable[[Path], None]) -> Path:
        if not path.exists():
            self._say(f"building {what}")
            unfinished = self.root / f"unfinished-{path.name}"
            if unfinished.is_dir():
                shutil.rmtree(unfinished)
            write(unfinished)
            unfinished.rename(path)
        return path


def million_tile(tile_id: int) -> bytes:
    """Return the tile of million.pmtiles with this id: its number, then filler."""
    length = MILLION_MIN_BYTES + tile_id * 31 % 41
    return (b"%012d:" % tile_id + _FILLER)[:length]


def tile_path(tile_id: int) -> str:
    """Return ``z/x/y.mvt`` of a tile id."""
    z, x, y = zxy_of(tile_id)
    return f"{z}/{x}/{y}.mvt"


def _write_objects(folder: Path) -> None:
    folder.mkdir()
    for name, size in OBJECT_SIZES.items():
        (folder / f"{name}.bin").write_bytes(random.Random(f"{_SEED}{name}").randbytes(size))


def _write_large(path: Path) -> None:
    path.write_bytes(random.Random(_SEED).randbytes(LARGE_BYTES))


def _write_small(folder: Path) -> None:
    source = random.Random(_SEED + 1)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for index in range(SMALL_FILES_A_FOLDER):
            (folder / name / f"{index:05d}.bin").write_bytes(source.randbytes(SMALL_BYTES))


def _write_tile_archive(path: Path) -> None:
    lengths = np.fromiter(map(len, _tiles()), dtype=np.uint64, count=TILES)
    write_archive(path, lengths, _tiles(), coding="gzip")


def _write_tile_files(folder: Path) -> None:
    folder.mkdir()
    made: set[Path] = set()
    for tile_id, tile in enumerate(_tiles()):
        path = folder / tile_path(tile_id)
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        path.write_bytes(tile)


def _write_million(path: Path) -> None:
    ids: npt.NDArray[np.uint64] = np.arange(MILLION, dtype=np.uint64)
    lengths = np.uint64(MILLION_MIN_BYTES) + ids * np.uint64(31) % np.uint64(41)
    write_archive(path, lengths, map(million_tile, range(MILLION)), coding="")


def _tiles() -> Iterator[bytes]:
    """Yield the 20,000 tiles: log-normal sizes as in a base map, random bytes in a gzip stream."""
    source = random.Random(_SEED + 2)
    for _ in range(TILES):
        size = min(int(source.lognormvariate(0, 0.8) * TILE_MEDIAN_BYTES), TILE_MAX_BYTES)
        yield _stored_gzip(source.randbytes(size))


def _stored_gzip(data: bytes) -> bytes:
    # Random bytes do not get smaller, so level 0 saves the time of trying.
    stream = zlib.compressobj(level=0, wbits=31)
    return stream.compress(data) + stream.flush()
