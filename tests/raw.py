"""Requests written byte by byte, for tests that send what no client library would.

Nothing is added to what a test asks for but the end of lines. Answers are read by the strict
client of tests/wire.py, to the end of the connection.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime

from tests.servers import Place
from tests.wire import Answer, Connection, Cut

HOST = "Host: edge.test"
HELLO = "/edge/assets/hello.txt"
WITHIN_S = 5.0


def head(request_line: str, *lines: str) -> bytes:
    """Return a request line and field lines, and the blank line."""
    return "\r\n".join([request_line, *lines, "", ""]).encode("latin-1")


def get(target: str = HELLO, *lines: str) -> bytes:
    """Return a GET of HTTP/1.1 with a Host."""
    return head(f"GET {target} HTTP/1.1", HOST, *lines)


def post(*lines: str, body: bytes = b"") -> bytes:
    """Return a POST of HTTP/1.1 with a Host; its length is for the test to tell."""
    return head(f"POST {HELLO} HTTP/1.1", HOST, *lines) + body


def chunked(*chunks: bytes) -> bytes:
    """Return a chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def read_all(connection: Connection, methods: Sequence[str] = ()) -> list[Answer]:
    """Read answers until the server closes: to requests of these methods, then to GETs.

    An end inside an answer fails, as does a reset.
    """
    answers: list[Answer] = []
    while True:
        try:
            method = methods[len(answers)] if len(answers) < len(methods) else "GET"
            answers.append(connection.read(method))
        except Cut as cut:
            if cut.received:
                raise
            return answers


def converse(
    place: Place, data: bytes, methods: Sequence[str] = (), *, is_finished: bool = True
) -> list[Answer]:
    """Send bytes and return every answer until the server closes.

    Args:
        is_finished: end the client's side too, so that a server that waits for more closes.
    """
    with Connection(place, WITHIN_S) as connection:
        connection.socket.sendall(data)
        if is_finished:
            connection.socket.shutdown(socket.SHUT_WR)
        return read_all(connection, methods)


def send_in_pieces(connection: Connection, pieces: Sequence[bytes]) -> None:
    """Send each piece in a segment of its own, as far as the kernel lets one."""
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in pieces:
        connection.socket.sendall(piece)
        time.sleep(0)


def check_refusal(answer: Answer, status: int, reason: str, method: str = "GET") -> None:
    """See that an answer of the guard is complete, and the last one."""
    assert (answer.status, answer["X-Reason"]) == (status, reason)
    assert answer["Connection"] == "close"
    assert answer["Content-Type"] == "application/problem+json"
    assert abs(parsedate_to_datetime(answer["Date"]).timestamp() - time.time()) < 10
    if method == "HEAD":
        return
    document = json.loads(answer.body)
    assert (document["status"], document["reason"]) == (status, reason)
    assert document["corr_id"] == answer["X-Corr-ID"] != ""
