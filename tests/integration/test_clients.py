"""Clients that people use: curl, requests, the pmtiles reader, werkzeug's parsers of our fields."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from pmtiles.reader import Reader, all_tiles
from pmtiles.tile import Compression, TileType, zxy_to_tileid
from werkzeug import http
from werkzeug.datastructures import ResponseCacheControl

from tests.servers import Server
from tests.worlds import HOLE, MODIFIED_S, STYLE, TILES_TO, World, etag

CURL = shutil.which("curl")
needs_curl = pytest.mark.skipif(CURL is None, reason="curl is not installed")


def curl(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    assert CURL is not None
    command = [CURL, "--silent", "--show-error", "--max-time", "20", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=True, timeout=30)


@needs_curl
def test_curl_gets_every_file(server: Server, world: World) -> None:
    for path, data in world.files.items():
        assert curl("--fail", server.url(quote(path))).stdout == data


@needs_curl
@pytest.mark.parametrize("asked", ["0-0", "10-99", "900-", "-7"])
def test_curl_gets_a_range(server: Server, world: World, asked: str) -> None:
    first, _, last = asked.partition("-")
    data = world.files["bytes.bin"]
    expected = data[-int(last) :] if not first else data[int(first) : int(last) + 1 if last else None]
    done = curl("--range", asked, "--write-out", "%{stderr}%{http_code}", server.url("bytes.bin"))
    assert done.stdout == expected
    assert done.stderr == b"206"


@needs_curl
def test_curl_decodes_what_it_asked_to_be_compressed(server: Server, world: World) -> None:
    shown = "%{stderr}%{size_download}"
    done = curl("--compressed", "--write-out", shown, server.url("style.css"))
    assert done.stdout == STYLE
    assert int(done.stderr) < len(STYLE)
    assert curl("--compressed", server.url(world.tile_path(7))).stdout == world.tiles[7]


@needs_curl
def test_curl_reads_a_head(server: Server, world: World) -> None:
    text = curl("--head", server.url("big.bin")).stdout.decode()
    status, *lines = text.strip().split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert status.startswith("HTTP/1.1 200")
    assert fields["content-length"] == str(len(world.files["big.bin"]))
    assert fields["etag"] == etag(world.files["big.bin"])


@needs_curl
def test_curl_saves_a_tag_and_is_told_that_nothing_changed(server: Server, tmp_path: Path) -> None:
    tag, out = tmp_path / "tag", tmp_path / "out"
    curl("--etag-save", tag, "--output", out, server.url("hello.txt"))
    saved = out.read_bytes()
    assert tag.read_text().strip() == etag(saved)
    again = curl(
        "--etag-compare", tag, "--output", out, "--write-out", "%{http_code}", server.url("hello.txt")
    )
    assert again.stdout == b"304"
    assert out.read_bytes() == saved


@needs_curl
@pytest.mark.parametrize("have", [0, 1, 300_000, 1 << 20], ids=["nothing", "a byte", "a part", "nearly all"])
def test_curl_resumes_a_download(server: Server, world: World, tmp_path: Path, have: int) -> None:
    data, out = world.files["big.bin"], tmp_path / "out"
    out.write_bytes(data[:have])
    curl("--fail", "--continue-at", "-", "--output", out, server.url("big.bin"))
    assert out.read_bytes() == data


@needs_curl
def test_curl_uses_one_connection_for_many_files(server: Server, world: World) -> None:
    urls = [server.url(path) for path in ("hello.txt", "big.bin", "empty.bin", "nothing.txt", "bytes.bin")]
    done = curl(*urls, "--write-out", "%{stderr}%{num_connects} ")
    assert done.stderr.split() == [b"1", b"0", b"0", b"0", b"0"]
    assert world.files["big.bin"] in done.stdout


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        opened.trust_env = False
        yield opened


def test_requests_revalidates_and_resumes(server: Server, world: World, session: requests.Session) -> None:
    first = session.get(server.url("bytes.bin"), timeout=10)
    first.raise_for_status()
    assert first.content == world.files["bytes.bin"]
    tag = first.headers["ETag"]
    fresh = session.get(server.url("bytes.bin"), headers={"If-None-Match": tag}, timeout=10)
    assert (fresh.status_code, fresh.content, fresh.headers["ETag"]) == (304, b"", tag)
    ranged = {"Range": "bytes=500-", "If-Range": tag}
    rest = session.get(server.url("bytes.bin"), headers=ranged, timeout=10)
    assert (rest.status_code, rest.content) == (206, world.files["bytes.bin"][500:])
    refused = session.post(server.url("bytes.bin"), data=b"x" * 1000, timeout=10)
    assert (refused.status_code, refused.json()["reason"]) == (405, "method")
    assert session.head(server.url("bytes.bin"), timeout=10).headers["Content-Length"] == "1000"


def test_requests_decodes_what_comes_coded(server: Server, world: World, session: requests.Session) -> None:
    answer = session.get(server.url("style.css"), headers={"Accept-Encoding": "gzip"}, timeout=10)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.text == STYLE.decode()
    tile = session.get(server.url(world.tile_path(7)), headers={"Accept-Encoding": "gzip"}, timeout=10)
    assert tile.content == world.tiles[7]


def test_requests_streams_a_large_file(server: Server, world: World, session: requests.Session) -> None:
    with session.get(server.url("big.bin"), stream=True, timeout=10) as answer:
        received = b"".join(answer.iter_content(10_000))
    assert received == world.files["big.bin"]


@pytest.fixture
def reader(server: Server, session: requests.Session) -> Reader:
    """The official reader of the archive, over HTTP ranges."""
    tags = set()

    def get_bytes(offset: int, length: int) -> bytes:
        asked = {"Range": f"bytes={offset}-{offset + length - 1}", "Accept-Encoding": "gzip, br"}
        answer = session.get(server.url("world.pmtiles"), headers=asked, timeout=10)
        assert answer.status_code == 206
        tags.add(answer.headers["ETag"])
        assert len(tags) == 1
        return answer.content

    return Reader(get_bytes)


def test_the_pmtiles_reader_sees_the_tiles_that_we_serve(
    server: Server, world: World, reader: Reader, session: requests.Session
) -> None:
    header = reader.header()
    assert (header["tile_type"], header["tile_compression"]) == (TileType.MVT, Compression.GZIP)
    assert reader.metadata()["name"] == "demo"
    for tile_id in range(TILES_TO):
        path = world.tile_path(tile_id)
        z, x, y = (int(part) for part in path.removesuffix(".mvt").split("/")[1:])
        stored = reader.get(z, x, y)
        answer = session.get(server.url(path), headers={"Accept-Encoding": "gzip"}, stream=True, timeout=10)
        ours = answer.raw.read(decode_content=False)
        if tile_id == HOLE:
            assert (stored, answer.status_code) == (None, 204)
        else:
            assert ours == stored
            assert gzip.decompress(ours) == world.tiles[tile_id]
            assert answer.headers["ETag"] == etag(stored)


def test_the_archive_as_downloaded_is_read_like_the_one_on_disk(
    server: Server, world: World, session: requests.Session
) -> None:
    body = io.BytesIO(session.get(server.url("world.pmtiles"), timeout=10).content)

    def get_bytes(offset: int, length: int) -> bytes:
        body.seek(offset)
        return body.read(length)

    seen = {zxy_to_tileid(*place): gzip.decompress(data) for place, data in all_tiles(get_bytes)}
    assert seen.items() <= world.tiles.items()
    assert set(seen.values()) == set(world.tiles.values())


def test_werkzeug_understands_our_fields(server: Server, world: World, session: requests.Session) -> None:
    answer = session.get(
        server.url("style.css"), headers={"Range": "bytes=0-9", "Accept-Encoding": "br"}, timeout=10
    )
    fields = answer.headers
    tag, is_weak = http.unquote_etag(fields["ETag"])
    assert (tag, is_weak) == (etag(world.files["style.css.br"]).strip('"'), False)
    span = http.parse_content_range_header(fields["Content-Range"])
    assert span is not None
    assert (span.units, span.start, span.stop, span.length) == (
        "bytes",
        0,
        10,
        len(world.files["style.css.br"]),
    )
    assert http.parse_date(fields["Last-Modified"]) == datetime.fromtimestamp(MODIFIED_S, timezone.utc)
    date = http.parse_date(fields["Date"])
    assert date is not None
    assert abs((datetime.now(timezone.utc) - date).total_seconds()) < 10
    assert http.parse_options_header(fields["Content-Type"]) == ("text/css", {"charset": "utf-8"})
    control = http.parse_cache_control_header(fields["Cache-Control"], cls=ResponseCacheControl)
    assert control.max_age == 31536000
    assert (control.public, control.immutable) == (True, True)
    assert set(http.parse_set_header(fields["Vary"])) == {"Accept-Encoding"}
    assert (
        http.is_resource_modified({"REQUEST_METHOD": "GET", "HTTP_IF_NONE_MATCH": fields["ETag"]}, etag=tag)
        is False
    )


def test_werkzeug_understands_a_416_and_a_405(server: Server, session: requests.Session) -> None:
    answer = session.get(server.url("bytes.bin"), headers={"Range": "bytes=5000-"}, timeout=10)
    span = http.parse_content_range_header(answer.headers["Content-Range"])
    assert span is not None
    assert (span.start, span.stop, span.length) == (None, None, 1000)
    allowed = session.delete(server.url("bytes.bin"), timeout=10).headers["Allow"]
    assert set(http.parse_set_header(allowed)) == {"GET", "HEAD", "OPTIONS"}
