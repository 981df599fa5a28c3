"""The demo world cut into vector tiles: land, a graticule, cities.

Web Mercator on the unit square, x to the east and y to the south. Outlines are cut
level by level, each tile from its parent's cut, so that a level costs about what the
level above it did. Does no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from edge_server.demo import coastline
from edge_server.demo.vector_tiles import EXTENT, Feature, Points, Shape, encode

MAX_ZOOM = 7
LAYERS = ("land", "graticule", "cities")

_MARGIN = 64  # units of the tile's grid drawn beyond its edges, to hide the seams
_MAX_LATITUDE = 85.0511287798066  # where Web Mercator's square ends

_Ring = list[tuple[float, float]]


class Tile(NamedTuple):
    z: int
    x: int
    y: int
    data: bytes  # not compressed


def count_tiles(max_zoom: int = MAX_ZOOM) -> int:
    """Return how many addresses `tiles` visits; the ones without content are not yielded."""
    return sum(1 << 2 * z for z in range(max_zoom + 1))


def tiles(max_zoom: int = MAX_ZOOM) -> Iterator[Tile | None]:
    """Yield the tiles of all levels, parents first; None for an address that stays empty."""
    land = [[_project(*point) for point in ring] for ring in coastline.rings()]
    cities = [(name, *_project(lon, lat)) for name, lon, lat in coastline.CITIES]
    level = {(0, 0): land}
    for z in range(max_zoom + 1):
        for (x, y), rings in sorted(level.items()):
            content = {
                "land": _land(rings, z, x, y),
                "graticule": _graticule(z, x, y),
                "cities": _cities(cities, z, x, y),
            }
            yield Tile(z, x, y, encode(content)) if any(content.values()) else None
        level = {
            (x * 2 + right, y * 2 + below): _cut(rings, z + 1, x * 2 + right, y * 2 + below)
            for (x, y), rings in level.items()
            for right in (0, 1)
            for below in (0, 1)
        }


def _project(lon: float, lat: float) -> tuple[float, float]:
    lat = max(-_MAX_LATITUDE, min(_MAX_LATITUDE, lat))
    return (lon + 180) / 360, (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2


def _cut(rings: list[_Ring], z: int, x: int, y: int) -> list[_Ring]:
    """Return what of the closed `rings` is in the tile and its margin (Sutherland, Hodgman 1974)."""
    side, margin = 0.5**z, 0.5**z * _MARGIN / EXTENT
    kept = []
    for ring in rings:
        part = ring
        for axis, start in ((0, x * side), (1, y * side)):
            part = _cut_half(part, axis, start - margin, 1)
            part = _cut_half(part, axis, start + side + margin, -1)
        if len(part) > 2:
            kept.append(part)
    return kept


def _cut_half(ring: _Ring, axis: int, limit: float, sign: int) -> _Ring:
    kept: _Ring = []
    if not ring:
        return kept
    before = ring[-1]
    was_inside = (before[axis] - limit) * sign >= 0
    for point in ring:
        is_inside = (point[axis] - limit) * sign >= 0
        if is_inside != was_inside:
            share = (limit - before[axis]) / (point[axis] - before[axis])
            across = before[1 - axis] + share * (point[1 - axis] - before[1 - axis])
            kept.append((limit, across) if axis == 0 else (across, limit))
        if is_inside:
            kept.append(point)
        before, was_inside = point, is_inside
    return kept


def _land(rings: list[_Ring], z: int, x: int, y: int) -> list[Feature]:
    parts = [part for part in (_to_grid(ring, z, x, y) for ring in rings) if _area(part)]
    return [Feature(Shape.POLYGONS, parts, {"kind": "land"})] if parts else []


def _to_grid(ring: _Ring, z: int, x: int, y: int) -> Points:
    scale = EXTENT * 2**z
    points: list[tuple[int, int]] = []
    for px, py in ring:
        point = (round(px * scale) - x * EXTENT, round(py * scale) - y * EXTENT)
        if not points or points[-1] != point:
            points.append(point)
    if len(points) > 1 and points[0] == points[-1]:
        points.pop()
    return points


def _area(ring: Points) -> int:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], *ring[:1]], strict=True))


def _graticule(z: int, x: int, y: int) -> list[Feature]:
    step = 30 if z < 3 else 15 if z < 5 else 10
    low, high = -_MARGIN, EXTENT + _MARGIN
    features = []
    for degrees in range(-180, 181, step):
        across = round(_project(degrees, 0)[0] * EXTENT * 2**z) - x * EXTENT
        if low <= across <= high:
            features.append(_line("meridian", degrees, [(across, low), (across, high)]))
    for degrees in range(-90 + step, 90, step):
        down = round(_project(0, degrees)[1] * EXTENT * 2**z) - y * EXTENT
        if low <= down <= high:
            features.append(_line("parallel", degrees, [(low, down), (high, down)]))
    return features


def _line(kind: str, degrees: int, points: Points) -> Feature:
    return Feature(Shape.LINES, [points], {"kind": kind, "degrees": str(degrees)})


def _cities(cities: list[tuple[str, float, float]], z: int, x: int, y: int) -> list[Feature]:
    scale = 2**z
    return [
        Feature(Shape.POINT, _to_grid_points(px, py, z, x, y), {"name": name})
        for name, px, py in cities
        if int(px * scale) == x and int(py * scale) == y
    ]


def _to_grid_points(px: float, py: float, z: int, x: int, y: int) -> list[Points]:
    return [_to_grid([(px, py)], z, x, y)]
