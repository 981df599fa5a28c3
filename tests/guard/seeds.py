"""What fuzzing of framing.c starts from: one input for each feature of the grammar.

An input that once was a fault is added here, under a name that says which. The first byte of
a file chooses limits and cuts (fuzz_framing.c).
"""

from __future__ import annotations

from pathlib import Path

HOST = b"Host: a\r\n"
LINE = b"GET / HTTP/1.1\r\n"
SEEDS: dict[str, bytes] = {
    "plain": LINE + HOST + b"\r\n",
    "browser": b"GET /tiles/3/1/2.mvt?v=1 HTTP/1.1\r\nHost: example.org:8080\r\n"
    b"Connection: keep-alive\r\nAccept: */*\r\n"
    b'Accept-Encoding: gzip, deflate, br\r\nIf-None-Match: "b3:00"\r\nRange: bytes=0-1\r\n\r\n',
    "http10": b"HEAD /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
    "absolute": b"GET http://[::1]:80/a??b HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute_empty": b"OPTIONS https://b HTTP/1.1\r\n" + HOST + b"\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "connect": b"CONNECT a:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "escapes": b"GET /%41%2f%ff?%20=%7e HTTP/1.1\r\n" + HOST + b"\r\n",
    "empty_lines": b"\r\n\r\n" + LINE + HOST + b"\r\n",
    "ipv4": LINE + b"Host: [::ffff:1.2.3.4]:443\r\n\r\n",
    "ipv6": LINE + b"Host: [2001:db8::8:800:200c:417a]\r\n\r\n",
    "reg_name": LINE + b"Host: a-b.%41_c:65535\r\n\r\n",
    "joined": LINE + HOST + b"Accept: a\r\nX:\r\naccept:b \r\nX: 1\r\nCookie: c\r\nCookie: d\r\n\r\n",
    "nominated": LINE + HOST + b"X-Hop: 1\r\nConnection: close, x-hop ,,Range\r\n"
    b"Range: bytes=0-\r\nTE: trailers\r\n\r\n",
    "underscore": LINE + HOST + b"X_Y: 1\r\nX-Y: 2\r\n\r\n",
    "obs_text": LINE + HOST + b"X: \x80\xff\tb\r\n\r\n",
    "corr_id": LINE + HOST + b"X-Corr-ID: abc.1:2-3_4\r\n\r\n",
    "length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello" + LINE + HOST + b"\r\n",
    "expect": b"PUT / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    "chunked": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    b'5;a="b\\"" ; c = d\r\nhello\r\n0\r\nA: b\r\n\r\n' + LINE + HOST + b"\r\n",
    "codings": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip;q=1, chunked\r\n\r\n",
    "body": b"3\r\nabc\r\n00a;x\r\n0123456789\r\n0\r\nT: u\r\n\r\n",
    "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "fold": LINE + HOST + b"X: a\r\n b\r\n\r\n",
    "bare_lf": b"GET / HTTP/1.1\nHost: a\n\n",
    "cl_te": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "pipelined": (LINE + HOST + b"\r\n") * 3,
}


FLOODS = {"many_fields": LINE + HOST + b"A:\r\n" * 110, "long_target": b"GET /" + b"a" * 1030}


def write_seeds(folder: Path) -> list[Path]:
    """Write a file for each seed into a folder that may hold more already; return them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, (name, data) in enumerate({**SEEDS, **FLOODS}.items()):
        files.append(folder / name)
        files[-1].write_bytes(bytes([number % 16]) + data)
    return files
