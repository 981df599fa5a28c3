"""TileJSON documents: how a tile set presents itself to map clients.

Specification: TileJSON 3.0.0 (github.com/mapbox/tilejson-spec). The same input gives
the same bytes, so that replicas agree on the entity tag. Does no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

TILEJSON_VERSION = "3.0.0"

# What a person looks for first; other keys follow by name.
_ORDER = (
    "tilejson",
    "name",
    "description",
    "version",
    "attribution",
    "scheme",
    "tiles",
    "minzoom",
    "maxzoom",
    "bounds",
    "center",
    "vector_layers",
)


def document(static: Mapping[str, Any], tiles_url: str) -> bytes:
    """Return a TileJSON document as compact ASCII JSON.

    A value that JSON cannot express (NaN, an endless nesting) is left out with its
    key: readers treat an invalid value as an absent one (section 3).

    Args:
        static: everything but `tilejson` and `tiles`.
        tiles_url: absolute URL template with ``{z}``, ``{x}`` and ``{y}``.

    Source: TileJSON 3.0.0 section 3.
    """
    values = {**static, "tilejson": TILEJSON_VERSION, "tiles": [tiles_url]}
    members = []
    for key in [*(key for key in _ORDER if key in values), *sorted(values.keys() - set(_ORDER))]:
        text = _json(values[key])
        if text is not None:
            members.append(f"{json.dumps(key)}:{text}")
    return ("{" + ",".join(members) + "}").encode("ascii")


def _json(value: object) -> str | None:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        return None
