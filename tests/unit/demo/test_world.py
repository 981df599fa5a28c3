"""The demo's own archive, judged by the official reader and by its bytes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from pmtiles.reader import MmapSource, Reader, all_tiles

from edge_server.demo import assets, coastline, vector_tiles, world
from edge_server.demo.archive import ArchiveWriter
from edge_server.demo.vector_tiles import Feature, Shape

MAX_ZOOM = 4


def write_world(path: Path, max_zoom: int) -> dict[tuple[int, int, int], bytes]:
    archive = ArchiveWriter({"name": "World"})
    written = {}
    for tile in world.tiles(max_zoom):
        if tile is not None:
            archive.add(*tile)
            written[tile[:3]] = tile.data
    archive.write(str(path))
    return written


@pytest.mark.parametrize("max_zoom", [MAX_ZOOM, world.MAX_ZOOM], ids=["in the root", "with leaves"])
def test_the_official_reader_finds_every_tile(tmp_path: Path, max_zoom: int) -> None:
    written = write_world(tmp_path / "world.pmtiles", max_zoom)
    with open(tmp_path / "world.pmtiles", "rb") as file:
        source = MmapSource(file)
        header = Reader(source).header()
        read = {address: gzip.decompress(tile) for address, tile in all_tiles(source)}
    assert read == written
    assert header["addressed_tiles_count"] == len(written)
    assert (header["leaf_directory_length"] > 0) == (max_zoom > MAX_ZOOM)


def test_equal_neighbours_are_stored_once(tmp_path: Path) -> None:
    archive = ArchiveWriter({})
    for x, y in [(0, 0), (0, 1), (1, 1), (1, 0)]:
        archive.add(1, x, y, b"sea")
    archive.write(str(tmp_path / "a.pmtiles"))
    with open(tmp_path / "a.pmtiles", "rb") as file:
        header = Reader(MmapSource(file)).header()
    assert header["addressed_tiles_count"] == 4
    assert header["tile_entries_count"] == header["tile_contents_count"] == 1


def test_two_builds_are_the_same_bytes(tmp_path: Path) -> None:
    write_world(tmp_path / "a.pmtiles", 2)
    write_world(tmp_path / "b.pmtiles", 2)
    assert (tmp_path / "a.pmtiles").read_bytes() == (tmp_path / "b.pmtiles").read_bytes()


def test_every_tile_parses_and_the_top_one_has_all_layers() -> None:
    counts = {tile[:3]: vector_tiles.count_features(tile.data) for tile in world.tiles(MAX_ZOOM) if tile}
    assert counts[0, 0, 0] == {"land": 1, "graticule": 18, "cities": len(coastline.CITIES)}
    assert all(set(layers) <= set(world.LAYERS) for layers in counts.values())


def test_each_city_is_in_one_tile_of_each_level() -> None:
    per_level = [0] * (MAX_ZOOM + 1)
    for tile in world.tiles(MAX_ZOOM):
        if tile is not None:
            per_level[tile.z] += vector_tiles.count_features(tile.data).get("cities", 0)
    assert per_level == [len(coastline.CITIES)] * (MAX_ZOOM + 1)


def test_land_lies_where_it_should() -> None:
    rings = coastline.rings()
    assert len(rings) > 100
    assert all(-180 <= lon <= 180 and -90 <= lat <= 90 for ring in rings for lon, lat in ring)
    tiles = {tile[:3]: vector_tiles.count_features(tile.data) for tile in world.tiles(MAX_ZOOM) if tile}
    assert "land" in tiles[4, 9, 8]  # Congo
    assert "land" not in tiles.get((4, 0, 9), {})  # the South Pacific


def test_a_tile_is_encoded_as_the_specification_shows() -> None:
    # Vector Tile Specification 2.1, section 4.3.5.1: the point (25, 17) is [9, 50, 34].
    feature = Feature(Shape.POINT, [[(25, 17)]])
    tile = vector_tiles.encode({"p": [feature]})
    assert bytes([0x22, 3, 9, 50, 34]) in tile
    # Section 4.3.5.4: the polygon (3,6) (8,12) (20,34) is [9, 6, 12, 18, 10, 12, 24, 44, 15].
    ring = Feature(Shape.POLYGONS, [[(3, 6), (8, 12), (20, 34)]])
    assert bytes([0x22, 9, 9, 6, 12, 18, 10, 12, 24, 44, 15]) in vector_tiles.encode({"r": [ring]})


@pytest.mark.parametrize(
    "tile",
    [b"\x1a\x05ab", b"\x1a\xff", b"\x0a\x00", b"\x1a\x00", b"\xff" * 12],
    ids=["layer past the end", "unfinished length", "no layer", "no name", "endless number"],
)
def test_what_is_no_tile_is_refused(tile: bytes) -> None:
    with pytest.raises(ValueError, match=r"wire type|number|field|layer"):
        vector_tiles.count_features(tile)


def test_assets_are_announced_written_and_repeatable(tmp_path: Path) -> None:
    names = list(assets.write_assets(str(tmp_path)))
    first = {name: (tmp_path / name).read_bytes() for name in names}
    assert len(names) == assets.count_assets() == len({path.name for path in tmp_path.iterdir()})
    assert list(assets.write_assets(str(tmp_path))) == names
    assert {name: (tmp_path / name).read_bytes() for name in names} == first
    assert len(first[assets.BYTES_NAME]) == assets.BYTES_SIZE
    assert len(json.loads(first["cities.geojson"])["features"]) == len(coastline.CITIES)
    assert gzip.decompress(first["map.js.gz"]) == first["map.js"]
