"""Answers that an application gives wrongly, or to a client that is gone: none may hang or desynchronise.

bjoern is left with a request only until its client has the whole answer or none.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guard_app import GuardApp, pattern
from tests.servers import eventually
from tests.wire import Connection, Cut

SIZE = 8 << 20


@pytest.fixture(scope="module")
def app() -> Iterator[GuardApp]:
    with GuardApp() as app:
        yield app


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(pattern(SIZE))
    return path


def received(app: GuardApp, request: bytes) -> bytes:
    """Return all that comes after a request until the server closes."""
    with socket.create_connection(app.place, timeout=10) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        parts = []
        while part := client.recv(1 << 16):
            parts.append(part)
        return b"".join(parts)


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("keeps", ["", "Connection: keep-alive\r\n"], ids=["closing", "keep-alive"])
@pytest.mark.parametrize("kind", ["list", "iter"])
def test_chunks_are_never_sent_to_a_client_of_http_1_0(app: GuardApp, keeps: str, kind: str) -> None:
    """RFC 9112 section 6.1."""
    answer = received(app, f"GET /body?given=3000&as={kind} HTTP/1.0\r\n{keeps}\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert b"transfer-encoding" not in head.lower()
    assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head


def test_a_body_of_unknown_length_is_chunked_in_http_1_1(app: GuardApp) -> None:
    answer = received(app, b"GET /body?given=2500&as=iter HTTP/1.1\r\nHost: a\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nTransfer-Encoding: chunked" in head
    sent = pattern(2500)
    pieces = [sent[:1000], sent[1000:2000], sent[2000:], b""]
    assert body == b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


@pytest.mark.parametrize("kind", ["bytes", "list", "iter"])
@pytest.mark.parametrize("announced", ["", f"&announced={SIZE}"], ids=["chunked", "announced"])
def test_a_client_that_resets_in_mid_answer_is_let_go(app: GuardApp, kind: str, announced: str) -> None:
    clients = []
    for _ in range(5):
        connection = Connection(app.place, receive_buffer=4096)
        connection.send(f"/body?given={SIZE}&as={kind}{announced}")
        connection.read_head()
        clients.append(connection)
    assert app.connections()["busy"] == 5
    for connection in clients:
        reset(connection.socket)
    eventually(lambda: app.connections() == {})


def test_a_client_that_resets_before_its_file_is_let_go(app: GuardApp, large: Path) -> None:
    for query in (f"announced={SIZE}", "announced=0"):
        clients = [Connection(app.place, receive_buffer=4096) for _ in range(20)]
        for connection in clients:
            connection.send(f"/wrapped?path={large}&{query}")
            reset(connection.socket)
    eventually(lambda: app.connections() == {})
    with Connection(app.place) as connection:
        assert connection.ask("/text").body == b"hello"


def test_a_wrapped_file_ends_where_it_was_announced_to(app: GuardApp, large: Path) -> None:
    with Connection(app.place) as connection:
        assert connection.ask(f"/wrapped?path={large}&announced=100000").body == pattern(100_000)
        assert connection.ask("/text").body == b"hello"


def test_a_wrapped_file_of_unknown_length_is_cut_and_never_taken_for_chunks(
    app: GuardApp, large: Path
) -> None:
    with Connection(app.place) as connection:
        connection.send(f"/wrapped?path={large}")
        head = connection.read_head()
        assert head["Transfer-Encoding"] == "chunked"
        with pytest.raises((Cut, ConnectionResetError)):
            connection.read_exactly(SIZE)


def test_a_parked_request_may_be_answered_with_anything_meanwhile(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        connection.send("/park?name=open&open=1")
        eventually(lambda: app.connections() == {"parked": 1})
        assert app.do("resume", name="open")
        assert connection.read().body == b"open 2"
