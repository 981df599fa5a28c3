"""Media types: the same everywhere, whatever the host's own tables say."""

from __future__ import annotations

import mimetypes

import pytest

from edge_server.http.media_types import coding_of_suffix, media_type


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("world.pmtiles", "application/vnd.pmtiles"),
        ("world.mbtiles", "application/vnd.sqlite3"),
        ("0.mvt", "application/vnd.mapbox-vector-tile"),
        ("fonts/0-255.pbf", "application/x-protobuf"),
        ("places.geojson", "application/geo+json"),
        ("places.topojson", "application/json"),
        ("house.glb", "model/gltf-binary"),
        ("font.woff2", "font/woff2"),
        ("photo.avif", "image/avif"),
        ("photo.webp", "image/webp"),
        ("photo.JPG", "image/jpeg"),
        ("code.wasm", "application/wasm"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("app.mjs", "text/javascript; charset=utf-8"),
        ("app.js.map", "application/json"),
        ("style.json", "application/json"),
        ("index.html", "text/html; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("notes.txt", "text/plain; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
        ("feed.xml", "application/xml"),
        ("film.mpeg", "video/mpeg"),
        ("data.tar.gz", "application/gzip"),
        ("file.unknown", "application/octet-stream"),
        ("Makefile", "application/octet-stream"),
        (".json", "application/octet-stream"),
        ("folder.json/file", "application/octet-stream"),
        ("", "application/octet-stream"),
        ("a.", "application/octet-stream"),
        ("a.js\r\nX: y", "application/octet-stream"),
    ],
)
def test_a_name_has_its_type(name: str, expected: str) -> None:
    assert media_type(name) == expected


def test_the_tables_of_the_host_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        mimetypes, "types_map", {**mimetypes.types_map, ".qqq": "text/host", ".js": "text/host"}
    )
    mimetypes.add_type("text/host", ".qqq")
    assert media_type("a.qqq") == "application/octet-stream"
    assert media_type("a.js") == "text/javascript; charset=utf-8"


@pytest.mark.parametrize(
    "suffix", [".js", ".mjs", ".markdown", ".n3", ".nq", ".nt", ".rst", ".srt", ".trig", ".webp", ".md"]
)
def test_what_pythons_disagree_about_is_in_the_own_table(
    suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_server.http.media_types._built_in_types", dict)
    assert media_type("a" + suffix) != "application/octet-stream"


def test_three_suffixes_name_codings() -> None:
    assert coding_of_suffix == {".br": "br", ".zst": "zstd", ".gz": "gzip"}
