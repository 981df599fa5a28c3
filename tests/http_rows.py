"""The HTTP contract of the asset plane as a table: what is asked of a world, and what must come back.

A row's fields are compared exactly, or must be absent. It is for an instance with defaults
that serves what ``worlds.py`` builds.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from edge_server.http.reasons import REASONS
from tests.archives import encode
from tests.wire import Answer
from tests.worlds import EARLIER, MODIFIED, STYLE, etag

ABSENT = None
IMMUTABLE = "public, max-age=31536000, immutable"
HELLO = b"Hello from the edge of the world.\n"
BYTES = bytes(range(250)) * 4
HELLO_TAG, BYTES_TAG = etag(HELLO), etag(BYTES)
OTHER_TAG = '"b3:' + 64 * "0" + '"'
NEITHER = {"Accept-Encoding": "identity;q=0, *;q=0"}


@dataclass(frozen=True)
class Row:
    """A request, and what it must be answered.

    `target` is below ``/edge/assets/`` unless it starts with a slash. Without a `body`
    any is right; that of a `reason` is the problem document.
    """

    id: str
    target: str
    status: int
    fields: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"
    answer: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    reason: str = ""
    sent: bytes = b""

    @property
    def path(self) -> str:
        return self.target if self.target.startswith("/") else f"/edge/assets/{self.target}"


def refused(name: str, target: str, status: int, reason: str, **more: Any) -> Row:
    return Row(name, target, status, reason=reason, **more)


def part(first: int, last: int) -> dict[str, Any]:
    """Return what a 206 of bytes.bin must have."""
    return {
        "status": 206,
        "body": BYTES[first : last + 1],
        "answer": {
            "Content-Range": f"bytes {first}-{last}/1000",
            "Content-Length": str(last - first + 1),
            "ETag": BYTES_TAG,
            "Content-Type": "application/octet-stream",
        },
    }


WHOLE = {"status": 200, "body": BYTES, "answer": {"Content-Range": ABSENT, "Content-Length": "1000"}}
NO_BYTES = {"status": 416, "reason": "invalid_range", "answer": {"Content-Range": "bytes */1000"}}
UNCHANGED = {
    "status": 304,
    "body": b"",
    "answer": {
        "ETag": HELLO_TAG,
        "Cache-Control": IMMUTABLE,
        "Content-Length": ABSENT,
        "Content-Type": ABSENT,
    },
}

ENTRIES = [
    Row(
        "a file",
        "hello.txt",
        200,
        answer={
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Length": str(len(HELLO)),
            "Content-Encoding": ABSENT,
            "ETag": HELLO_TAG,
            "Last-Modified": MODIFIED,
            "Accept-Ranges": "bytes",
            "Cache-Control": IMMUTABLE,
            "Cache-Status": "svc-edge; hit",
            "Vary": ABSENT,
            "Strict-Transport-Security": ABSENT,
            "Access-Control-Allow-Origin": ABSENT,
            "Age": ABSENT,
        },
        body=HELLO,
    ),
    Row("an empty file", "empty.bin", 200, answer={"Content-Length": "0", "ETag": etag(b"")}, body=b""),
    Row("a map format", "maps/plain.geojson", 200, answer={"Content-Type": "application/geo+json"}),
    Row("a query is not part of the path", "hello.txt?v=1&p=/../x", 200, body=HELLO),
    Row("an encoded letter", "%68ello.txt", 200, body=HELLO),
    Row("an encoded slash", "maps%2Fplain.geojson", 200, answer={"Content-Type": "application/geo+json"}),
    Row("letters beyond ASCII", "maps/n%C3%A4me%20%C3%BC.txt", 200, body="Zürich\n".encode()),
    Row("an encoded percent sign", "maps/100%25.txt", 200, body=b"all of it\n"),
    refused("nothing there", "nothing.txt", 404, "not_found"),
    refused("a hidden file", ".hidden", 404, "not_found"),
    refused("a file in a hidden folder", "maps/.git/config", 404, "not_found"),
    refused("a folder", "maps", 404, "not_found"),
    refused("outside the assets", "/etc/passwd", 404, "not_found"),
    refused("the root", "/", 404, "not_found"),
]

HEADS = [
    Row(
        "HEAD of a file",
        "hello.txt",
        200,
        method="HEAD",
        answer={"Content-Length": str(len(HELLO)), "ETag": HELLO_TAG, "Accept-Ranges": "bytes"},
        body=b"",
    ),
    Row(
        "HEAD ignores Range",
        "bytes.bin",
        200,
        {"Range": "bytes=0-9"},
        "HEAD",
        {"Content-Length": "1000", "Content-Range": ABSENT},
        b"",
    ),
    Row(
        "HEAD of a large file", "big.bin", 200, method="HEAD", answer={"Content-Length": str((1 << 20) + 17)}
    ),
    Row("HEAD that is not modified", "hello.txt", 304, {"If-None-Match": HELLO_TAG}, "HEAD", body=b""),
    Row("HEAD of nothing", "nothing.txt", 404, method="HEAD", answer={"X-Reason": "not_found"}, body=b""),
]

RANGES = [
    Row("the first bytes", "bytes.bin", fields={"Range": "bytes=0-99"}, **part(0, 99)),
    Row("one byte", "bytes.bin", fields={"Range": "bytes=500-500"}, **part(500, 500)),
    Row("from a byte on", "bytes.bin", fields={"Range": "bytes=900-"}, **part(900, 999)),
    Row("the last bytes", "bytes.bin", fields={"Range": "bytes=-100"}, **part(900, 999)),
    Row("a suffix longer than the file", "bytes.bin", fields={"Range": "bytes=-5000"}, **part(0, 999)),
    Row("an end beyond the file", "bytes.bin", fields={"Range": "bytes=990-5000"}, **part(990, 999)),
    Row("the unit in capitals", "bytes.bin", fields={"Range": "BYTES=1-2"}, **part(1, 2)),
    Row("a start beyond the file", "bytes.bin", fields={"Range": "bytes=1000-"}, **NO_BYTES),
    Row("a suffix of nothing", "bytes.bin", fields={"Range": "bytes=-0"}, **NO_BYTES),
    Row("the end before the start", "bytes.bin", fields={"Range": "bytes=9-1"}, **NO_BYTES),
    Row("a range of letters", "bytes.bin", fields={"Range": "bytes=a-b"}, **NO_BYTES),
    Row("an empty set of ranges", "bytes.bin", fields={"Range": "bytes="}, **NO_BYTES),
    Row("a signed number", "bytes.bin", fields={"Range": "bytes=+1-2"}, **NO_BYTES),
    Row("several ranges", "bytes.bin", fields={"Range": "bytes=0-1,5-6"}, **NO_BYTES),
    Row("another unit", "bytes.bin", fields={"Range": "lines=0-1"}, **WHOLE),
    Row("If-Range holds", "bytes.bin", fields={"Range": "bytes=0-0", "If-Range": BYTES_TAG}, **part(0, 0)),
    Row(
        "If-Range of another tag", "bytes.bin", fields={"Range": "bytes=0-0", "If-Range": OTHER_TAG}, **WHOLE
    ),
    Row("a weak If-Range", "bytes.bin", fields={"Range": "bytes=0-0", "If-Range": f"W/{BYTES_TAG}"}, **WHOLE),
    Row("If-Range with a date", "bytes.bin", fields={"Range": "bytes=0-0", "If-Range": MODIFIED}, **WHOLE),
    Row(
        "If-Range of another tag saves a range that does not exist",
        "bytes.bin",
        fields={"Range": "bytes=5000-", "If-Range": OTHER_TAG},
        **WHOLE,
    ),
    Row(
        "a range of a large file",
        "big.bin",
        206,
        {"Range": "bytes=100-700000"},
        answer={"Content-Range": f"bytes 100-700000/{(1 << 20) + 17}", "Content-Length": "699901"},
    ),
    Row("a suffix of an empty file", "empty.bin", 200, {"Range": "bytes=-1"}, body=b""),
    Row(
        "a range of an empty file",
        "empty.bin",
        416,
        {"Range": "bytes=0-0"},
        answer={"Content-Range": "bytes */0"},
        reason="invalid_range",
    ),
]

PRECONDITIONS = [
    Row("If-None-Match", "hello.txt", fields={"If-None-Match": HELLO_TAG}, **UNCHANGED),
    Row("a weak If-None-Match", "hello.txt", fields={"If-None-Match": f"W/{HELLO_TAG}"}, **UNCHANGED),
    Row("a list", "hello.txt", fields={"If-None-Match": f'"a,b", {OTHER_TAG} , {HELLO_TAG}'}, **UNCHANGED),
    Row("any", "hello.txt", fields={"If-None-Match": "*"}, **UNCHANGED),
    Row("If-Modified-Since", "hello.txt", fields={"If-Modified-Since": MODIFIED}, **UNCHANGED),
    Row(
        "not modified, and a range",
        "hello.txt",
        fields={"If-None-Match": "*", "Range": "bytes=0-1"},
        **UNCHANGED,
    ),
    Row("modified since", "hello.txt", 200, {"If-Modified-Since": EARLIER}, body=HELLO),
    Row("a date that is none", "hello.txt", 200, {"If-Modified-Since": "yesterday"}, body=HELLO),
    Row("another tag", "hello.txt", 200, {"If-None-Match": OTHER_TAG}, body=HELLO),
    Row(
        "a tag counts more than a date",
        "hello.txt",
        200,
        {"If-None-Match": OTHER_TAG, "If-Modified-Since": MODIFIED},
        body=HELLO,
    ),
    Row("If-Match", "hello.txt", 200, {"If-Match": f"{OTHER_TAG}, {HELLO_TAG}"}, body=HELLO),
    Row("If-Match any", "hello.txt", 200, {"If-Match": "*"}, body=HELLO),
    refused("If-Match of another", "hello.txt", 412, "precondition", fields={"If-Match": OTHER_TAG}),
    refused("a weak If-Match", "hello.txt", 412, "precondition", fields={"If-Match": f"W/{HELLO_TAG}"}),
    refused("modified meanwhile", "hello.txt", 412, "precondition", fields={"If-Unmodified-Since": EARLIER}),
    Row("not modified meanwhile", "hello.txt", 200, {"If-Unmodified-Since": MODIFIED}, body=HELLO),
    Row(
        "If-Match counts more than If-Unmodified-Since",
        "hello.txt",
        200,
        {"If-Match": HELLO_TAG, "If-Unmodified-Since": EARLIER},
        body=HELLO,
    ),
    refused(
        "If-Match is judged before If-None-Match",
        "hello.txt",
        412,
        "precondition",
        fields={"If-Match": OTHER_TAG, "If-None-Match": HELLO_TAG},
    ),
]

CODED = {coding: encode(coding, STYLE) for coding in ("br", "zstd", "gzip")}


def style(coding: str) -> dict[str, Any]:
    """Return what style.css must be in one coding."""
    data = CODED.get(coding, STYLE)
    return {
        "status": 200,
        "body": data,
        "answer": {
            "Content-Encoding": coding or ABSENT,
            "Content-Type": "text/css; charset=utf-8",
            "Content-Length": str(len(data)),
            "ETag": etag(data),
            "Vary": "Accept-Encoding",
        },
    }


CODINGS = [
    Row("no Accept-Encoding", "style.css", **style("")),
    Row("br is liked best", "style.css", fields={"Accept-Encoding": "gzip, zstd, br"}, **style("br")),
    Row("then zstd", "style.css", fields={"Accept-Encoding": "gzip, zstd"}, **style("zstd")),
    Row("gzip alone", "style.css", fields={"Accept-Encoding": "gzip"}, **style("gzip")),
    Row("q-values decide", "style.css", fields={"Accept-Encoding": "br;q=0.1, gzip;q=0.9"}, **style("gzip")),
    Row("a star", "style.css", fields={"Accept-Encoding": "*"}, **style("br")),
    Row("a star but br", "style.css", fields={"Accept-Encoding": "*, br;q=0"}, **style("zstd")),
    Row("unknown codings", "style.css", fields={"Accept-Encoding": "compress, x-rot13"}, **style("")),
    Row(
        "everything refused but identity",
        "style.css",
        fields={"Accept-Encoding": "*;q=0, identity"},
        **style(""),
    ),
    refused(
        "nothing is acceptable",
        "style.css",
        406,
        "not_acceptable",
        fields=NEITHER,
        answer={"Vary": "Accept-Encoding"},
    ),
    Row(
        "a range of a coded file",
        "style.css",
        206,
        {"Accept-Encoding": "gzip", "Range": "bytes=2-9"},
        answer={
            "Vary": "Accept-Encoding",
            "Content-Encoding": "gzip",
            "ETag": etag(CODED["gzip"]),
            "Content-Range": f"bytes 2-9/{len(CODED['gzip'])}",
        },
        body=CODED["gzip"][2:10],
    ),
    Row(
        "a coded file is not modified",
        "style.css",
        304,
        {"Accept-Encoding": "br", "If-None-Match": etag(CODED["br"])},
        answer={"Vary": "Accept-Encoding", "ETag": etag(CODED["br"])},
    ),
    Row(
        "the tag of another coding is another",
        "style.css",
        fields={"Accept-Encoding": "br", "If-None-Match": etag(CODED["gzip"])},
        **style("br"),
    ),
    Row(
        "a coded file by its own name",
        "style.css.gz",
        200,
        answer={"Content-Encoding": ABSENT},
        body=CODED["gzip"],
    ),
]

PATHS = [
    refused(name, target, 400, "bad_request")
    for name, target in {
        "dot segments": "../hello.txt",
        "dot segments inside": "maps/../hello.txt",
        "dot segments out of everything": "../../../../etc/passwd",
        "encoded dots": "%2e%2e/hello.txt",
        "half encoded dots": "%2E./hello.txt",
        "dots and an encoded slash": "..%2fhello.txt",
        "a single dot": "./hello.txt",
        "an encoded NUL": "hello.txt%00.png",
        "an encoded line feed": "hello%0A.txt",
        "an encoded DEL": "hello%7f.txt",
        "an encoded leading slash": "%2Fhello.txt",
        "an absolute path behind an encoded slash": "%2Fetc%2Fpasswd",
        "a double slash": "maps//plain.geojson",
        "a trailing slash": "maps/",
        "no name": "",
        "an encoded backslash": "..%5chello.txt",
        "an overlong dot": "%c0%ae%c0%ae/hello.txt",
        "no UTF-8": "%ff%fe",
        "a path too long": "a" * 1025,
    }.items()
] + [
    refused(name, target, 404, "not_found")
    for name, target in {
        "dots encoded twice": "%252e%252e/hello.txt",
        "a slash encoded twice": "maps%252Fplain.geojson",
        "a NUL encoded twice": "hello.txt%2500",
        "another case of letters": "HELLO.TXT",
        "three dots": ".../hello.txt",
        "a path as long as may be": "a" * 1024,
    }.items()
]

METHODS = [
    refused(
        f"{method} {path or 'of an asset'}",
        path or "hello.txt",
        405,
        "method",
        method=method,
        answer={"Allow": "GET, HEAD, OPTIONS"},
        sent=sent,
    )
    for method, path, sent in (
        ("POST", "", b"a body that nobody wants"),
        ("PUT", "", b"replaced"),
        ("PATCH", "", b""),
        ("DELETE", "", b""),
        ("POST", "/healthz", b"x"),
        ("DELETE", "/readyz", b""),
        ("POST", "/nowhere", b""),
    )
] + [
    Row(
        "OPTIONS without an origin",
        "hello.txt",
        204,
        method="OPTIONS",
        answer={"Allow": "GET, HEAD, OPTIONS", "Access-Control-Allow-Origin": ABSENT},
    ),
    Row(
        "a preflight where no origin is allowed",
        "hello.txt",
        204,
        {"Origin": "https://maps.example", "Access-Control-Request-Method": "GET"},
        "OPTIONS",
        {"Allow": "GET, HEAD, OPTIONS", "Access-Control-Allow-Origin": ABSENT},
    ),
    Row(
        "an origin where none is allowed",
        "hello.txt",
        200,
        {"Origin": "https://maps.example"},
        answer={"Access-Control-Allow-Origin": ABSENT},
        body=HELLO,
    ),
]

TILE = b"tile 7 " * 30
STORED = encode("gzip", TILE)
PLACE_7 = "world/2/1/1.mvt"  # tile id 7 on the Hilbert curve


def tile(data: bytes, coding: str) -> dict[str, Any]:
    """Return what tile 7 must be."""
    return {
        "status": 200,
        "body": data,
        "answer": {
            "Content-Type": "application/vnd.mapbox-vector-tile",
            "Content-Encoding": coding or ABSENT,
            "ETag": etag(data),
            "Vary": "Accept-Encoding",
            "Accept-Ranges": "bytes",
            "Cache-Control": IMMUTABLE,
            "Cache-Status": "svc-edge; hit",
        },
    }


TILES = [
    Row("a tile as it is stored", PLACE_7, fields={"Accept-Encoding": "gzip"}, **tile(STORED, "gzip")),
    Row(
        "a tile for who likes br more",
        PLACE_7,
        fields={"Accept-Encoding": "br, gzip;q=0.5"},
        **tile(STORED, "gzip"),
    ),
    Row(
        "a tile by its other extension",
        "world/2/1/1.pbf",
        fields={"Accept-Encoding": "gzip"},
        **tile(STORED, "gzip"),
    ),
    Row("a tile decoded", PLACE_7, fields={"Accept-Encoding": "br"}, **tile(TILE, "")),
    Row("a tile for who refuses gzip", PLACE_7, fields={"Accept-Encoding": "gzip;q=0"}, **tile(TILE, "")),
    refused(
        "a tile in no coding",
        PLACE_7,
        406,
        "not_acceptable",
        fields=NEITHER,
        answer={"Vary": "Accept-Encoding"},
    ),
    Row(
        "a range of a tile",
        PLACE_7,
        206,
        {"Accept-Encoding": "gzip", "Range": "bytes=-4"},
        answer={"ETag": etag(STORED), "Content-Encoding": "gzip", "Vary": "Accept-Encoding"},
        body=STORED[-4:],
    ),
    Row("a tile is not modified", PLACE_7, 304, {"Accept-Encoding": "gzip", "If-None-Match": etag(STORED)}),
    Row("HEAD of a tile", PLACE_7, 200, {"Accept-Encoding": "gzip"}, "HEAD", {"ETag": etag(STORED)}, b""),
    Row("an absent tile", "world/2/0/0.mvt", 204, answer={"Content-Length": ABSENT, "Content-Type": ABSENT}),
    Row("HEAD of an absent tile", "world/2/0/0.mvt", 204, method="HEAD"),
] + [
    refused(name, target, 404, "not_found")
    for name, target in {
        "a wrong extension": "world/2/1/1.png",
        "x outside the grid": "world/2/4/0.mvt",
        "y outside the grid": "world/2/0/4.mvt",
        "a zoom that the archive does not have": "world/3/0/0.mvt",
        "a zoom that no archive has": "world/32/0/0.mvt",
        "a leading zero": "world/2/01/1.mvt",
        "a negative number": "world/2/-1/1.mvt",
        "a fraction": "world/2/1.5/1.mvt",
        "another archive": "moon/2/1/1.mvt",
        "no tile at all": "world/2/1.mvt",
    }.items()
]

HEALTH = [
    Row("health", "/healthz", 200, answer={"Cache-Control": "no-store", "ETag": ABSENT}, body=b"ok\n"),
    Row("HEAD of health", "/healthz", 200, method="HEAD", answer={"Content-Length": "3"}, body=b""),
    Row(
        "readiness", "/readyz", 200, answer={"Content-Type": "application/json", "Cache-Control": "no-store"}
    ),
    Row("HEAD of readiness", "/readyz", 200, method="HEAD", body=b""),
    refused("readiness with a slash", "/readyz/", 404, "not_found"),
]

ROWS = [
    *ENTRIES,
    *HEADS,
    *RANGES,
    *PRECONDITIONS,
    *CODINGS,
    *PATHS,
    *METHODS,
    *TILES,
    *HEALTH,
]


def check(row: Row, answer: Answer) -> None:
    """Compare an answer with its row, and with what every answer has."""
    assert answer.status == row.status, (row.id, answer)
    for name, expected in row.answer.items():
        if expected is None:
            assert not answer.all(name), (row.id, name, answer.fields)
        else:
            assert answer[name] == expected, (row.id, name)
    if row.body is not None:
        assert answer.body == row.body, row.id
    check_common(answer)
    if row.reason:
        check_refusal(row, answer)


def check_common(answer: Answer) -> None:
    """What stands on every answer."""
    sent_s = parsedate_to_datetime(answer["Date"]).timestamp()
    assert abs(time.time() - sent_s) < 10
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", answer["X-Corr-ID"])
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "no-referrer"
    assert not answer.all("Strict-Transport-Security")
    singular = [name.lower() for name, _ in answer.fields if name.lower() not in ("vary", "connection")]
    assert len(singular) == len(set(singular)), answer.fields


def check_refusal(row: Row, answer: Answer) -> None:
    assert answer["X-Reason"] == row.reason
    assert answer["Cache-Control"] == "no-store"
    assert not answer.all("ETag")
    if row.method == "HEAD":
        return
    assert answer["Content-Type"] == "application/problem+json"
    assert json.loads(answer.body) == {
        "type": "about:blank",
        "title": REASONS[row.reason].title,
        "status": row.status,
        "reason": row.reason,
        "corr_id": answer["X-Corr-ID"],
    }
