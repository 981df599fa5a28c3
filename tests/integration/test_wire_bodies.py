"""Bodies of requests: counted, capped, discarded, and asked for only where they will be read."""

from __future__ import annotations

import socket
import time

import psutil
import pytest

from tests.raw import HELLO, HOST, WITHIN_S, check_refusal, chunked, converse, get, head, post, read_all
from tests.servers import Server
from tests.wire import Connection
from tests.worlds import World

CAP = 1 << 20  # ingress.max_body_bytes
MIB = 1 << 20
QUIET_S = 0.15


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("over", [1, 511 * MIB], ids=["by a byte", "512 MiB"])
def test_a_length_over_the_cap_is_refused_before_the_body(server: Server, method: str, over: int) -> None:
    data = head(f"{method} {HELLO} HTTP/1.1", HOST, f"Content-Length: {CAP + over}")
    (answer,) = converse(server.assets, data, is_finished=False)
    check_refusal(answer, 413, "body_cap")


@pytest.mark.parametrize("plane", ["assets", "admin"])
def test_a_body_of_just_the_cap_is_read(server: Server, plane: str) -> None:
    body = b"x" * CAP
    data = head("POST /nothing HTTP/1.1", HOST, f"Content-Length: {CAP}") + body
    first, second = converse(getattr(server, plane), data + get("/healthz"))
    assert first["X-Reason"] in ("method", "not_found")
    assert second.status == 200


@pytest.mark.parametrize("size", [1, 1000, 65536], ids=str)
def test_chunks_are_refused_where_they_pass_the_cap(server: Server, size: int) -> None:
    chunk = b"%x\r\n%b\r\n" % (size, b"x" * size)
    up_to = chunk * (CAP // size) + b"%x\r\n" % (CAP % size) + b"x" * (CAP % size)
    if CAP % size == 0:
        up_to = chunk * (CAP // size)
    more = post("Transfer-Encoding: chunked", body=up_to)
    if CAP % size:
        more += b"\r\n"
    (answer,) = converse(server.assets, more + b"1\r\nx\r\n0\r\n\r\n" + get(), is_finished=False)
    check_refusal(answer, 413, "body_cap")
    first, second = converse(server.assets, more + b"0\r\n\r\n" + get())
    assert (first.status, second.status) == (405, 200)


def test_one_chunk_over_the_cap_is_refused_at_its_size(server: Server) -> None:
    data = post("Transfer-Encoding: chunked", body=b"%x\r\n" % (CAP + 1))
    (answer,) = converse(server.assets, data, is_finished=False)
    check_refusal(answer, 413, "body_cap")


@pytest.mark.parametrize("lines", [[f"Content-Length: {512 * MIB}"], ["Transfer-Encoding: chunked"]], ids=str)
def test_little_of_a_body_of_512_mib_is_taken(server: Server, lines: list[str]) -> None:
    before = [psutil.Process(pid).memory_info().rss for pid in sorted(server.workers().values())]
    piece = b"x" * 65536 if "Length" in lines[0] else b"10000\r\n" + b"x" * 65536 + b"\r\n"
    taken = 0
    with Connection(server.assets, WITHIN_S) as connection:
        connection.socket.sendall(post(*lines))
        try:
            while taken < 512 * MIB:
                taken += connection.socket.send(piece)
        except (ConnectionError, TimeoutError):
            pass
    after = [psutil.Process(pid).memory_info().rss for pid in sorted(server.workers().values())]
    assert taken <= 16 * MIB
    assert all(now - then <= CAP for then, now in zip(before, after, strict=True))


def test_the_refusal_reaches_a_client_that_goes_on_sending(server: Server) -> None:
    """The connection is closed only after what still comes was read: a reset would discard the answer."""
    with Connection(server.assets, WITHIN_S) as connection:
        connection.socket.sendall(post(f"Content-Length: {4 * MIB}", body=b"x" * 4 * MIB))
        (answer,) = read_all(connection)
    check_refusal(answer, 413, "body_cap")


# Expect: RFC 9110 section 10.1.1


@pytest.mark.parametrize("spelling", ["100-continue", "100-Continue", "100-CONTINUE", " \t100-continue "])
@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
def test_a_body_that_will_be_read_is_asked_for(server: Server, method: str, spelling: str) -> None:
    with Connection(server.assets, WITHIN_S) as connection:
        lines = (HOST, f"Expect:{spelling}", "Content-Length: 5")
        connection.socket.sendall(head(f"{method} {HELLO} HTTP/1.1", *lines))
        interim = connection.read_head()
        assert (interim.status, interim.fields) == (100, [])
        connection.socket.sendall(b"12345" + get())
        assert connection.read().status == (200 if method == "GET" else 405)
        assert connection.read().status == 200


def test_a_chunked_body_is_asked_for(server: Server) -> None:
    with Connection(server.assets, WITHIN_S) as connection:
        connection.socket.sendall(post("Expect: 100-continue", "Transfer-Encoding: chunked"))
        assert connection.read_head().status == 100
        connection.socket.sendall(chunked(b"12345") + get())
        assert [connection.read().status for _ in range(2)] == [405, 200]


def test_a_body_is_asked_for_after_the_answers_before_it(server: Server) -> None:
    with Connection(server.assets, WITHIN_S) as connection:
        connection.socket.sendall(get() * 3 + post("Expect: 100-continue", "Content-Length: 5"))
        assert [connection.read().status for _ in range(3)] == [200] * 3
        assert connection.read_head().status == 100
        connection.socket.sendall(b"12345")
        assert connection.read().status == 405


NOT_ASKED = {
    "no body": (get(HELLO, "Expect: 100-continue"), 200),
    "an empty body": (get(HELLO, "Expect: 100-continue", "Content-Length: 0"), 200),
    "a body that is here": (post("Expect: 100-continue", "Content-Length: 5", body=b"12345"), 405),
    "chunks that are here": (
        post("Expect: 100-continue", "Transfer-Encoding: chunked", body=chunked(b"1")),
        405,
    ),
    "a body over the cap": (post("Expect: 100-continue", f"Content-Length: {CAP + 1}"), 413),
    "another expectation": (post("Expect: 200-ok", "Content-Length: 5"), 417),
    "two lengths": (post("Expect: 100-continue", "Content-Length: 5", "Content-Length: 5"), 400),
    "an unknown method": (
        head(f"BREW {HELLO} HTTP/1.1", HOST, "Expect: 100-continue", "Content-Length: 5"),
        405,
    ),
}


@pytest.mark.parametrize(("data", "status"), NOT_ASKED.values(), ids=NOT_ASKED.keys())
def test_a_body_that_will_not_be_read_is_not_asked_for(server: Server, data: bytes, status: int) -> None:
    (answer,) = converse(server.assets, data)
    assert answer.status == status


def test_http_1_0_is_never_told_to_continue(server: Server) -> None:
    with Connection(server.assets, WITHIN_S) as connection:
        lines = (HOST, "Expect: 100-continue", "Content-Length: 5")
        connection.socket.sendall(head(f"POST {HELLO} HTTP/1.0", *lines))
        time.sleep(QUIET_S)
        assert connection.unread() == b""
        connection.socket.sendall(b"12345")
        assert connection.read().status == 405


@pytest.mark.parametrize("cut", ["in the body", "in a chunk", "in a chunk size"])
def test_a_client_that_leaves_inside_a_body_gets_no_answer(server: Server, world: World, cut: str) -> None:
    data = {
        "in the body": post("Content-Length: 5", body=b"1234"),
        "in a chunk": post("Transfer-Encoding: chunked", body=b"5\r\n12"),
        "in a chunk size": post("Transfer-Encoding: chunked", body=b"5"),
    }[cut]
    assert converse(server.assets, data) == []
    assert converse(server.assets, get())[0].body == world.files["hello.txt"]


def test_a_client_that_resets_inside_a_body_disturbs_nobody(server: Server, world: World) -> None:
    for _ in range(20):
        with Connection(server.assets, WITHIN_S) as connection:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.socket.sendall(get() + post("Content-Length: 500000", body=b"x" * 1000))
    assert converse(server.assets, get())[0].body == world.files["hello.txt"]
