"""PMTiles archives of every kind, read back tile by tile; the `pmtiles` package is the oracle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from pmtiles.reader import MemorySource, Reader, all_tiles
from pmtiles.tile import zxy_to_tileid

from edge_server.errors import PackError
from edge_server.http.codings import decode
from edge_server.packs import pmtiles as module
from edge_server.packs.pmtiles import read_pmtiles
from edge_server.packs.reader import NO_FILE, Pack
from tests.archives import METADATA, build, build_official, damaged, encode

CODINGS = ["", "gzip", "br", "zstd"]
TILES = {**{tile_id: b"tile %d" % (tile_id // 3) for tile_id in range(5, 200)}, 1000: b"far", 70_000: b"far"}
LAYOUTS = {"root alone": (), "leaves": (16,), "leaves of leaves": (8, 4), "four levels": (4, 3, 2)}


def mounted(folder: Path, archive: bytes, name: str = "world") -> Pack:
    path = folder / "world.pmtiles"
    path.write_bytes(archive)
    return read_pmtiles(str(path), name)


def stored_tiles(pack: Pack, archive: bytes) -> dict[int, bytes]:
    """Return all tiles, as they are stored, by id."""
    tileset = pack.tilesets[0]
    found = {}
    columns = (tileset.first_ids, tileset.run_lengths, tileset.offsets, tileset.lengths)
    for first, run, offset, length in zip(*(column.tolist() for column in columns), strict=True):
        for tile_id in range(first, first + run):
            assert tile_id not in found
            found[tile_id] = archive[offset : offset + length]
    return found


def decoded_tiles(pack: Pack, archive: bytes) -> dict[int, bytes]:
    coding = pack.tilesets[0].coding
    return {
        tile_id: decode(coding, data, max_bytes=1 << 20)
        for tile_id, data in stored_tiles(pack, archive).items()
    }


@pytest.mark.parametrize("is_clustered", [True, False], ids=["clustered", "shuffled"])
@pytest.mark.parametrize("leaf_sizes", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("internal", CODINGS)
def test_every_tile_is_found(
    tmp_path: Path, internal: str, leaf_sizes: tuple[int, ...], is_clustered: bool
) -> None:
    archive = build(TILES, internal=internal, leaf_sizes=leaf_sizes, clustered=is_clustered)
    assert decoded_tiles(mounted(tmp_path, archive), archive) == TILES


@pytest.mark.parametrize("coding", CODINGS)
def test_tiles_keep_the_coding_they_are_stored_in(tmp_path: Path, coding: str) -> None:
    archive = build(TILES, coding=coding)
    pack = mounted(tmp_path, archive)
    assert pack.tilesets[0].coding == coding
    assert stored_tiles(pack, archive) == {tile_id: encode(coding, data) for tile_id, data in TILES.items()}


def test_no_coding_is_claimed_for_tiles_of_unknown_compression(tmp_path: Path) -> None:
    assert mounted(tmp_path, build(TILES, coding="unknown")).tilesets[0].coding == ""


@pytest.mark.parametrize(
    ("tile_type", "extensions", "media_type", "word"),
    [
        ("mvt", ("mvt", "pbf"), "application/vnd.mapbox-vector-tile", "pbf"),
        ("png", ("png",), "image/png", "png"),
        ("jpeg", ("jpg", "jpeg"), "image/jpeg", "jpg"),
        ("webp", ("webp",), "image/webp", "webp"),
        ("avif", ("avif",), "image/avif", "avif"),
        ("mlt", ("mlt",), "application/vnd.maplibre-tile", "mlt"),
        ("unknown", ("bin",), "application/octet-stream", None),
    ],
)
def test_a_tile_type_has_its_extensions_and_media_type(
    tmp_path: Path, tile_type: str, extensions: tuple[str, ...], media_type: str, word: str | None
) -> None:
    tileset = mounted(tmp_path, build(TILES, tile_type=tile_type)).tilesets[0]
    assert (tileset.extensions, tileset.media_type) == (extensions, media_type)
    assert tileset.tilejson.get("format") == word


def test_an_archive_of_the_reference_is_read_like_the_reference_does(tmp_path: Path) -> None:
    archive = build_official({tile_id: encode("gzip", data) for tile_id, data in TILES.items()})
    source = MemorySource(archive)
    pack = mounted(tmp_path, archive)
    reference = {zxy_to_tileid(*address): data for address, data in all_tiles(source)}
    assert stored_tiles(pack, archive) == reference
    assert json.loads(pack.entries[1].inline or b"") == Reader(source).metadata()


def test_the_reference_reads_what_the_tests_build(tmp_path: Path) -> None:
    archive = build(TILES, leaf_sizes=(16, 4), clustered=False)
    source = MemorySource(archive)
    reference = {zxy_to_tileid(*address): data for address, data in all_tiles(source)}
    assert reference == stored_tiles(mounted(tmp_path, archive), archive)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    tiles=st.dictionaries(st.integers(0, 5000), st.binary(min_size=1, max_size=3), min_size=1, max_size=120),
    leaf_sizes=st.lists(st.integers(2, 9), max_size=3),
    is_clustered=st.booleans(),
)
def test_any_tiles_in_any_layout_are_found(
    tmp_path_factory: pytest.TempPathFactory,
    tiles: dict[int, bytes],
    leaf_sizes: list[int],
    is_clustered: bool,
) -> None:
    archive = build(tiles, coding="", internal="", leaf_sizes=leaf_sizes, clustered=is_clustered)
    pack = mounted(tmp_path_factory.mktemp("any"), archive)
    assert stored_tiles(pack, archive) == tiles
    assert (np.diff(pack.tilesets[0].first_ids.astype(np.int64)) > 0).all()


def test_the_archive_itself_is_an_entry(tmp_path: Path) -> None:
    archive = build(TILES)
    entry = mounted(tmp_path, archive, "maps/world").entries[0]
    assert (entry.path, entry.offset, entry.length) == ("maps/world.pmtiles", 0, len(archive))
    assert entry.is_archive
    assert entry.media_type == "application/vnd.pmtiles"


@pytest.mark.parametrize("internal", CODINGS)
def test_the_metadata_are_an_entry(tmp_path: Path, internal: str) -> None:
    entry = mounted(tmp_path, build(TILES, internal=internal)).entries[1]
    assert (entry.path, entry.file) == ("world/metadata.json", NO_FILE)
    assert entry.inline == json.dumps(METADATA).encode()
    assert entry.length == len(entry.inline)
    assert entry.digest == blake3(entry.inline).digest()


def test_an_archive_without_metadata_has_an_empty_object(tmp_path: Path) -> None:
    archive = damaged(build(TILES, internal=""), metadata_length=0)
    assert mounted(tmp_path, archive).entries[1].inline == b"{}"


def test_a_link_to_an_archive_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.pmtiles").write_bytes(build(TILES))
    (tmp_path / "latest.pmtiles").symlink_to("real.pmtiles")
    pack = read_pmtiles(str(tmp_path / "latest.pmtiles"), "latest")
    assert pack.files[0].path == str((tmp_path / "real.pmtiles").resolve())


def test_an_archive_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "world.pmtiles"
    read_tiles = module.read_tiles

    def read_and_append(*args: Any) -> Any:
        with path.open("ab") as file:
            file.write(b"more")
        return read_tiles(*args)

    monkeypatch.setattr(module, "read_tiles", read_and_append)
    with pytest.raises(PackError, match="changed while it was read"):
        mounted(tmp_path, build(TILES))


def tilejson(folder: Path, metadata: Any, **fields: Any) -> dict[str, Any]:
    return dict(mounted(folder, build(TILES, metadata=metadata, **fields)).tilesets[0].tilejson)


def test_the_document_is_made_of_header_and_metadata(tmp_path: Path) -> None:
    assert tilejson(tmp_path, METADATA) == {
        "tilejson": "3.0.0",
        "scheme": "xyz",
        "name": "demo",
        "description": "tiles of a test",
        "attribution": "nobody",
        "minzoom": 2,
        "maxzoom": 8,
        "bounds": [-180.0, -85.0, 180.0, 85.0],
        "center": [8.5, 47.3, 2],
        "format": "pbf",
        "vector_layers": [{"id": "water", "fields": {"kind": "String"}}],
    }


@pytest.mark.parametrize(
    ("metadata", "key"),
    [
        ({"name": 7}, "name"),
        ({"description": None}, "description"),
        ({"attribution": ["a"]}, "attribution"),
        ({"fillzoom": True}, "fillzoom"),
        ({"fillzoom": 31}, "fillzoom"),
        ({"encoding": {}}, "encoding"),
        ({"tiles": ["http://elsewhere/"]}, "tiles"),
    ],
    ids=str,
)
def test_an_odd_value_is_left_out_of_the_document(tmp_path: Path, metadata: dict[str, Any], key: str) -> None:
    assert key not in tilejson(tmp_path, metadata)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        ("water", []),
        (["water", {"id": 7}, {"fields": {}}], []),
        ([{"id": "a"}], [{"id": "a", "fields": {}}]),
        ([{"id": "a", "fields": [], "minzoom": 3}], [{"id": "a", "fields": {}, "minzoom": 3}]),
    ],
    ids=str,
)
def test_vector_layers_always_have_what_the_specification_requires(
    tmp_path: Path, value: object, expected: list[object]
) -> None:
    assert tilejson(tmp_path, {"vector_layers": value})["vector_layers"] == expected


def test_raster_tiles_have_no_vector_layers(tmp_path: Path) -> None:
    document = tilejson(tmp_path, {**METADATA, "encoding": "terrarium"}, tile_type="webp")
    assert "vector_layers" not in document
    assert document["encoding"] == "terrarium"


def test_maplibre_tiles_say_how_they_are_encoded(tmp_path: Path) -> None:
    assert tilejson(tmp_path, METADATA, tile_type="mlt")["encoding"] == "mlt"


@pytest.mark.parametrize(
    "fields",
    [
        {"min_lon_e7": 0, "max_lon_e7": 0},
        {"min_lat_e7": 10, "max_lat_e7": -10},
        {"max_lon_e7": 2_000_000_000},
        {"min_lat_e7": -950_000_000},
    ],
    ids=str,
)
def test_bounds_that_enclose_nothing_on_the_globe_are_left_out(
    tmp_path: Path, fields: dict[str, int]
) -> None:
    document = tilejson(tmp_path, METADATA, **fields)
    assert "bounds" not in document
    assert "center" in document


def test_the_center_lies_in_the_zooms_and_on_the_globe(tmp_path: Path) -> None:
    assert tilejson(tmp_path, METADATA, center_zoom=30)["center"][2] == 8
    assert "center" not in tilejson(tmp_path, METADATA, center_lat_e7=-2_000_000_000)
