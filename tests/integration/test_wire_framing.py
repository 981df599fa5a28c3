"""What is no request of HTTP/1.1 is refused: once, completely, and with nothing answered behind it."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.raw import (
    HELLO,
    HOST,
    WITHIN_S,
    check_refusal,
    chunked,
    converse,
    get,
    head,
    post,
    read_all,
    send_in_pieces,
)
from tests.servers import Server
from tests.wire import Connection
from tests.worlds import World

HIDDEN = get("/edge/assets/bytes.bin")
LONGEST_TARGET = 8 << 10
LONGEST_HEAD = 16 << 10
MOST_FIELDS = 100


class Refused(NamedTuple):
    """Bytes that are refused, and how."""

    name: str
    data: bytes
    status: int = 400
    reason: str = "bad_request"
    source: str = "RFC 9112"


def line(text: str, name: str | None = None, status: int = 400, reason: str = "bad_request") -> Refused:
    return Refused(name or text, head(text, HOST), status, reason, "RFC 9112 section 3")


def field(text: str, name: str | None = None, status: int = 400, reason: str = "bad_request") -> Refused:
    return Refused(name or repr(text), get(HELLO, text), status, reason, "RFC 9112 section 5")


def host(*values: str) -> Refused:
    name = "Host " + " and ".join(map(repr, values)) if values else "no Host"
    lines = [f"Host: {value}" for value in values]
    return Refused(name, head(f"GET {HELLO} HTTP/1.1", *lines), source="RFC 9112 section 3.2")


def length(*values: str, status: int = 400, reason: str = "bad_request") -> Refused:
    lines = [f"Content-Length: {value}" for value in values]
    return Refused(f"length {values}", post(*lines, body=b"12345"), status, reason, "RFC 9112 section 6.3")


def coding(value: str, status: int = 400, reason: str = "bad_request", *more: str) -> Refused:
    data = post(f"Transfer-Encoding: {value}", *more, body=chunked(b"12345"))
    return Refused(f"coding {(value, *more)}", data, status, reason, "RFC 9112 section 6.1")


def chunk(name: str, body: bytes, status: int = 400, reason: str = "bad_request") -> Refused:
    return Refused(
        name, post("Transfer-Encoding: chunked", body=body), status, reason, "RFC 9112 section 7.1"
    )


NOT_IMPLEMENTED = (501, "not_implemented")
VERSION = (505, "http_version")
METHOD = (405, "method")
REFUSED = [
    # RFC 9112 section 2.2: what ends a line
    Refused("bare LF everywhere", b"GET / HTTP/1.1\nHost: a\n\n"),
    Refused("bare LF after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    Refused("bare LF after a field", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
    Refused("bare LF as the blank line", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    Refused("bare CR in the request line", b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused("bare CR in a value", get(HELLO, "X: a\rb")),
    Refused("bare CR for CR LF", b"GET / HTTP/1.1\rHost: a\r\r"),
    Refused("CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
    Refused("too many empty lines", b"\r\n" * 9 + get()),
    Refused("a space before the request line", b" " + get()),
    Refused("a field first", head(HOST, f"GET {HELLO} HTTP/1.1")),
    Refused("NUL first", b"\0" + get()),
    # RFC 9112 section 3: request line
    line("GET", "a method alone"),
    line(f"GET {HELLO}", "no version"),
    line(f"GET  {HELLO} HTTP/1.1", "two spaces before the target"),
    line(f"GET {HELLO}  HTTP/1.1", "two spaces before the version"),
    line(f"GET\t{HELLO} HTTP/1.1", "tab for space"),
    line(f"GET {HELLO} HTTP/1.1 ", "space after the version"),
    line(f"GET {HELLO} HTTP/1.1 x", "a fourth word"),
    line(f"G@T {HELLO} HTTP/1.1", "@ in the method"),
    line(f"G(T {HELLO} HTTP/1.1", "( in the method"),
    line(f"GÉT {HELLO} HTTP/1.1", "a byte beyond ASCII in the method"),
    line("M" * 33 + f" {HELLO} HTTP/1.1", "a method of 33 letters"),
    line(f"get {HELLO} HTTP/1.1", "a method in lower case", *METHOD),
    line(f"BREW {HELLO} HTTP/1.1", "an unknown method", *METHOD),
    line("CONNECT edge.test:443 HTTP/1.1", None, *METHOD),
    line("CONNECT / HTTP/1.1", None, *METHOD),
    line("GET edge/assets/hello.txt HTTP/1.1", "a target without slash"),
    line("GET * HTTP/1.1"),
    line("GET edge.test:80 HTTP/1.1", "authority-form"),
    line("GET ftp://edge.test/a HTTP/1.1", "another scheme"),
    line("GET http:///a HTTP/1.1", "absolute-form without host"),
    line("GET http://user@edge.test/a HTTP/1.1", "absolute-form with userinfo"),
    line("GET http://edge.test:99999/a HTTP/1.1", "absolute-form with a port that is none"),
    line("GET /a#b HTTP/1.1", "a fragment"),
    line("GET /a%2 HTTP/1.1", "half an escape"),
    line("GET /a%zz HTTP/1.1", "an escape that is none"),
    line("GET /a?b=% HTTP/1.1", "half an escape in the query"),
    line("GET /a\x00b HTTP/1.1", "NUL in the target"),
    line("GET /a\x7fb HTTP/1.1", "DEL in the target"),
    line("GET /ü HTTP/1.1", "a byte beyond ASCII in the target"),
    line('GET /a"b HTTP/1.1', "a quote in the target"),
    line("GET /a\\b HTTP/1.1", "a backslash in the target"),
    line(f"GET {HELLO} HTTP/1.2", None, *VERSION),
    line(f"GET {HELLO} HTTP/0.9", None, *VERSION),
    line(f"GET {HELLO} HTTP/2.0", None, *VERSION),
    line(f"GET {HELLO} HTTP/9.9", None, *VERSION),
    line(f"GET {HELLO} HTTP/11.1", "a version of two digits"),
    line(f"GET {HELLO} HTTP/1.", "half a version"),
    line(f"GET {HELLO} HTTP/1,1", "a comma in the version"),
    line(f"GET {HELLO} http/1.1", "a version in lower case"),
    line(f"GET {HELLO} HTTPS/1.1", "another protocol"),
    line("GET /" + "a" * LONGEST_TARGET + " HTTP/1.1", "a target over its cap", 414, "uri_cap"),
    # RFC 9112 section 5: fields
    field("X : y", "a space before the colon"),
    field("X\t: y", "a tab before the colon"),
    field(" X: y", "obs-fold"),
    field("\tX: y", "obs-fold with a tab"),
    field("X", "a field without colon"),
    field(": y", "a field without name"),
    field("X Y: z", "a space in a name"),
    field("X(Y): z", "a delimiter in a name"),
    field("Ä: z", "a name beyond ASCII"),
    field("X: a\x00b", "NUL in a value"),
    field("X: a\x01b", "a control character in a value"),
    field("X: a\x7fb", "DEL in a value"),
    field("X: " + "y" * LONGEST_HEAD, "a field over the cap of the head", 431, "header_cap"),
    Refused(
        "a head over its cap", get(HELLO, *[f"X{k}: " + "y" * 400 for k in range(50)]), 431, "header_cap"
    ),
    Refused("a field too many", get(HELLO, *[f"X{k}: y" for k in range(MOST_FIELDS)]), 431, "header_cap"),
    field("Range: bytes=0-1\r\nRange: bytes=2-3", "Range twice"),
    field("If-Range: a\r\nif-range: a", "If-Range twice"),
    # RFC 9112 section 3.2, RFC 9110 section 7.2
    host(),
    host("edge.test", "edge.test"),
    host("edge.test", "other.test"),
    host(""),
    host("a b"),
    host("a/b"),
    host("user@edge.test"),
    host("edge.test:x"),
    host("edge.test:65536"),
    host("edge.test:80:80"),
    host("[::1"),
    host("[::g]"),
    host("[1::2::3]"),
    host("edge.test, other.test"),
    host("a%2"),
    Refused("absolute-form without Host", head(f"GET http://edge.test{HELLO} HTTP/1.1")),
    Refused("HTTP/1.0 with a Host that is none", head(f"GET {HELLO} HTTP/1.0", "Host: a b")),
    # RFC 9110 section 8.6
    length(""),
    length("+5"),
    length("-5"),
    length("5 5"),
    length("5,5"),
    length("5, 6"),
    length("0x5"),
    length("5e0"),
    length("5.0"),
    length("five"),
    length("5;a"),
    length("5", "5"),
    length("5", "6"),
    length("0", "5"),
    length("99999999999999999999999", status=413, reason="body_cap"),
    length("18446744073709551621", status=413, reason="body_cap"),  # 5 modulo 2**64
    # RFC 9112 section 6.1
    coding(""),
    coding(","),
    coding("chunked, chunked"),
    coding("chunked, identity"),
    coding("chunked, gzip"),
    coding("chunked;q=1"),
    coding("chunked\x0b"),
    coding('"chunked"'),
    coding("[chunked]"),
    coding("chunked", 400, "bad_request", "Transfer-Encoding: chunked"),
    coding("chunked", 400, "bad_request", "Content-Length: 5"),
    coding("gzip", 400, "bad_request", "Content-Length: 5"),
    coding("gzip", *NOT_IMPLEMENTED),
    coding("gzip, chunked", *NOT_IMPLEMENTED),
    coding("identity", *NOT_IMPLEMENTED),
    coding("xchunked", *NOT_IMPLEMENTED),
    coding("chunke", *NOT_IMPLEMENTED),
    Refused(
        "HTTP/1.0 with chunked", head(f"POST {HELLO} HTTP/1.0", "Transfer-Encoding: chunked") + chunked(b"1")
    ),
    # RFC 9112 section 7.1
    chunk("no chunk size", b"\r\n"),
    chunk("a chunk size that is none", b"g\r\n"),
    chunk("a negative chunk size", b"-1\r\n"),
    chunk("a chunk size with a prefix", b"0x5\r\n12345\r\n0\r\n\r\n"),
    chunk("a space before the chunk size", b" 5\r\n12345\r\n0\r\n\r\n"),
    chunk("bare LF after the chunk size", b"5\n12345\r\n0\r\n\r\n"),
    chunk("bare LF after the chunk", b"5\r\n12345\n0\r\n\r\n"),
    chunk("a chunk longer than its size", b"4\r\n12345\r\n0\r\n\r\n"),
    chunk("a chunk size of 17 digits", b"0" * 17 + b"\r\n"),
    chunk("a chunk size beyond 64 bits", b"f" * 16 + b"\r\n", 413, "body_cap"),
    chunk("LF in an extension", b"5;a=\n\r\n12345\r\n0\r\n\r\n"),
    chunk("a trailer that is none", b"0\r\nX Y: z\r\n\r\n"),
    chunk("trailers over their cap", b"0\r\nX: " + b"y" * 9000 + b"\r\n\r\n", 431, "header_cap"),
    chunk("extensions over their cap", b"1;a=" + b"y" * 9000 + b"\r\n1\r\n0\r\n\r\n"),
    # RFC 9110 section 10.1.1
    field("Expect: 200-ok", None, 417, "expectation"),
    field("Expect: 100-continue, more", None, 417, "expectation"),
    field("Expect: ", None, 417, "expectation"),
    # other protocols
    Refused("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Refused("a TLS hello", bytes.fromhex("16030100c8010000c40303") + bytes(range(200))),
    Refused("an SSH banner", b"SSH-2.0-OpenSSH_9.2\r\n"),
    Refused("a PROXY header", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + get()),
    Refused("SMTP", b"EHLO edge.test\r\n"),
    Refused("RTSP", b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
]

refused = pytest.mark.parametrize("row", REFUSED, ids=[row.name for row in REFUSED])


@refused
def test_what_is_no_request_is_refused_once_and_completely(server: Server, row: Refused) -> None:
    # The server closes by itself: the client does not end its side.
    (answer,) = converse(server.assets, row.data + HIDDEN, is_finished=False)
    check_refusal(answer, row.status, row.reason)


def test_a_refusal_does_not_depend_on_how_the_bytes_are_cut(server: Server) -> None:
    for row in REFUSED:
        data = row.data if len(row.data) < 1000 else row.data[:100]
        rest = row.data[len(data) :]
        with Connection(server.assets, WITHIN_S) as connection:
            send_in_pieces(connection, [*(data[k : k + 1] for k in range(len(data))), rest])
            answers = read_all(connection)
        assert [(answer.status, answer["X-Reason"]) for answer in answers] == [(row.status, row.reason)], (
            row.name
        )


@pytest.mark.parametrize(
    "lines",
    [["Host: a b"], [HOST, "Content-Length: x"], [HOST, "Expect: 200-ok"]],
    ids=["Host", "Content-Length", "Expect"],
)
def test_a_refused_head_has_no_body(server: Server, lines: list[str]) -> None:
    (answer,) = converse(server.assets, head(f"HEAD {HELLO} HTTP/1.1", *lines), ["HEAD"], is_finished=False)
    assert answer.status in (400, 417)
    check_refusal(answer, answer.status, answer["X-Reason"], "HEAD")


@pytest.mark.parametrize(
    ("sent", "is_echoed"),
    [
        ("mine-1.2:3_4", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("a b", False),
        ("a;b", False),
        ("é", False),
    ],
    ids=["sane", "longest", "too long", "space", "semicolon", "not ASCII"],
)
def test_a_refusal_echoes_a_sane_corr_id(server: Server, sent: str, is_echoed: bool) -> None:
    (answer,) = converse(server.assets, get(HELLO, f"X-Corr-ID: {sent}", "Expect: 200-ok"), is_finished=False)
    check_refusal(answer, 417, "expectation")
    assert (answer["X-Corr-ID"] == sent) is is_echoed


def test_refusals_have_corr_ids_of_their_own(server: Server) -> None:
    answers = [converse(server.assets, b"\n", is_finished=False)[0] for _ in range(20)]
    assert len({answer["X-Corr-ID"] for answer in answers}) == 20


def test_an_unknown_method_is_told_the_known_ones(server: Server) -> None:
    (answer,) = converse(server.assets, head(f"BREW {HELLO} HTTP/1.1", HOST), is_finished=False)
    assert answer["Allow"] == "GET, HEAD, OPTIONS"


ACCEPTED = {
    "empty lines first": b"\r\n\r\n" + get(),
    "no space after colons": head(f"GET {HELLO} HTTP/1.1", "Host:edge.test", "X:y"),
    "much space around values": head(f"GET {HELLO} HTTP/1.1", "Host: \t edge.test \t ", "X: \t y \t "),
    "names in any case": head(f"GET {HELLO} HTTP/1.1", "hOST: edge.test"),
    "bytes beyond ASCII in a value": get(HELLO, "X: ü"),
    "an empty value": get(HELLO, "X:"),
    "every token character in a name": get(HELLO, "!#$%&'*+-.^_`|~09azAZ: y"),
    "a name with an underscore": get(HELLO, "Content_Length: 5"),
    "fields up to the cap": get(HELLO, *[f"X{k}: y" for k in range(MOST_FIELDS - 1)]),
    "a field repeated": get(HELLO, "Accept: a", "Accept: b"),
    "Host with a port": head(f"GET {HELLO} HTTP/1.1", "Host: edge.test:8080"),
    "Host that is IPv4": head(f"GET {HELLO} HTTP/1.1", "Host: 127.0.0.1"),
    "Host that is IPv6": head(f"GET {HELLO} HTTP/1.1", "Host: [2001:db8::1]:80"),
    "Host with an escape": head(f"GET {HELLO} HTTP/1.1", "Host: a%41"),
    "a query": get(HELLO + "?a=b&c=%20?/"),
    "a query of questions": get(HELLO + "???"),
    "an escaped path": get("/edge/assets/%68ello.txt"),
    "absolute-form": get(f"http://other.test{HELLO}"),
    "absolute-form in capitals": get(f"HTTP://OTHER.TEST:80{HELLO}"),
    "absolute-form of https": get(f"https://other.test{HELLO}"),
    "a body that a GET may have": get(HELLO, "Content-Length: 5") + b"12345",
    "a chunked body of a GET": get(HELLO, "Transfer-Encoding: chunked") + chunked(b"12345"),
    "CHUNKED": get(HELLO, "Transfer-Encoding: CHUNKED") + chunked(b"12345"),
    "a length of zero": get(HELLO, "Content-Length: 0"),
    "chunk sizes in capitals and with zeros": get(HELLO, "Transfer-Encoding: chunked")
    + b"00A\r\n0123456789\r\n0\r\n\r\n",
    "chunk extensions": get(HELLO, "Transfer-Encoding: chunked")
    + b'5;a;b=c;d="e\\"f"\r\n12345\r\n0;g\r\n\r\n',
    "trailers": get(HELLO, "Transfer-Encoding: chunked") + b"0\r\nX: y\r\nHost: none\r\n\r\n",
    "a length with zeros": get(HELLO, "Content-Length: 0005") + b"12345",
    "TE and Upgrade, which are ignored": get(
        HELLO, "TE: trailers", "Connection: TE, Upgrade", "Upgrade: h2c"
    ),
    "Expect without a body": get(HELLO, "Expect: 100-continue"),
}


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_is_a_request_is_answered(server: Server, world: World, data: bytes) -> None:
    # The second one shows that exactly the first one's bytes were taken.
    first, second = converse(server.assets, data + HIDDEN)
    assert (first.status, first.body) == (200, world.files["hello.txt"])
    assert (second.status, second.body) == (200, world.files["bytes.bin"])


SMUGGLED = {
    "CL.TE": post("Content-Length: 6", "Transfer-Encoding: chunked", body=b"0\r\n\r\nG"),
    "TE.CL": post("Transfer-Encoding: chunked", "Content-Length: 4", body=b"5c\r\n"),
    "TE.TE": post("Transfer-Encoding: chunked", "Transfer-Encoding: cow", body=b"0\r\n\r\n"),
    "TE.TE, the odd one first": post(
        "Transfer-Encoding: cow", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "TE list": post("Transfer-Encoding: cow, chunked", body=b"0\r\n\r\n"),
    "TE with a space before the colon": post("Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "TE with a tab before the value's end": post("Transfer-Encoding: chunked\x0c", body=b"0\r\n\r\n"),
    "TE folded": post("Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"),
    "TE behind a fold": post("X: y\r\n Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "TE behind a bare LF": post("X: y\nTransfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "TE behind a bare CR": post("X: y\rTransfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "TE behind NUL": post("X: y\0Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "TE of HTTP/1.0": head(f"POST {HELLO} HTTP/1.0", HOST, "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "TE of HTTP/1.0, kept alive": head(
        f"POST {HELLO} HTTP/1.0", HOST, "Connection: keep-alive", "Transfer-Encoding: chunked"
    )
    + b"0\r\n\r\n",
    "TE of identity with a length": post("Transfer-Encoding: identity", "Content-Length: 0"),
    "CL.CL": post("Content-Length: 0", "Content-Length: 5", body=b""),
    "CL.CL, equal": post("Content-Length: 0", "Content-Length: 0"),
    "CL list": post("Content-Length: 0, 0"),
    "CL list, unequal": post("Content-Length: 0, 44"),
    "CL empty": post("Content-Length:"),
    "CL with a sign": post("Content-Length: +0"),
    "CL with a space before the colon": post("Content-Length : 0"),
    "CL with a space inside": post("Content-Length: 0 0"),
    "CL of hexadecimal digits": post("Content-Length: 0x0"),
    "CL that overflows to 0": post("Content-Length: 18446744073709551616"),
    "chunk size that overflows to 0": post("Transfer-Encoding: chunked", body=b"10000000000000000\r\n\r\n"),
    "chunk size with a space": post("Transfer-Encoding: chunked", body=b"0 \r\n\r\n"),
    "last chunk ended by LF": post("Transfer-Encoding: chunked", body=b"0\n\n"),
    "a name that only looks like TE": head(
        f"POST {HELLO} HTTP/1.1", HOST, "Transfer\x00-Encoding: chunked", "Content-Length: 0"
    ),
    "a second Host": head(f"GET {HELLO} HTTP/1.1", HOST, "Host: other.test"),
    "a method that ends in LF": b"GET\n" + HELLO.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a version twice": head(f"GET {HELLO} HTTP/1.1 HTTP/1.1", HOST),
    "CONNECT": head("CONNECT edge.test:80 HTTP/1.1", HOST),
}


@pytest.mark.parametrize("data", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_nothing_behind_an_ambiguous_request_is_answered(server: Server, data: bytes) -> None:
    (answer,) = converse(server.assets, data + HIDDEN * 3, is_finished=False)
    check_refusal(answer, answer.status, answer["X-Reason"])
    assert answer.status in (400, 405, 413, 501)


def hidden_in(*lines: str) -> bytes:
    return post(*lines, f"Content-Length: {len(HIDDEN)}", body=HIDDEN)


SWALLOWED = {
    "a body that is a request": hidden_in(),
    "a chunk that is a request": post("Transfer-Encoding: chunked", body=chunked(HIDDEN)),
    "an underscore for TE's hyphen": hidden_in("Transfer_Encoding: chunked"),
    "TE nominated by Connection": post(
        "Connection: transfer-encoding", "Transfer-Encoding: chunked", body=chunked(HIDDEN)
    ),
    "CL nominated by Connection": hidden_in("Connection: content-length"),
    "X-HTTP-Method-Override": hidden_in("X-HTTP-Method-Override: GET"),
    "Upgrade to h2c": hidden_in(
        "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"
    ),
}


@pytest.mark.parametrize("data", SWALLOWED.values(), ids=SWALLOWED.keys())
def test_a_request_inside_a_body_is_not_answered(server: Server, world: World, data: bytes) -> None:
    first, second = converse(server.assets, data + get())
    assert (first.status, first["X-Reason"]) == (405, "method")
    assert (second.status, second.body) == (200, world.files["hello.txt"])
