"""Mapbox Vector Tile 2.1: writing layers of features, and counting those of a tile.

Follows the specification's sections 4.1 to 4.4 and the wire format of Protocol Buffers.
Knows no file and no projection: coordinates are integers of the tile's own grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, TypeAlias

EXTENT = 4096  # units along a side of a tile

Points: TypeAlias = Sequence[tuple[int, int]]


class Shape(IntEnum):
    """Geometry types of section 4.3.4, numbered as on the wire."""

    POINT = 1
    LINES = 2
    POLYGONS = 3


class Feature(NamedTuple):
    """Parts of one shape: points, or lines, or closed rings, and the attributes they share."""

    shape: Shape
    parts: Sequence[Points]
    attributes: Mapping[str, str] = {}


def encode(layers: Mapping[str, Sequence[Feature]]) -> bytes:
    """Return the tile that holds `layers`; those without features are left out."""
    return b"".join(_bytes_field(3, _layer(name, features)) for name, features in layers.items() if features)


def count_features(tile: bytes) -> dict[str, int]:
    """Return how many features each layer of a tile has.

    Raises:
        ValueError: the bytes are not a vector tile.
    """
    counts = {}
    for number, layer in _fields(tile):
        if number != 3 or not isinstance(layer, bytes):
            raise ValueError(f"field {number} at the top of a vector tile")
        fields = list(_fields(layer))
        names = [value for field, value in fields if field == 1]
        if len(names) != 1 or not isinstance(names[0], bytes):
            raise ValueError("a layer without a name")
        counts[names[0].decode()] = sum(field == 2 for field, _ in fields)
    return counts


def _layer(name: str, features: Sequence[Feature]) -> bytes:
    keys: dict[str, int] = {}
    values: dict[str, int] = {}
    encoded = []
    for feature in features:
        tags = []
        for key, value in feature.attributes.items():
            tags += [keys.setdefault(key, len(keys)), values.setdefault(value, len(values))]
        body = _bytes_field(2, _varints(tags)) if tags else b""
        body += _varints([3 << 3, feature.shape])
        body += _bytes_field(4, _varints(_commands(feature)))
        encoded.append(_bytes_field(2, body))
    return b"".join(
        [
            _bytes_field(1, name.encode()),
            *encoded,
            *(_bytes_field(3, key.encode()) for key in keys),
            *(_bytes_field(4, _bytes_field(1, value.encode())) for value in values),
            _varints([5 << 3, EXTENT, 15 << 3, 2]),
        ]
    )


def _commands(feature: Feature) -> list[int]:
    # Section 4.3: (id | count << 3), MoveTo 1, LineTo 2, ClosePath 7; steps from the cursor, zigzag.
    commands = []
    x = y = 0
    for part in feature.parts:
        for place, (to_x, to_y) in enumerate(part):
            if place == 0:
                commands.append(1 | 1 << 3)
            elif place == 1:
                commands.append(2 | (len(part) - 1) << 3)
            commands += [_zigzag(to_x - x), _zigzag(to_y - y)]
            x, y = to_x, to_y
        if feature.shape is Shape.POLYGONS:
            commands.append(7 | 1 << 3)
    return commands


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _varints(values: Iterable[int]) -> bytes:
    out = bytearray()
    for value in values:
        rest = int(value)
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def _bytes_field(number: int, body: bytes) -> bytes:
    return _varints([number << 3 | 2, len(body)]) + body


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        value, at = _read_varint(data, at)
        if tag & 7 == 0:
            yield tag >> 3, value
        elif tag & 7 == 2 and at + value <= len(data):
            yield tag >> 3, data[at : at + value]
            at += value
        else:
            raise ValueError(f"wire type {tag & 7} or length past the end, at byte {at}")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError(f"a number that does not end, at byte {at}")
