"""How long a connection lasts, who may end it, and what a target says beside its path."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

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
)
from tests.servers import Server, eventually
from tests.wire import Connection
from tests.worlds import World

Serve = Callable[..., Server]

# RFC 9112 section 9.3, RFC 9110 section 7.6.1
STAYS = {
    "1.1": [
        [],
        ["Connection: keep-alive"],
        ["Connection: Keep-Alive"],
        ["Connection:"],
        ["Connection: ,,"],
        ["Connection: closed"],
        ["Connection: x-close"],
        ["Connection: close-not"],
        ["Connection: foo, bar"],
        ["Connection: Upgrade", "Upgrade: websocket"],
        ["Connection: TE", "TE: trailers"],
        ["Proxy-Connection: close"],
        ["Keep-Alive: timeout=0"],
        ["X-Connection: close"],
    ],
    "1.0": [
        ["Connection: keep-alive"],
        ["Connection: Keep-Alive"],
        ["Connection: KEEP-ALIVE"],
        ["Connection: foo, keep-alive"],
        ["Connection: keep-alive, foo"],
        ["Connection: foo", "Connection: keep-alive"],
    ],
}
ENDS = {
    "1.1": [
        ["Connection: close"],
        ["Connection: Close"],
        ["Connection: CLOSE"],
        ["connection:close"],
        ["Connection: \tclose\t "],
        ["Connection: foo, close"],
        ["Connection: close, foo"],
        ["Connection: foo,close,bar"],
        ["Connection: ,,close,,"],
        ["Connection: keep-alive, close"],
        ["Connection: close, keep-alive"],
        ["Connection: keep-alive", "Connection: close"],
        ["Connection: close", "Connection: keep-alive"],
        ["Connection: foo", "X: y", "Connection: close"],
        ["Connection: close;q=1"],
        ['Connection: "close"'],
    ],
    "1.0": [
        [],
        ["Connection: close"],
        ["Connection: close, keep-alive"],
        ["Connection: keep-alive", "Connection: close"],
        ["Connection: foo"],
        ["Connection: keep-alive-not"],
        ["Proxy-Connection: keep-alive"],
        ["Keep-Alive: timeout=60"],
    ],
}


def rows(table: dict[str, list[list[str]]]) -> list[tuple[str, list[str]]]:
    return [(version, lines) for version, several in table.items() for lines in several]


def names(table: dict[str, list[list[str]]]) -> list[str]:
    return [f"{version} {' + '.join(lines) or 'without'}" for version, lines in rows(table)]


@pytest.mark.parametrize(("version", "lines"), rows(STAYS), ids=names(STAYS))
def test_a_connection_that_may_stay_stays(server: Server, version: str, lines: list[str]) -> None:
    data = head(f"GET {HELLO} HTTP/{version}", HOST, *lines) + get()
    first, second = converse(server.assets, data)
    assert (first.status, first["Connection"].lower()) == (200, "keep-alive")
    assert second.status == 200


@pytest.mark.parametrize(("version", "lines"), rows(ENDS), ids=names(ENDS))
def test_a_connection_that_is_to_end_ends(server: Server, version: str, lines: list[str]) -> None:
    data = head(f"GET {HELLO} HTTP/{version}", HOST, *lines) + get()
    (answer,) = converse(server.assets, data, is_finished=False)
    assert (answer.status, answer["Connection"]) == (200, "close")


LAST = {
    "a hit": (get(HELLO, "Connection: close"), "GET", 200),
    "a large file": (get("/edge/assets/big.bin", "Connection: close"), "GET", 200),
    "a range": (get("/edge/assets/bytes.bin", "Range: bytes=1-2", "Connection: close"), "GET", 206),
    "not modified": (get(HELLO, "If-None-Match: *", "Connection: close"), "GET", 304),
    "nothing": (get("/edge/assets/nothing", "Connection: close"), "GET", 404),
    "an absent tile": (get("/edge/assets/world/2/0/0.mvt", "Connection: close"), "GET", 204),
    "a HEAD": (head(f"HEAD {HELLO} HTTP/1.1", HOST, "Connection: close"), "HEAD", 200),
    "an OPTIONS": (head(f"OPTIONS {HELLO} HTTP/1.1", HOST, "Connection: close"), "OPTIONS", 204),
    "a body": (post("Content-Length: 3", "Connection: close", body=b"123"), "POST", 405),
    "chunks": (
        post("Transfer-Encoding: chunked", "Connection: close", body=chunked(b"123")),
        "POST",
        405,
    ),
    "health": (get("/healthz", "Connection: close"), "GET", 200),
}


@pytest.mark.parametrize(("data", "method", "status"), LAST.values(), ids=LAST.keys())
def test_every_answer_can_be_the_last(server: Server, data: bytes, method: str, status: int) -> None:
    (answer,) = converse(server.assets, data + get(), [method], is_finished=False)
    assert (answer.status, answer["Connection"]) == (status, "close")


@pytest.mark.parametrize("target", ["/healthz", "/metrics", "/nothing"])
def test_the_admin_plane_closes_when_asked(server: Server, target: str) -> None:
    (answer,) = converse(server.admin, get(target, "Connection: foo, close") + get("/"), is_finished=False)
    assert answer["Connection"] == "close"


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\nHost: a\n\n", post("Content-Length: 1, 2"), head("GET / HTTP/1.1")],
    ids=["bare LF", "lengths", "no Host"],
)
def test_the_admin_plane_is_guarded_too(server: Server, data: bytes) -> None:
    (answer,) = converse(server.admin, data + get("/metrics"), is_finished=False)
    check_refusal(answer, 400, "bad_request")


HALF = {
    "a file": (get(), [200]),
    "a large file": (get("/edge/assets/big.bin"), [200]),
    "a body": (post("Content-Length: 5", body=b"12345"), [405]),
    "chunks": (post("Transfer-Encoding: chunked", body=chunked(b"12345")), [405]),
    "ten requests": (get("/edge/assets/edge.bin") * 10, [200] * 10),
    "a request and half a one": (get() + get()[:-1], [200]),
    "half a request": (get()[:-2], []),
    "nothing": (b"", []),
}


@pytest.mark.parametrize(("data", "statuses"), HALF.values(), ids=HALF.keys())
def test_a_client_that_has_said_all_still_gets_its_answers(
    server: Server, data: bytes, statuses: list[int]
) -> None:
    assert [answer.status for answer in converse(server.assets, data)] == statuses


def test_a_slow_client_that_has_said_all_still_gets_a_large_answer(server: Server, world: World) -> None:
    with Connection(server.assets, WITHIN_S, receive_buffer=4096) as connection:
        connection.socket.sendall(get("/edge/assets/big.bin"))
        connection.socket.shutdown(socket.SHUT_WR)
        (answer,) = read_all(connection)
    assert answer.body == world.files["big.bin"]


# RFC 9112 sections 3.2.2 and 3.2.4


@pytest.mark.parametrize(
    ("target", "line", "base"),
    [
        ("/edge/assets/world.json", HOST, "http://edge.test"),
        ("/edge/assets/world.json", "Host: edge.test:8080", "http://edge.test:8080"),
        ("/edge/assets/world.json", "Host: [2001:db8::1]:80", "http://[2001:db8::1]:80"),
        ("http://other.test/edge/assets/world.json", HOST, "http://other.test"),
        ("http://other.test:81/edge/assets/world.json", HOST, "http://other.test:81"),
        ("HTTP://[::1]/edge/assets/world.json", HOST, "http://[::1]"),
        ("http://other.test/edge/assets/world.json?a=b", HOST, "http://other.test"),
    ],
)
def test_the_host_of_the_target_counts(server: Server, target: str, line: str, base: str) -> None:
    (answer,) = converse(server.assets, head(f"GET {target} HTTP/1.1", line))
    assert json.loads(answer.body)["tiles"] == [f"{base}/edge/assets/world/{{z}}/{{x}}/{{y}}.mvt"]


@pytest.mark.parametrize("target", ["*", "http://edge.test", "/"])
def test_options_of_the_server_leave_the_connection_in_step(server: Server, target: str) -> None:
    first, second = converse(
        server.assets, head(f"OPTIONS {target} HTTP/1.1", HOST) + get(), ["OPTIONS", "GET"]
    )
    assert first.status in (204, 404)
    assert second.status == 200


def test_an_absolute_target_without_path_is_the_root(server: Server) -> None:
    first, second = converse(server.assets, get("http://edge.test") + get("/"))
    assert first.status == second.status == 404


@pytest.fixture(scope="module")
def six(module_serve: Serve, world: World, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """An instance that listens on IPv6 and logs every request."""
    config = tmp_path_factory.mktemp("six") / "svc-edge.yaml"
    config.write_text("log:\n  access_sample: 1.0\n")
    return module_serve("--bind", "[::1]:0", "--workers", 1, "--config", config, *world.packs)


@pytest.mark.parametrize(
    ("data", "event", "status"),
    [
        (get(), "request", 200),
        (get("/edge/assets/nothing.txt"), "reject", 404),
        (get("/healthz/nothing"), "reject", 404),
        (get(HELLO, "Expect: 200-ok"), "reject", 417),
        (b"\n", "reject", 400),
    ],
    ids=["a hit", "nothing", "no route", "an expectation", "no request"],
)
def test_a_peer_of_ipv6_is_named(six: Server, data: bytes, event: str, status: int) -> None:
    before = len(six.events(event))
    (answer,) = converse(six.assets, data)
    assert answer.status == status
    (line,) = eventually(lambda: six.events(event)[before:])
    assert (line["peer_addr"], line["status"]) == ("::1", status)
    assert line["corr_id"] == answer["X-Corr-ID"]
