"""What settings change of the HTTP contract: CORS, several ranges, absent tiles, documents, tags."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_server.http.cors import EXPOSED_FIELDS
from tests.archives import build
from tests.http_rows import BYTES, BYTES_TAG
from tests.servers import Server
from tests.wire import Answer, ask
from tests.worlds import World, write

Serve = Callable[..., Server]
Spans = list[tuple[int, int]]

CONFIGURED = """
[cors]
allow_origins = ["https://maps.example"]
max_age = "1h"
[http]
enable_multi_range = true
empty_tile = 404
cache_control = "public, max-age=60"
public_url = "https://cdn.example/base"
"""


@pytest.fixture(scope="module")
def configured(module_serve: Serve, world: World, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """An instance whose configuration changes what may be changed of this contract."""
    root = tmp_path_factory.mktemp("configured")
    path = root / "svc-edge.toml"
    path.write_text(CONFIGURED)
    pixels = {0: b"\x89PNG " * 20, 1: b"\x89PNG two"}
    write(root / "photo.pmtiles", build(pixels, tile_type="png", coding=""))
    write(root / "bomb.pmtiles", build({0: b"\0" * (8 << 20)}, coding="gzip"))
    packs = [*world.packs, root / "photo.pmtiles", root / "bomb.pmtiles"]
    return module_serve("--workers", 1, "--config", path, *packs)


def test_an_allowed_origin_is_echoed(configured: Server) -> None:
    for target, status in (("hello.txt", 200), ("nothing.txt", 404), ("world/2/1/1.mvt", 200)):
        answer = ask(configured.assets, f"/edge/assets/{target}", fields={"Origin": "https://maps.example"})
        assert answer.status == status
        assert answer["Access-Control-Allow-Origin"] == "https://maps.example"
        assert answer["Access-Control-Expose-Headers"] == EXPOSED_FIELDS
        assert "Origin" in answer.all("Vary")


@pytest.mark.parametrize("origin", ["https://evil.example", "http://maps.example", "null", ""])
def test_another_origin_gets_no_permission(configured: Server, origin: str) -> None:
    for method in ("GET", "OPTIONS"):
        fields = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        answer = ask(configured.assets, "/edge/assets/hello.txt", method, fields)
        assert not [name for name, _ in answer.fields if name.lower().startswith("access-control-")]
        assert method == "OPTIONS" or "Origin" in answer.all("Vary")


def test_a_preflight_of_an_allowed_origin_is_granted(configured: Server) -> None:
    fields = {
        "Origin": "https://maps.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "range, if-range",
    }
    answer = ask(configured.assets, "/edge/assets/hello.txt", "OPTIONS", fields)
    assert answer.status == 204
    assert answer["Access-Control-Allow-Origin"] == "https://maps.example"
    assert answer["Access-Control-Allow-Methods"] == "GET, HEAD"
    assert "Range" in answer["Access-Control-Allow-Headers"].split(", ")
    assert answer["Access-Control-Max-Age"] == "3600"
    assert answer["Allow"] == "GET, HEAD, OPTIONS"


def test_an_absent_tile_can_be_a_404(configured: Server) -> None:
    answer = ask(configured.assets, "/edge/assets/world/2/0/0.mvt")
    assert (answer.status, answer["X-Reason"]) == (404, "not_found")


def test_cache_control_is_the_operators(configured: Server) -> None:
    assert ask(configured.assets, "/edge/assets/hello.txt")["Cache-Control"] == "public, max-age=60"
    archive = ask(configured.assets, "/edge/assets/world.pmtiles", "HEAD")
    assert archive["Cache-Control"] == "public, max-age=60, no-transform"


def test_the_public_url_stands_in_tilejson(configured: Server) -> None:
    told = json.loads(ask(configured.assets, "/edge/assets/world.json").body)
    assert told["tiles"] == ["https://cdn.example/base/edge/assets/world/{z}/{x}/{y}.mvt"]


def test_tiles_that_are_not_compressed_are_not_negotiated(configured: Server) -> None:
    answer = ask(configured.assets, "/edge/assets/photo/0/0/0.png", fields={"Accept-Encoding": "gzip"})
    assert answer["Content-Type"] == "image/png"
    assert not answer.all("Content-Encoding")
    assert answer.all("Vary") == ["Origin"]
    assert answer.body == b"\x89PNG " * 20


def test_a_tile_that_grows_too_much_is_not_decoded(configured: Server) -> None:
    stored = ask(configured.assets, "/edge/assets/bomb/0/0/0.mvt", fields={"Accept-Encoding": "gzip"})
    assert (stored.status, stored["Content-Encoding"]) == (200, "gzip")
    refusal = ask(configured.assets, "/edge/assets/bomb/0/0/0.mvt")
    assert (refusal.status, refusal["X-Reason"]) == (406, "not_acceptable")


def parts_of(answer: Answer) -> list[tuple[str, bytes]]:
    """Return (Content-Range, body) of each part. Source: RFC 9110 section 14.6."""
    match = re.fullmatch(r"multipart/byteranges; boundary=([0-9A-Za-z]+)", answer["Content-Type"])
    assert match is not None
    boundary = match[1].encode()
    pieces = (b"\r\n" + answer.body).split(b"\r\n--" + boundary)
    assert pieces[0] == b""
    assert pieces[-1].rstrip(b"\r\n") == b"--"
    found = []
    for piece in pieces[1:-1]:
        head, _, data = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        found.append((fields["Content-Range"], data))
    return found


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        ("bytes=0-9,100-109", [(0, 9), (100, 109)]),
        ("bytes=100-109,0-9", [(100, 109), (0, 9)]),
        ("bytes=0-9,5-20,-10", [(0, 20), (990, 999)]),
        ("bytes=0-0,5000-6000,2-2", [(0, 0), (2, 2)]),
        (
            f"bytes={','.join(f'{start}-{start}' for start in range(0, 32, 2))}",
            [(n, n) for n in range(0, 32, 2)],
        ),
    ],
    ids=["two", "in the order asked", "overlaps become one", "one beyond the file", "sixteen"],
)
def test_several_ranges_come_as_parts(configured: Server, value: str, spans: Spans) -> None:
    answer = ask(configured.assets, "/edge/assets/bytes.bin", fields={"Range": value})
    assert answer.status == 206
    assert not answer.all("Content-Range")
    assert answer["ETag"] == BYTES_TAG
    assert parts_of(answer) == [
        (f"bytes {first}-{last}/1000", BYTES[first : last + 1]) for first, last in spans
    ]


def test_large_parts_come_whole(configured: Server, world: World) -> None:
    data = world.files["big.bin"]
    answer = ask(configured.assets, "/edge/assets/big.bin", fields={"Range": "bytes=0-499999,600000-"})
    assert [body for _, body in parts_of(answer)] == [data[:500_000], data[600_000:]]


@pytest.mark.parametrize(
    ("value", "status"),
    [("bytes=5-9,0-4,10-10", 206), ("bytes=5000-,6000-", 416), ("bytes=0-1,x", 416)],
    ids=["what is one range in the end", "none of them exists", "one that does not parse"],
)
def test_several_ranges_that_are_no_parts(configured: Server, value: str, status: int) -> None:
    answer = ask(configured.assets, "/edge/assets/bytes.bin", fields={"Range": value})
    assert answer.status == status
    assert answer["Content-Range"] == ("bytes 0-10/1000" if status == 206 else "bytes */1000")


def test_seventeen_parts_are_too_many(configured: Server) -> None:
    value = ",".join(f"{start}-{start}" for start in range(0, 34, 2))
    answer = ask(configured.assets, "/edge/assets/bytes.bin", fields={"Range": f"bytes={value}"})
    assert (answer.status, answer["X-Reason"]) == (416, "invalid_range")


def test_weak_tags_on_request(serve: Serve, world: World, tmp_path: Path) -> None:
    path = tmp_path / "weak.yaml"
    path.write_text("http:\n  strong_etag: false\n")
    server = serve("--workers", 1, "--config", path, world.folder)
    answer = ask(server.assets, "/edge/assets/bytes.bin")
    assert answer["ETag"] == f"W/{BYTES_TAG}"
    fields = {"Range": "bytes=0-0", "If-Range": answer["ETag"]}
    assert ask(server.assets, "/edge/assets/bytes.bin", fields=fields).status == 200
    fields = {"If-None-Match": answer["ETag"]}
    assert ask(server.assets, "/edge/assets/bytes.bin", fields=fields).status == 304
