"""What is asked of both servers: named lists of requests and what must come back.

Order and offsets come from a seeded generator, so both servers get the same requests
in the same order in every round.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.world import KIB, LARGE_BYTES, OBJECT_SIZES, SMALL_FILES_A_FOLDER, TILES, World, tile_path

RANGE_SIZES = {"16KiB": 16 * KIB, "64KiB": 64 * KIB, "256KiB": 256 * KIB}
RANGE_REQUESTS = 4096

_ROOT = "/edge/assets"
_SEED = 4


class Expected(NamedTuple):
    """The bytes ``[start, stop)`` of a file of the world."""

    path: Path
    start: int
    stop: int

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(self.stop - self.start)


class Request(NamedTuple):
    """One GET: its path, its fields, and the body of its answer."""

    path: str
    fields: tuple[tuple[str, str], ...]
    expected: Expected


@dataclass(frozen=True, slots=True)
class Case:
    """Requests that are sent in order, round and round.

    Attributes:
        name: what ``--only`` and tables call it.
        status: what every answer must have.
        requests: with the `expected` body; a revalidation has none, its path is what counts.
        body_bytes: length of every body, or None where lengths differ.
        coding: Content-Encoding that every answer must carry, "" for none.
        is_revalidation: each request gets the server's own ETag as If-None-Match.
    """

    name: str
    status: int
    requests: tuple[Request, ...]
    body_bytes: int | None
    coding: str = ""
    is_revalidation: bool = False

    @property
    def mean_body_bytes(self) -> float:
        """Bytes of a body on average over the whole list."""
        if self.is_revalidation:
            return 0.0
        return sum(r.expected.stop - r.expected.start for r in self.requests) / len(self.requests)

    @property
    def max_body_bytes(self) -> int:
        return max(r.expected.stop - r.expected.start for r in self.requests)


def all_names() -> list[str]:
    """Return the names of all cases in the order of the table."""
    return [name for name, _ in _builders()]


def build(world: World, names: list[str]) -> list[Case]:
    """Return the named cases, building the parts of the world that they need."""
    return [make(world) for name, make in _builders() if name in names]


def _builders() -> Iterator[tuple[str, Callable[[World], Case]]]:
    for size in OBJECT_SIZES:
        yield f"object-{size}", partial(_object, size)
    for size in RANGE_SIZES:
        yield f"range-{size}", partial(_ranges, size)
    yield "not-modified", _not_modified
    yield "small-files", _small_files
    yield "tiles", _tiles


def _whole(path: Path) -> Expected:
    return Expected(path, 0, path.stat().st_size)


def _object(size: str, world: World) -> Case:
    request = Request(f"{_ROOT}/objects/{size}.bin", (), _whole(world.objects / f"{size}.bin"))
    return Case(f"object-{size}", 200, (request,), OBJECT_SIZES[size])


def _ranges(size: str, world: World) -> Case:
    length = RANGE_SIZES[size]
    source = random.Random(_SEED)
    large = world.large

    def one() -> Request:
        start = source.randrange(LARGE_BYTES - length)
        field = ("Range", f"bytes={start}-{start + length - 1}")
        return Request(f"{_ROOT}/large.bin", (field,), Expected(large, start, start + length))

    return Case(f"range-{size}", 206, tuple(one() for _ in range(RANGE_REQUESTS)), length)


def _not_modified(world: World) -> Case:
    request = Request(f"{_ROOT}/objects/4KiB.bin", (), _whole(world.objects / "4KiB.bin"))
    return Case("not-modified", 304, (request,), 0, is_revalidation=True)


def _small_files(world: World) -> Case:
    names = [f"{folder}/{index:05d}.bin" for folder in "ab" for index in range(SMALL_FILES_A_FOLDER)]
    random.Random(_SEED).shuffle(names)
    small = world.small
    requests = (Request(f"{_ROOT}/small/{name}", (), _whole(small / name)) for name in names)
    return Case("small-files", 200, tuple(requests), 4 * KIB)


def _tiles(world: World) -> Case:
    paths = [tile_path(tile_id) for tile_id in range(TILES)]
    random.Random(_SEED).shuffle(paths)
    _, files = world.tile_archive, world.tile_files
    gzip = (("Accept-Encoding", "gzip"),)
    requests = (Request(f"{_ROOT}/tiles/{path}", gzip, _whole(files / path)) for path in paths)
    return Case("tiles", 200, tuple(requests), None, coding="gzip")
