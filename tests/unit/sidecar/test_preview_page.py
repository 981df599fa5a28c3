from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_server.packs.pmtiles import read_pmtiles
from edge_server.shm.catalog import Catalog, TileView
from edge_server.sidecar import preview_page
from tests.archives import METADATA, build
from tests.markup import Balance

HOSTILE = "</dd><script>alert(1)</script>"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    built: list[Catalog] = []

    def make(name: str = "world", **changes: Any) -> TileView:
        path = tmp_path / f"{len(built)}.pmtiles"
        tile_type = changes.pop("tile_type", "mvt")
        path.write_bytes(build({0: b"t"}, tile_type=tile_type, metadata={**METADATA, **changes}))
        catalog = Catalog.build(
            [read_pmtiles(str(path), name)], generation=1, name=f"test-preview-{os.getpid()}-{len(built)}"
        )
        built.append(catalog)
        return catalog.tilesets[name]

    yield make
    for catalog in built:
        catalog.unlink()
        catalog.close()


def test_the_page_tells_what_the_archive_says_of_itself(make: Any) -> None:
    page = preview_page.render(make(), has_map=True).decode()
    for shown in (
        "demo",
        "nobody",
        "tiles of a test",
        "water",
        "gzip",
        "0 to 0",
        "vector tiles",
        "-180, -85",
    ):
        assert shown in page
    assert 'data-tilejson="/api/tiles/world.json"' in page
    assert "/pages/preview.js" in page


@pytest.mark.parametrize("field", ["name", "attribution", "description", "version"])
def test_what_an_archive_says_stays_text(make: Any, field: str) -> None:
    page = preview_page.render(make(**{field: HOSTILE}), has_map=True).decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    balance = Balance()
    balance.feed(page)


def test_hostile_names_of_packs_and_layers_stay_text(make: Any) -> None:
    layers = [{"id": HOSTILE, "fields": {}}]
    page = preview_page.render(
        make('a"><script>alert(1)</script>', vector_layers=layers), has_map=True
    ).decode()
    assert "<script>alert" not in page


@pytest.mark.parametrize("has_map", [True, False])
def test_a_page_is_well_formed_and_of_this_origin(make: Any, has_map: bool) -> None:
    balance = Balance()
    balance.feed(preview_page.render(make(), has_map=has_map).decode())
    assert balance.open == []
    assert all(address.startswith("/") for address in balance.addresses)
    assert not balance.has_inline
    assert "unsafe" not in preview_page.CONTENT_SECURITY_POLICY


def test_without_the_library_the_page_says_how_to_get_it_and_runs_nothing(make: Any) -> None:
    page = preview_page.render(make(), has_map=False).decode()
    assert "make pages" in page
    assert "<script" not in page


def test_tiles_that_nobody_draws_are_told_as_such(make: Any) -> None:
    page = preview_page.render(make(tile_type="unknown"), has_map=True).decode()
    assert "cannot be drawn" in page
    assert "<script" not in page


@pytest.mark.parametrize("tile_type", ["png", "jpeg", "webp"])
def test_raster_tiles_are_told_as_such(make: Any, tile_type: str) -> None:
    page = preview_page.render(make(tile_type=tile_type), has_map=True).decode()
    assert "raster tiles" in page
    assert "/pages/preview.js" in page
