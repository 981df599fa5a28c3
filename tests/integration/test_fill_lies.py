"""An origin over HTTPS that lies in every way: refused with the right reason, and nothing is left of it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import brotli
import pytest
import trustme
import zstandard
from blake3 import blake3

from edge_server.config.schema import Ingress
from edge_server.errors import Rejection
from edge_server.fill.blocks import part_of
from edge_server.fill.engine import Fetched
from edge_server.fill.receiving import GRACE_S
from edge_server.fill.storing import Known
from tests.fills import FILL, asking
from tests.origins import Closed, Script, ScriptedOrigin, ok, says, scripted

BODY = bytes(range(256)) * 64
INGRESS = Ingress(max_decompress_ratio=10.0, decompress_abs_bytes=1024 * 1024, max_body_bytes=1024)


class Pki:
    """A CA of this run and the contexts of servers that it signed, or did not."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.bundle = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.bundle)

    def context(self, name: str = "origin.test", ca: trustme.CA | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (ca or self.ca).issue_cert(name).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def origin(pki: Pki) -> Iterator[ScriptedOrigin]:
    with scripted(says(b""), pki.context()) as origin:
        yield origin


def ask(origin: ScriptedOrigin, pki: Pki, fields: dict[str, str] | None = None, **more: object):  # type: ignore[no-untyped-def]
    settings = {"ca_bundle": pki.bundle, "read_timeout": 0.6, "max_object_bytes": 512 * 1024} | more
    known, block = settings.pop("known", None), settings.pop("block", None)
    budget_s = settings.pop("budget_s", 4.0)
    with asking(
        origin.port,
        host="origin.test",
        scheme="https",
        resolver=lambda host, port: ["127.0.0.1"],
        ingress=INGRESS,
        fill=FILL,
        **settings,
    ) as asked:
        answer = asked.get("x", fields, budget_s=budget_s, known=known, block=block)
    return answer, asked


def head(*lines: str, status: str = "200 OK", version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join([f"{version} {status}", *lines]).encode() + b"\r\n\r\n"


def sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def b3(data: bytes) -> str:
    return f'ETag: "b3:{blake3(data).hexdigest()}"'


def coded(coding: str, data: bytes) -> bytes:
    if coding == "gzip":
        return gzip.compress(data)
    return brotli.compress(data, quality=5) if coding == "br" else zstandard.compress(data)


CHUNKED = b"".join(
    b"%x\r\n%s\r\n" % (len(BODY[i : i + 999]), BODY[i : i + 999]) for i in range(0, len(BODY), 999)
)
HONEST = {
    "a length": ok(BODY),
    "chunks": head("Transfer-Encoding: chunked") + CHUNKED + b"0\r\n\r\n",
    "chunks with extensions and trailers": head("Transfer-Encoding: chunked")
    + b"5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
    "the right digests": ok(
        BODY, f"Repr-Digest: sha-256=:{sha256(BODY)}:, unknown=:AAAA:", f"Digest: SHA-256={sha256(BODY)}"
    ),
    "the right tag": ok(BODY, b3(BODY)),
    "a digest nobody knows": ok(BODY, "Digest: UNIXsum=30637", "Content-Digest: md5=:AAAA:"),
    "no content": ok(b""),
    "a field that is empty": ok(BODY, "X-Empty:"),
    "equal lengths twice": ok(BODY, f"Content-Length: {len(BODY)}"),
    "status 203": ok(BODY, status="203 Non-Authoritative Information"),
}


@pytest.mark.parametrize("data", HONEST.values(), ids=HONEST.keys())
def test_what_holds_is_taken(origin: ScriptedOrigin, pki: Pki, data: bytes) -> None:
    origin.script = says(data)
    answer, asked = ask(origin, pki)
    assert isinstance(answer, Fetched)
    assert (answer.status, answer.size) == (200, len(asked.sinks[0].data))
    assert answer.digest == blake3(bytes(asked.sinks[0].data)).digest()
    assert bytes(asked.sinks[0].data) in (BODY, b"", b"hello")
    assert not asked.sinks[0].is_aborted


LIES = {
    "206 unasked": (ok(BODY, f"Content-Range: bytes 0-{len(BODY) - 1}/99999", status="206 x"), "integrity"),
    "304 unasked": (head("ETag: x", status="304 Not Modified"), "integrity"),
    "100 unasked": (head(status="100 Continue") + ok(BODY), "integrity"),
    "103 unasked": (head("Link: <x>", status="103 Early Hints") + ok(BODY), "integrity"),
    "101 unasked": (head("Upgrade: x", status="101 Switching Protocols"), "integrity"),
    "204": (head(status="204 No Content"), "integrity"),
    "300": (ok(BODY, status="300 Multiple Choices"), "integrity"),
    "a redirect to nowhere": (ok(b"", status="302 Found"), "integrity"),
    "a redirect off the list": (ok(b"", "Location: https://evil.net/", status="302 Found"), "not_allowed"),
    "a redirect to metadata": (ok(b"", "Location: https://169.254.169.254/", status="307 x"), "not_allowed"),
    "a redirect without end": (ok(b"", "Location: /x", status="301 Moved"), "not_allowed"),
    "403": (ok(BODY, status="403 Forbidden"), "upstream_4xx"),
    "500": (ok(BODY, status="500 Internal Server Error"), "upstream_5xx"),
    "999": (ok(BODY, status="999 What"), "upstream_5xx"),
    "over-long": (ok(BODY) + b"more", "integrity"),
    "over-large": (head("Content-Length: 600000") + bytes(600_000), "integrity"),
    "a length that is none": (head("Content-Length: 12x") + BODY, "integrity"),
    "a negative length": (head("Content-Length: -1") + BODY, "integrity"),
    "lengths that differ": (head("Content-Length: 5", "Content-Length: 6") + b"hello!", "integrity"),
    "a length beside chunks": (
        head("Content-Length: 5", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
        "integrity",
    ),
    "another transfer coding": (head("Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", "integrity"),
    "chunks in HTTP/1.0": (
        head("Transfer-Encoding: chunked", version="HTTP/1.0") + b"0\r\n\r\n",
        "integrity",
    ),
    "a chunk size that is none": (
        head("Transfer-Encoding: chunked") + b"0x5\r\nhello\r\n0\r\n\r\n",
        "integrity",
    ),
    "a chunk longer than it says": (
        head("Transfer-Encoding: chunked") + b"2\r\nhello\r\n0\r\n\r\n",
        "integrity",
    ),
    "a folded field": (head("X: a", " b", "Content-Length: 0"), "integrity"),
    "a field without a name": (head(": a", "Content-Length: 0"), "integrity"),
    "a space before the colon": (head("Content-Length : 0"), "integrity"),
    "a null in a field": (head("X: a\0b", "Content-Length: 0"), "integrity"),
    "no status line": (b"hello\r\n\r\n", "integrity"),
    "HTTP/2": (head("Content-Length: 0", version="HTTP/2.0"), "integrity"),
    "too many fields": (head(*["X: 1"] * 300, "Content-Length: 0"), "integrity"),
    "too large a head": (head("X: " + "a" * 70_000), "integrity"),
    "a wrong Repr-Digest": (ok(BODY, f"Repr-Digest: sha-256=:{sha256(b'')}:"), "integrity"),
    "a wrong Content-Digest": (ok(BODY, f"Content-Digest: a=?1, sha-256=:{sha256(b'')}:"), "integrity"),
    "a wrong Digest": (ok(BODY, f"Digest: md5=x, SHA-256={sha256(b'')}"), "integrity"),
    "one of two digests wrong": (
        ok(BODY, f"Repr-Digest: sha-256=:{sha256(BODY)}:, sha-512=:AAAA:"),
        "integrity",
    ),
    "a wrong tag": (ok(BODY, b3(b"other")), "etag_invalid"),
    "a tag that is no hash": (ok(BODY, 'ETag: "b3:abc"'), "etag_invalid"),
    "an unknown coding": (ok(BODY, "Content-Encoding: rot13"), "integrity"),
    "two codings": (ok(BODY, "Content-Encoding: gzip, br"), "integrity"),
    "a coding that it is not": (ok(BODY, "Content-Encoding: gzip"), "integrity"),
}


@pytest.mark.parametrize(("data", "reason"), LIES.values(), ids=LIES.keys())
def test_a_lie_is_refused(origin: ScriptedOrigin, pki: Pki, data: bytes, reason: str) -> None:
    origin.script = says(data)
    answer, asked = ask(origin, pki)
    assert isinstance(answer, Rejection)
    assert answer.reason == reason, answer
    assert all(sink.is_aborted for sink in asked.sinks)


def cut(data: bytes, *, alert: bool) -> Script:
    """Return a script that ends the connection after `data`, with TLS's closing alert or without."""

    def script(sock: socket.socket, head: bytes) -> None:
        sock.sendall(data)
        if alert:
            assert isinstance(sock, ssl.SSLSocket)
            sock.settimeout(1)
            try:
                sock.unwrap()
            except OSError:
                pass
        raise Closed

    return script


def reset(data: bytes) -> Script:
    """Return a script that resets the connection after `data`."""

    def script(sock: socket.socket, head: bytes) -> None:
        sock.sendall(data)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Closed

    return script


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(cut(ok(BODY)[:-1], alert=True), id="a byte short"),
        pytest.param(cut(ok(BODY)[:-1], alert=False), id="a byte short, without an alert"),
        pytest.param(reset(ok(BODY)[:5000]), id="reset"),
        pytest.param(cut(b"HTTP/1.1 200 O", alert=True), id="within the status line"),
        pytest.param(cut(b"", alert=True), id="before anything"),
        pytest.param(cut(head("Transfer-Encoding: chunked") + CHUNKED, alert=True), id="no last chunk"),
        pytest.param(cut(head() + BODY, alert=False), id="until the end, which nothing vouches for"),
        pytest.param(
            cut(ok(gzip.compress(BODY)[:-1], "Content-Encoding: gzip"), alert=True), id="a cut gzip"
        ),
    ],
)
def test_an_answer_that_breaks_off_is_refused(origin: ScriptedOrigin, pki: Pki, script: Script) -> None:
    origin.script = script
    answer, asked = ask(origin, pki)
    assert isinstance(answer, Rejection)
    assert answer.reason == "integrity"
    assert all(sink.is_aborted for sink in asked.sinks)


def test_a_body_until_the_end_is_whole_if_the_end_was_announced(origin: ScriptedOrigin, pki: Pki) -> None:
    origin.script = cut(head() + BODY, alert=True)
    answer, asked = ask(origin, pki)
    assert isinstance(answer, Fetched), answer
    assert asked.sinks[0].data == BODY


@pytest.mark.parametrize(
    ("first", "then", "gap_s"),
    [
        pytest.param(b"", b"", 3.0, id="says nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n", 0.2, id="trickles its head"),
        pytest.param(head("Content-Length: 9999"), b"x", 0.2, id="trickles its body"),
        pytest.param(head("Transfer-Encoding: chunked"), b"1\r\nx\r\n", 0.2, id="trickles chunks"),
        pytest.param(ok(BODY)[:-1], b"", 3.0, id="falls silent"),
    ],
)
def test_an_origin_that_dawdles_is_a_timeout(
    origin: ScriptedOrigin, pki: Pki, first: bytes, then: bytes, gap_s: float
) -> None:
    def script(sock: socket.socket, head: bytes) -> None:
        sock.sendall(first)
        for _ in range(60):
            origin.wait(gap_s)
            sock.sendall(then)

    origin.script = script
    answer, asked = ask(origin, pki)
    assert isinstance(answer, Rejection)
    assert answer.reason == "timeout"
    assert all(sink.is_aborted for sink in asked.sinks)


def test_a_body_that_trickles_is_given_up_long_before_the_budget_is_over(
    origin: ScriptedOrigin, pki: Pki
) -> None:
    def script(sock: socket.socket, request: bytes) -> None:
        sock.sendall(head("Content-Length: 9999"))
        while True:
            origin.wait(0.1)
            sock.sendall(b"x")

    origin.script = script
    began_s = time.monotonic()
    answer, _ = ask(origin, pki, budget_s=20.0)
    assert isinstance(answer, Rejection)
    assert answer.reason == "timeout"
    assert GRACE_S <= time.monotonic() - began_s < GRACE_S + 4


@pytest.mark.parametrize("fields", [(), ("Transfer-Encoding: chunked",)], ids=["until the end", "in chunks"])
def test_an_endless_body_is_given_up_at_the_largest_size(
    origin: ScriptedOrigin, pki: Pki, fields: tuple[str, ...]
) -> None:
    def script(sock: socket.socket, request: bytes) -> None:
        sock.sendall(head(*fields))
        piece = b"4000\r\n" + bytes(0x4000) + b"\r\n" if fields else bytes(0x4000)
        while True:
            sock.sendall(piece)

    origin.script = script
    answer, asked = ask(origin, pki)
    assert isinstance(answer, Rejection)
    assert answer.reason == "integrity"
    assert asked.sinks[0].is_aborted
    assert asked.sinks[0].size <= 600_000


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize("is_asked", [True, False], ids=["asked for", "unasked"])
def test_a_bomb_is_refused_by_its_ratio_and_by_its_size(
    origin: ScriptedOrigin, pki: Pki, coding: str, is_asked: bool
) -> None:
    fields = {"accept-encoding": coding if is_asked else "identity"}
    origin.script = says(ok(coded(coding, bytes(900_000)), f"Content-Encoding: {coding}"))
    answer, asked = ask(origin, pki, fields)
    assert isinstance(answer, Rejection)
    assert answer.reason == "ratio_cap"
    noise = hashlib.shake_256(b"noise").digest(200_000)
    origin.script = says(ok(coded(coding, noise + bytes(1_000_000)), f"Content-Encoding: {coding}"))
    answer, more = ask(origin, pki, fields)
    assert isinstance(answer, Rejection)
    assert answer.reason == "decompress_cap"
    assert all(sink.is_aborted for sink in [*asked.sinks, *more.sinks])


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_coding_that_was_asked_for_is_kept_and_another_is_undone(
    origin: ScriptedOrigin, pki: Pki, coding: str
) -> None:
    data = coded(coding, BODY)
    fields = (f"Content-Encoding: {coding}", b3(data), f"Repr-Digest: sha-256=:{sha256(data)}:")
    origin.script = says(ok(data, *fields))
    answer, asked = ask(origin, pki, {"accept-encoding": coding})
    assert isinstance(answer, Fetched), answer
    assert asked.sinks[0].data == data
    assert ("Content-Encoding", coding) in answer.fields
    answer, asked = ask(origin, pki, {})
    assert isinstance(answer, Fetched), answer
    assert asked.sinks[0].data == BODY
    assert "content-encoding" not in {name.lower() for name, _ in answer.fields}


def test_a_certificate_of_another_name_or_another_authority_is_refused(pki: Pki) -> None:
    for context in (pki.context("evil.test"), pki.context(ca=trustme.CA())):
        with scripted(says(ok(BODY)), context) as origin:
            answer, asked = ask(origin, pki)
            assert isinstance(answer, Rejection)
            assert answer.reason == "integrity"
            assert origin.requests == []
            assert asked.hooks.told == ["attempted", "handshake failed", "failed integrity"]


def test_an_origin_that_breaks_off_the_handshake_is_told_as_such(pki: Pki) -> None:
    context = pki.context()
    context.sni_callback = lambda sock, name, context: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    with scripted(says(ok(BODY)), context) as origin:
        answer, asked = ask(origin, pki)
        assert isinstance(answer, Rejection)
        assert answer.reason == "fill_unavailable"
        assert "the TLS handshake failed" in str(answer)
        assert asked.hooks.told == ["attempted", "handshake failed", "failed fill_unavailable"]


def test_the_name_is_told_in_the_handshake_and_in_the_host_field(pki: Pki) -> None:
    names = []
    context = pki.context()
    context.sni_callback = lambda sock, name, context: names.append(name)
    with scripted(says(ok(BODY)), context) as origin:
        answer, _ = ask(origin, pki, {"accept": "a/b", "accept-language": "de"})
        assert isinstance(answer, Fetched)
        lines = origin.requests[0].decode().split("\r\n")
        assert names == ["origin.test"]
        assert f"Host: origin.test:{origin.port}" in lines
        assert "Accept: a/b" in lines
        assert "accept-language: de" in lines
        assert not [line for line in lines if line.lower().startswith(("cookie", "authorization"))]


def test_a_304_answers_the_validators_that_were_sent(origin: ScriptedOrigin, pki: Pki) -> None:
    origin.script = says(head('ETag: "a"', "Cache-Control: max-age=9", status="304 Not Modified"))
    known = Known('"a"', "Sun, 06 Nov 1994 08:49:37 GMT")
    answer, asked = ask(origin, pki, known=known)
    assert isinstance(answer, Fetched)
    assert (answer.status, answer.not_modified, answer.sink, asked.sinks) == (304, True, None, [])
    assert b'\r\nIf-None-Match: "a"\r\n' in origin.requests[-1]
    assert b"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n" in origin.requests[-1]


@pytest.mark.parametrize("status", [404, 410])
def test_an_absent_object_is_told_as_such(origin: ScriptedOrigin, pki: Pki, status: int) -> None:
    origin.script = says(ok(b"nothing here", status=f"{status} Absent"))
    answer, asked = ask(origin, pki)
    assert isinstance(answer, Fetched)
    assert (answer.status, answer.sink, asked.sinks) == (status, None, [])


def part(start: int, last: int, total: int, *fields: str) -> bytes:
    """Return a partial answer with the bytes that it names, as far as they exist."""
    return ok(
        BODY[start : last + 1], f"Content-Range: bytes {start}-{last}/{total}", *fields, status="206 Part"
    )


SIZE = len(BODY)


@pytest.mark.parametrize(
    ("data", "block"),
    [
        (part(100, 199, SIZE), (100, 200)),
        (part(SIZE - 10, SIZE - 1, SIZE), (SIZE - 10, SIZE + 90)),
        (part(0, 99, SIZE, f"Content-Digest: sha-256=:{sha256(BODY[:100])}:", b3(BODY)), (0, 100)),
        (part(0, 99, SIZE, f"Repr-Digest: sha-256=:{sha256(BODY)}:"), (0, 100)),
    ],
    ids=["in the middle", "the last one", "with its digest", "with the digest of the whole"],
)
def test_a_block_of_a_large_object_is_fetched(
    origin: ScriptedOrigin, pki: Pki, data: bytes, block: tuple[int, int]
) -> None:
    origin.script = says(data)
    answer, asked = ask(origin, pki, {"accept-encoding": "br"}, block=block, max_object_bytes=1000)
    assert isinstance(answer, Fetched), answer
    assert answer.status == 206
    assert part_of(answer.fields).total == SIZE
    assert asked.sinks[0].data == BODY[slice(*block)]
    assert f"Range: bytes={block[0]}-{block[1] - 1}".encode() in origin.requests[-1]
    assert b"Accept-Encoding: identity" in origin.requests[-1]
    assert b"If-Range" not in origin.requests[-1]


def test_a_further_block_is_asked_for_of_the_version_that_is_known(origin: ScriptedOrigin, pki: Pki) -> None:
    origin.script = says(part(100, 199, SIZE, 'ETag: "v1"'))
    answer, _ = ask(
        origin,
        pki,
        known=Known('"v1"', "Tue, 14 Nov 2023 22:13:20 GMT"),
        block=(100, 200),
        max_object_bytes=1000,
    )
    assert isinstance(answer, Fetched), answer
    assert b'\r\nIf-Range: "v1"\r\n' in origin.requests[-1]
    assert b"If-None-Match" not in origin.requests[-1]
    assert b"If-Modified-Since" not in origin.requests[-1]


@pytest.mark.parametrize(
    "data",
    [
        part(0, 98, SIZE),
        part(1, 100, SIZE),
        part(0, 99, 50),
        ok(BODY[:100], status="206 Part"),
        ok(BODY[:100], "Content-Range: bytes 0-99/*", status="206 Part"),
        ok(BODY[:99], f"Content-Range: bytes 0-99/{SIZE}", status="206 Part"),
        head("Transfer-Encoding: chunked", f"Content-Range: bytes 0-99/{SIZE}", status="206 Part")
        + b"5\r\nhello\r\n0\r\n\r\n",
        part(0, 99, SIZE, "Content-Encoding: gzip"),
        part(0, 99, SIZE, 'ETag: "other"'),
        part(0, 99, SIZE, 'ETag: "v1"', f"Content-Digest: sha-256=:{sha256(BODY)}:"),
        ok(BODY),
    ],
    ids=[
        *("too little", "shifted", "of too few", "which part", "of how many", "short", "short chunks"),
        *("coded", "of another version", "a wrong digest", "all of it, which is too large"),
    ],
)
def test_another_part_than_was_asked_for_is_refused(origin: ScriptedOrigin, pki: Pki, data: bytes) -> None:
    origin.script = says(data)
    known = Known('"v1"', None) if b"ETag" in data else None
    answer, asked = ask(origin, pki, known=known, block=(0, 100), max_object_bytes=1000)
    assert isinstance(answer, Rejection)
    assert answer.reason == "integrity"
    assert all(sink.is_aborted for sink in asked.sinks)
