"""Requests that are sent without waiting: each is answered, in order, however the bytes are cut."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.archives import encode
from tests.raw import HOST, WITHIN_S, chunked, converse, get, head, post, send_in_pieces
from tests.servers import Place, Server
from tests.wire import Connection
from tests.worlds import HOLE, STYLE, World, etag

Serve = Callable[..., Server]
ASSETS = "/edge/assets/"


class Asked(NamedTuple):
    """A request, and what its answer must be."""

    name: str
    data: bytes
    status: int
    body: bytes | None
    method: str = "GET"


def mixed(world: World) -> list[Asked]:
    """Return requests of every kind that an answer can have."""
    hello, data = world.files["hello.txt"], world.files["bytes.bin"]
    tag, tile, hole = etag(hello), ASSETS + world.tile_path(7), ASSETS + world.tile_path(HOLE)
    return [
        Asked("a file", get(ASSETS + "hello.txt"), 200, hello),
        Asked("a range", get(ASSETS + "bytes.bin", "Range: bytes=100-299"), 206, data[100:300]),
        Asked("a file not modified", get(ASSETS + "hello.txt", f"If-None-Match: {tag}"), 304, b""),
        Asked("nothing", get(ASSETS + "nothing.txt"), 404, None),
        Asked("a HEAD", head(f"HEAD {ASSETS}bytes.bin HTTP/1.1", HOST), 200, b"", "HEAD"),
        Asked("a HEAD of nothing", head(f"HEAD {ASSETS}nothing.txt HTTP/1.1", HOST), 404, b"", "HEAD"),
        Asked("a tile", get(tile, "Accept-Encoding: identity"), 200, world.tiles[7]),
        Asked("a tile that is absent", get(hole), 204, b""),
        Asked("an empty file", get(ASSETS + "empty.bin"), 200, b""),
        Asked("a coded file", get(ASSETS + "style.css", "Accept-Encoding: br"), 200, encode("br", STYLE)),
        Asked("a range that is not there", get(ASSETS + "bytes.bin", "Range: bytes=5000-"), 416, None),
        Asked("a precondition that fails", get(ASSETS + "hello.txt", 'If-Match: "x"'), 412, None),
        Asked("a file of several pieces", get(ASSETS + "edge.bin"), 200, world.files["edge.bin"]),
        Asked("a path that is none", get(ASSETS + "../x"), 400, None),
        Asked("OPTIONS", head(f"OPTIONS {ASSETS}hello.txt HTTP/1.1", HOST), 204, b"", "OPTIONS"),
        Asked("health", get("/healthz"), 200, None),
        Asked("a body", post("Content-Length: 5", body=b"12345"), 405, None, "POST"),
        Asked("chunks", post("Transfer-Encoding: chunked", body=chunked(b"1", b"23")), 405, None, "POST"),
        Asked(
            "a GET with a body", get(ASSETS + "hello.txt", "Content-Length: 3") + b"GET", 200, hello
        ),
        Asked("absolute-form", get(f"http://other.test{ASSETS}hello.txt"), 200, hello),
    ]  # fmt: skip


def check(connection: Connection, asked: list[Asked]) -> None:
    """Read the answers to what was asked, and see that nothing else comes."""
    for number, one in enumerate(asked):
        answer = connection.read(one.method)
        assert answer.status == one.status, (number, one.name)
        assert not answer.is_last, (number, one.name)
        if one.body is not None:
            assert answer.body == one.body, (number, one.name)
    assert connection.unread() == b""


@pytest.fixture(scope="module")
def kinds(world: World) -> list[Asked]:
    return mixed(world)


@pytest.mark.parametrize("number", range(20))
def test_every_kind_leaves_the_connection_in_step(
    server: Server, world: World, kinds: list[Asked], number: int
) -> None:
    """One of a kind, between two files."""
    between = [kinds[0], kinds[number], kinds[0]]
    with Connection(server.assets, WITHIN_S) as connection:
        connection.socket.sendall(b"".join(one.data for one in between))
        check(connection, between)


def test_there_is_a_row_for_every_kind(kinds: list[Asked]) -> None:
    assert len(kinds) == 20
    assert len({one.name for one in kinds}) == 20


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [2, 10, 100])
def test_requests_of_mixed_kinds_are_answered_in_order(
    server: Server, kinds: list[Asked], count: int, seed: int
) -> None:
    asked = random.Random(count * 1000 + seed).choices(kinds, k=count)
    with Connection(server.assets, WITHIN_S) as connection:
        connection.socket.sendall(b"".join(one.data for one in asked))
        check(connection, asked)


def test_a_pipeline_of_any_length_is_answered(server: Server, kinds: list[Asked]) -> None:
    chance = random.Random(100)
    with Connection(server.assets, WITHIN_S) as connection:
        for count in range(2, 101):
            asked = chance.choices(kinds, k=count)
            connection.socket.sendall(b"".join(one.data for one in asked))
            check(connection, asked)


def test_a_request_and_one_byte_of_the_next_is_answered_before_the_rest(server: Server, world: World) -> None:
    whole = get(ASSETS + "hello.txt")
    with Connection(server.assets, WITHIN_S) as connection:
        connection.socket.sendall(whole[:1])
        for _ in range(20):
            connection.socket.sendall(whole[1:] + whole[:1])
            assert connection.read().body == world.files["hello.txt"]
            assert connection.unread() == b""


@pytest.mark.parametrize("piece", [1, 7, 100, 1000, 5000])
def test_answers_do_not_depend_on_how_a_pipeline_is_cut(
    server: Server, kinds: list[Asked], piece: int
) -> None:
    asked = [*kinds, *reversed(kinds)]
    data = b"".join(one.data for one in asked)
    with Connection(server.assets, WITHIN_S) as connection:
        send_in_pieces(connection, [data[k : k + piece] for k in range(0, len(data), piece)])
        check(connection, asked)


def pairs(kinds: list[Asked]) -> Iterator[tuple[Asked, Asked]]:
    by_name = {one.name: one for one in kinds}
    names = [
        ("a file", "a range"),
        ("a HEAD", "a file not modified"),
        ("a tile that is absent", "nothing"),
        ("a body", "a file"),
        ("chunks", "a GET with a body"),
        ("absolute-form", "chunks"),
        ("a file of several pieces", "a file"),
    ]
    for first, second in names:
        yield by_name[first], by_name[second]


@pytest.mark.parametrize("number", range(7))
def test_a_pair_cut_at_any_byte_gives_the_same_answers(
    server: Server, kinds: list[Asked], number: int
) -> None:
    pair = list(pairs(kinds))[number]
    data = pair[0].data + pair[1].data
    with ExitStack() as opened:
        at = [opened.enter_context(Connection(server.assets, WITHIN_S)) for _ in range(1, len(data))]
        for cut, connection in enumerate(at, 1):
            connection.socket.sendall(data[:cut])
        time.sleep(0.05)  # so that the server has seen every first part
        for cut, connection in enumerate(at, 1):
            connection.socket.sendall(data[cut:])
        for connection in at:
            check(connection, list(pair))


@pytest.mark.parametrize("number", range(7))
def test_a_pair_sent_byte_by_byte_gives_the_same_answers(
    server: Server, kinds: list[Asked], number: int
) -> None:
    pair = list(pairs(kinds))[number]
    data = pair[0].data + pair[1].data
    with Connection(server.assets, WITHIN_S) as connection:
        send_in_pieces(connection, [data[k : k + 1] for k in range(len(data))])
        check(connection, list(pair))


def test_large_answers_are_pipelined(server: Server, world: World) -> None:
    with Connection(server.assets, WITHIN_S, receive_buffer=65536) as connection:
        connection.socket.sendall(get(ASSETS + "big.bin") * 20)
        time.sleep(0.2)  # until the socket is full
        for _ in range(20):
            assert connection.read().body == world.files["big.bin"]


def test_answers_reach_a_client_that_reads_only_after_it_has_sent_all(server: Server, world: World) -> None:
    data = world.files["bytes.bin"]
    with Connection(server.assets, 20, receive_buffer=65536) as connection:
        sender = threading.Thread(
            target=connection.socket.sendall, args=(get(ASSETS + "bytes.bin") * 5000,), daemon=True
        )
        sender.start()
        sender.join(0.3)
        for _ in range(5000):
            assert connection.read().body == data
        sender.join()


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
def test_large_bodies_are_pipelined(server: Server, world: World, is_chunked: bool) -> None:
    body = random.Random(1).randbytes(1 << 20)
    if is_chunked:
        pieces = [body[k : k + 50_000] for k in range(0, len(body), 50_000)]
        one = post("Transfer-Encoding: chunked", body=chunked(*pieces))
    else:
        one = post(f"Content-Length: {len(body)}", body=body)
    answers = converse(server.assets, (one + get()) * 8)
    assert [answer.status for answer in answers] == [405, 200] * 8
    assert all(answer.body == world.files["hello.txt"] for answer in answers[1::2])


def test_what_was_asked_before_a_refusal_is_answered(server: Server, world: World) -> None:
    answers = converse(server.assets, get() * 3 + b"nonsense\n" + get() * 3, is_finished=False)
    assert [answer.status for answer in answers] == [200, 200, 200, 400]
    assert answers[-1].is_last


def test_what_was_asked_after_a_close_is_not_answered(server: Server) -> None:
    data = get() * 2 + get("/edge/assets/bytes.bin", "Connection: close") + get() * 10
    answers = converse(server.assets, data, is_finished=False)
    assert [answer.is_last for answer in answers] == [False, False, True]


@pytest.mark.parametrize("lines", [1, 4], ids=["one", "four"])
def test_empty_lines_between_requests_are_ignored(server: Server, lines: int) -> None:
    answers = converse(server.assets, (b"\r\n" * lines).join([get()] * 3))
    assert [answer.status for answer in answers] == [200] * 3


def test_the_admin_plane_answers_a_pipeline_in_order(server: Server) -> None:
    targets = ["/healthz", "/api/status", "/nothing", "/readyz", "/metrics", "/api/packs"] * 5
    answers = converse(server.admin, b"".join(map(get, targets)))
    assert [answer.status for answer in answers] == [200, 200, 404, 200, 200, 200] * 5


def test_connections_do_not_mix(server: Server, world: World, kinds: list[Asked]) -> None:
    """Many connections at once, each with its own order, sent in turns."""
    chance = random.Random(5)
    orders = [chance.choices(kinds, k=12) for _ in range(50)]
    with ExitStack() as opened:
        at = [opened.enter_context(Connection(server.assets, 10)) for _ in orders]
        left = [b"".join(one.data for one in order) for order in orders]
        while any(left):
            for number, connection in enumerate(at):
                cut = chance.randrange(1, 200)
                connection.socket.sendall(left[number][:cut])
                left[number] = left[number][cut:]
        for connection, order in zip(at, orders, strict=True):
            check(connection, order)


def test_a_pipeline_is_answered_like_single_requests(server: Server, kinds: list[Asked]) -> None:
    def single(place: Place, one: Asked) -> tuple[int, bytes]:
        with Connection(place, WITHIN_S) as connection:
            connection.socket.sendall(one.data)
            answer = connection.read(one.method)
        return answer.status, answer.body if one.body is not None else b""

    with Connection(server.assets, WITHIN_S) as connection:
        connection.socket.sendall(b"".join(one.data for one in kinds))
        together = [connection.read(one.method) for one in kinds]
    for one, answer in zip(kinds, together, strict=True):
        body = answer.body if one.body is not None else b""
        assert single(server.assets, one) == (answer.status, body), one.name
