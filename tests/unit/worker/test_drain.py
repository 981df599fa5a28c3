"""The drain hangs up on idle connections only, however long a request may take."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator

import bjoern
import pytest

from edge_server.worker import server
from edge_server.worker.drain import IDLE_MS, Drain
from edge_server.worker.hitpath import HitPath

AMID_A_REQUEST, BETWEEN_REQUESTS = False, True


class Pair:
    """A client and the worker's end of its connection."""

    def __init__(self, listener: socket.socket) -> None:
        self.client = socket.create_connection(listener.getsockname())
        self.worker, _ = listener.accept()

    def is_hung_up(self) -> bool:
        self.client.setblocking(False)
        try:
            return self.client.recv(1) == b""
        except BlockingIOError:
            return False

    def close(self) -> None:
        self.client.close()
        self.worker.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def pair(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    made = Pair(listener)
    # A worker has no client's end of a connection.
    monkeypatch.setattr(server, "_descriptors", lambda: [listener.fileno(), made.worker.fileno()])
    yield made
    made.close()


@pytest.fixture
def drain(listener: socket.socket) -> Drain:
    return Drain(listener, HitPath(1))


def pass_by() -> None:
    time.sleep(IDLE_MS / 1000 + 0.05)


def test_a_silent_connection_is_hung_up(pair: Pair, drain: Drain) -> None:
    pass_by()
    assert not drain.step(BETWEEN_REQUESTS)
    assert not drain.step(BETWEEN_REQUESTS)
    assert pair.is_hung_up()


def test_a_request_that_is_being_answered_is_not_cut_however_long_it_takes(pair: Pair, drain: Drain) -> None:
    # Its first: nothing was sent before, so the kernel's clocks do not show that it was asked.
    pair.client.sendall(b"GET")
    pair.worker.recv(3)
    pass_by()
    for _ in range(5):
        drain.step(AMID_A_REQUEST)
    assert not pair.is_hung_up()


def test_an_answer_that_waits_for_the_loop_to_turn_is_not_cut(pair: Pair, drain: Drain) -> None:
    pair.client.sendall(b"GET")
    pair.worker.recv(3)
    pass_by()
    drain.step(BETWEEN_REQUESTS)
    pair.worker.sendall(b"x")  # what the loop does before it turns again
    drain.step(BETWEEN_REQUESTS)
    assert pair.client.recv(1) == b"x"
    assert not pair.is_hung_up()


def test_a_connection_that_was_used_of_late_is_left_to_its_client(pair: Pair, drain: Drain) -> None:
    for _ in range(3):
        drain.step(BETWEEN_REQUESTS)
    assert not pair.is_hung_up()


def test_bytes_that_nobody_has_read_yet_keep_a_connection_open(pair: Pair, drain: Drain) -> None:
    pair.client.sendall(b"GET")
    pass_by()
    for _ in range(3):
        drain.step(BETWEEN_REQUESTS)
    assert not pair.is_hung_up()


def test_what_waits_in_the_queue_is_waited_for(listener: socket.socket, drain: Drain) -> None:
    with socket.create_connection(listener.getsockname()):
        for _ in range(3):
            assert not drain.step(BETWEEN_REQUESTS)
        listener.accept()[0].close()
    assert [drain.step(BETWEEN_REQUESTS) for _ in range(2)] == [False, True]


def test_a_handler_knows_whether_the_loop_or_a_request_was_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def looping(*_: object) -> None:
        seen.append(server.is_in_loop(sys._getframe()))

    monkeypatch.setattr(bjoern, "server_run", looping)
    bjoern.server_run()
    assert seen == [True]
    assert not server.is_in_loop(sys._getframe())
    assert not server.is_in_loop(None)
