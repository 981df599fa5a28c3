from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_server.config.schema import Config, Ingress
from edge_server.errors import NotAcceptable, NotFound, PackUnreadable
from edge_server.packs.pmtiles import read_pmtiles
from edge_server.shm.catalog import Catalog
from edge_server.sidecar.tiles import Tiles
from tests.archives import build

TILE = b"a tile of some length " * 20
BOMB = b"\0" * (1 << 20)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "w.pmtiles"
    path.write_bytes(build({0: TILE, 1: TILE + b"1", 3: BOMB}))
    return path


@pytest.fixture
def catalog(archive: Path) -> Iterator[Catalog]:
    pack = read_pmtiles(str(archive), "maps/my world")
    built = Catalog.build([pack], generation=1, name=f"test-tiles-{os.getpid()}")
    yield built
    built.unlink()
    built.close()


@pytest.fixture
def tiles(catalog: Catalog) -> Tiles:
    return Tiles(catalog, Config())


def test_the_document_leads_to_tiles_of_this_plane(tiles: Tiles) -> None:
    told = json.loads(tiles.tilejson("maps/my world"))
    assert told["tiles"] == ["/api/tiles/maps/my%20world/{z}/{x}/{y}.mvt"]
    assert (told["minzoom"], told["maxzoom"]) == (0, 1)


def test_a_tile_goes_out_as_it_is_stored_to_who_takes_that(tiles: Tiles) -> None:
    found = tiles.read("maps/my world/0/0/0.mvt", "gzip, br")
    assert found is not None
    assert (found.coding, found.media_type) == ("gzip", "application/vnd.mapbox-vector-tile")
    assert gzip.decompress(found.body) == TILE


@pytest.mark.parametrize("accepted", ["identity", "br", ""])
def test_a_tile_is_decoded_for_who_does_not(tiles: Tiles, accepted: str) -> None:
    found = tiles.read("maps/my world/0/0/0.mvt", accepted)
    assert found is not None
    assert (found.coding, found.body) == ("", TILE)


def test_a_tile_that_the_archive_does_not_have_is_none(tiles: Tiles) -> None:
    assert tiles.read("maps/my world/1/1/0.mvt", "gzip") is None


@pytest.mark.parametrize(
    "address",
    [
        *("maps/my world/0/0/0.png", "maps/my world/2/0/0.mvt", "maps/my world/1/2/0.mvt"),
        *("elsewhere/0/0/0.mvt", "maps/my world", "", "../etc/passwd", "/0/0/0.mvt"),
    ],
)
def test_what_is_no_tile_is_not_found(tiles: Tiles, address: str) -> None:
    with pytest.raises(NotFound):
        tiles.read(address, "gzip")


def test_an_unknown_tile_set_is_not_found(tiles: Tiles) -> None:
    with pytest.raises(NotFound):
        tiles.tilejson("elsewhere")


def test_a_bomb_is_not_decoded(catalog: Catalog) -> None:
    tiles = Tiles(catalog, Config(ingress=Ingress(max_decompress_ratio=10)))
    assert tiles.read("maps/my world/1/1/1.mvt", "gzip") is not None
    with pytest.raises(NotAcceptable):
        tiles.read("maps/my world/1/1/1.mvt", "identity")


def test_an_archive_that_has_changed_in_place_is_refused(tiles: Tiles, archive: Path) -> None:
    os.utime(archive, (1, 1))
    with pytest.raises(PackUnreadable):
        tiles.read("maps/my world/0/0/0.mvt", "gzip")
