"""What the id of a requested tile costs: four levels of the curve a step, against one a step.

The plain version is the loop of the specification's authors.

.venv/bin/python tests/perf/bench_tile_ids.py
"""

from __future__ import annotations

import random
from collections.abc import Callable

from _timing import Loop, compare
from pmtiles.tile import zxy_to_tileid

from edge_server.packs.tile_ids import zxy_to_id

ASKED = 4096  # a power of two: the loops walk the addresses with a mask


def addresses(zoom: int) -> list[tuple[int, int, int]]:
    chosen = random.Random(zoom)
    return [(zoom, chosen.randrange(1 << zoom), chosen.randrange(1 << zoom)) for _ in range(ASKED)]


def loop_over(find: Callable[[int, int, int], int], asked: list[tuple[int, int, int]]) -> Loop:
    def loop(count: int) -> None:
        for place in range(count):
            z, x, y = asked[place & ASKED - 1]
            find(z, x, y)

    return loop


def main() -> None:
    for zoom in (0, 6, 14, 22):
        asked = addresses(zoom)
        assert all(zxy_to_id(*address) == zxy_to_tileid(*address) for address in asked)
        variants = {"one level a step": loop_over(zxy_to_tileid, asked), "four": loop_over(zxy_to_id, asked)}
        compare(f"tile id at zoom {zoom}", variants)


if __name__ == "__main__":
    main()
