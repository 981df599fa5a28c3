"""Tile ids: the position of z/x/y on the Hilbert curves of all zooms laid end to end.

Follows the PMTiles version 3 specification, section 4.1: ids start at 0 for 0/0/0 and
count through zoom 1, zoom 2 and so on, each along its own curve. Pure arithmetic.
"""

from __future__ import annotations

MAX_ZOOM = 31
# First id of each zoom: the sum of 4**i over the zooms before it.
ZOOM_BASES = tuple(((1 << (2 * z)) - 1) // 3 for z in range(MAX_ZOOM + 2))
MAX_TILE_ID = ZOOM_BASES[MAX_ZOOM + 1] - 1

# A curve's orientation: bit 0 swaps x and y of the levels below, bit 1 complements them.
_SWAP, _COMPLEMENT = 1, 2
_STEP_BITS = 4


def _descend(state: int, x: int, y: int) -> tuple[int, int]:
    """Return (quadrant 0..3, state below it) of one level; x and y are single bits."""
    if state & _COMPLEMENT:
        x, y = 1 - x, 1 - y
    if state & _SWAP:
        x, y = y, x
    if not y:
        state ^= _SWAP | (_COMPLEMENT if x else 0)
    return (3 * x) ^ y, state


def _build_steps() -> list[int]:
    """Return `_STEP_BITS` levels at once: [state << 8 | x << 4 | y] -> next state << 8 | digits."""
    steps = []
    for index in range(4 << (2 * _STEP_BITS)):
        state, x, y, digits = index >> 8, index >> 4 & 15, index & 15, 0
        for bit in (3, 2, 1, 0):
            digit, state = _descend(state, x >> bit & 1, y >> bit & 1)
            digits = digits << 2 | digit
        steps.append(state << 8 | digits)
    return steps


_STEPS = _build_steps()


def zxy_to_id(z: int, x: int, y: int) -> int:
    """Return the id of a tile.

    Raises:
        ValueError: z is not in 0..31, or x or y not in 0..2**z - 1.

    PERF: four levels a step, tests/perf/bench_tile_ids.py.
    """
    if z > MAX_ZOOM or z < 0 or x >> z or y >> z:
        raise ValueError(f"no such tile: {z}/{x}/{y}")
    levels = (z + 3) & ~3
    # Levels above the tile's own hold zeros; each of them only swaps x and y.
    step = (levels - z & 1) << 8
    position = 0
    while levels:
        levels -= 4
        step = _STEPS[(step & 0x300) | (x >> levels & 15) << 4 | (y >> levels & 15)]
        position = position << 8 | (step & 255)
    return ZOOM_BASES[z] + position


def zoom_of_id(tile_id: int) -> int:
    """Return the zoom that `tile_id` lies in.

    Raises:
        ValueError: the id is negative or lies beyond zoom 31.
    """
    if not 0 <= tile_id <= MAX_TILE_ID:
        raise ValueError(f"no such tile id: {tile_id}")
    return ((3 * tile_id + 1).bit_length() - 1) // 2


def id_to_zxy(tile_id: int) -> tuple[int, int, int]:
    """Return (z, x, y) of a tile id: the inverse of `zxy_to_id`.

    Raises:
        ValueError: the id is negative or lies beyond zoom 31.
    """
    z = zoom_of_id(tile_id)
    position = tile_id - ZOOM_BASES[z]
    x = y = 0
    for level in range(z):
        digit = position >> (2 * level) & 3
        quadrant_x, quadrant_y = digit >> 1, (digit ^ digit >> 1) & 1
        side = 1 << level
        if not quadrant_y:
            if quadrant_x:
                x, y = side - 1 - x, side - 1 - y
            x, y = y, x
        x += quadrant_x * side
        y += quadrant_y * side
    return z, x, y
