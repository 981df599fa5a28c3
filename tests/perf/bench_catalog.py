"""What the two searches of a request cost: a path among 100,000, a tile among 1,000,000.

The path table and the tile columns stand in shared memory; a dict of each process's own
and numpy.searchsorted on the same column are the plain versions. The last figure is what
a dict would cost each worker in memory.

.venv/bin/python tests/perf/bench_catalog.py
"""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from _timing import Loop, compare

from edge_server.packs.reader import NO_FILE, Entry, Pack, SourceFile, TileSet
from edge_server.shm.catalog import Catalog
from edge_server.shm.segment import segment_name

PATHS = 100_000
TILES = 1_000_000
ASKED = 4096  # a power of two: the loops walk the keys with a mask
EVERY = 3  # one tile id in three is there


def paths() -> list[str]:
    return [f"fonts/{index % 97}/{index:06d}.pbf" for index in range(PATHS)]


def make_pack() -> Pack:
    """Return a pack of inline entries and one tile set; no file is read."""
    entries = [Entry(path, NO_FILE, 0, 0, "application/x-protobuf", inline=b"") for path in paths()]
    tiles = TileSet(
        name="world",
        file=0,
        extensions=("mvt",),
        media_type="application/x-protobuf",
        coding="gzip",
        min_zoom=0,
        max_zoom=10,
        tilejson={},
        first_ids=np.arange(TILES, dtype=np.uint64) * np.uint64(EVERY),
        run_lengths=np.ones(TILES, dtype=np.uint32),
        offsets=np.arange(TILES, dtype=np.uint64) * np.uint64(100),
        lengths=np.full(TILES, 100, dtype=np.uint32),
    )
    return Pack("bench", "pmtiles", "bench", files=[own_file()], entries=entries, tilesets=[tiles])


def own_file() -> SourceFile:
    """Return this script as the archive that the catalog opens."""
    path = os.path.realpath(__file__)
    found = os.stat(path)
    return SourceFile(path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def ask(find: Callable[[Any], object], keys: Sequence[Any]) -> Loop:
    """Return a loop that looks up `keys` round and round."""

    def loop(count: int) -> None:
        for index in range(count):
            find(keys[index & (ASKED - 1)])

    return loop


def main() -> None:
    catalog = Catalog.build([make_pack()], generation=1, name=segment_name("bench-catalog"))
    try:
        compare_paths(catalog)
        compare_tiles(catalog)
    finally:
        catalog.unlink()
        catalog.close()


def compare_paths(catalog: Catalog) -> None:
    tracemalloc.start()
    plain = {path.encode(): index for index, path in enumerate(paths())}
    kept_mib = tracemalloc.get_traced_memory()[0] / 2**20
    tracemalloc.stop()
    # New objects, as those of a request are: a bytes object remembers its hash.
    source = random.Random(1)
    asked = [path.encode() for path in source.sample(paths(), ASKED)]
    assert [catalog.find(path) for path in asked] == [plain[path] for path in asked]

    def fresh(find: Callable[[bytes], object]) -> Loop:
        return ask(lambda path: find(bytes(memoryview(path))), asked)

    variants = {
        "plain dict": fresh(plain.get),
        "catalog.find": fresh(catalog.find),
        "no search": fresh(lambda path: path),
    }
    compare(f"a path among {PATHS:,}", variants)
    print(f"  the dict is {kept_mib:.1f} MiB in each process")


def compare_tiles(catalog: Catalog) -> None:
    view = catalog.tilesets["world"]
    column = np.arange(TILES, dtype=np.uint64) * np.uint64(EVERY)
    asked = [tile_id * EVERY for tile_id in random.Random(2).sample(range(TILES), ASKED)]
    plain = {tile_id: tile_id // EVERY for tile_id in range(0, TILES * EVERY, EVERY)}

    def searchsorted(tile_id: int) -> int:
        index = int(column.searchsorted(np.uint64(tile_id), "right")) - 1
        return index if index >= 0 and tile_id == column[index] else -1

    assert [view.find(tile_id) for tile_id in asked] == [searchsorted(tile_id) for tile_id in asked]
    assert view.find(asked[0] + 1) == searchsorted(asked[0] + 1) == -1
    variants = {
        "plain dict": ask(plain.get, asked),
        "bisect (TileView.find)": ask(view.find, asked),
        "numpy.searchsorted": ask(searchsorted, asked),
    }
    compare(f"a tile among {TILES:,}", variants)


if __name__ == "__main__":
    main()
