"""TileJSON documents: deterministic, and whole whatever a pack's metadata hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.http.tilejson import document

URL = "https://maps.example/edge/assets/world/{z}/{x}/{y}.mvt"


def test_a_document_is_compact_and_in_a_fixed_order() -> None:
    static = {
        "vector_layers": [{"id": "roads", "fields": {}}],
        "zebra": 1,
        "bounds": [-180, -85, 180, 85],
        "maxzoom": 14,
        "name": "Welt €",
        "attribution": "<a>©</a>",
        "minzoom": 0,
    }
    assert document(static, URL) == (
        b'{"tilejson":"3.0.0","name":"Welt \\u20ac","attribution":"<a>\\u00a9</a>","tiles":["'
        + URL.encode()
        + b'"],'
        b'"minzoom":0,"maxzoom":14,"bounds":[-180,-85,180,85],"vector_layers":[{"id":"roads","fields":{}}],"zebra":1}'
    )


def test_the_version_and_the_tiles_are_the_servers_own() -> None:
    parsed = json.loads(document({"tilejson": "1.0.0", "tiles": ["http://elsewhere"]}, URL))
    assert parsed == {"tilejson": "3.0.0", "tiles": [URL]}


def deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(float("nan"), id="NaN"),
        pytest.param([0, float("inf")], id="infinity"),
        pytest.param({1, 2}, id="a set"),
        pytest.param(b"bytes", id="bytes"),
        pytest.param(deep(200_000), id="deep nesting"),
    ],
)
def test_what_json_cannot_say_is_left_out(value: object) -> None:
    assert json.loads(document({"name": "w", "odd": value}, URL)) == {
        "tilejson": "3.0.0",
        "name": "w",
        "tiles": [URL],
    }


def test_a_lone_surrogate_stays_escaped() -> None:
    assert json.loads(document({"name": "\ud800"}, URL))["name"] == "\ud800"


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.dictionaries(st.text(max_size=8), values, max_size=6))
def test_every_document_reads_back_and_does_not_depend_on_insertion(static: dict[str, Any]) -> None:
    written = document(static, URL)
    assert json.loads(written) == {**static, "tilejson": "3.0.0", "tiles": [URL]}
    assert document(dict(reversed(static.items())), URL) == written
    assert written.isascii()
