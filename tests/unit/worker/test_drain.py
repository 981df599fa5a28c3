"""The drain waits for the queue, then for the connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from edge_server import guard
from edge_server.worker.drain import Drain, queued


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


class Guarded:
    """What the drain asks of the guard, without connections."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.open = 0
        for name in ("close_after_answers", "stop_accepting"):
            monkeypatch.setattr(guard, name, lambda name=name: self.calls.append(name))
        monkeypatch.setattr(guard, "close_idle", lambda seconds: 0)
        monkeypatch.setattr(guard, "connections", lambda: {"busy": self.open})


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Guarded:
    return Guarded(monkeypatch)


def test_every_answer_is_the_last_one_from_the_beginning(listener: socket.socket, guarded: Guarded) -> None:
    Drain(listener)
    assert guarded.calls == ["close_after_answers"]


def test_what_waits_in_the_queue_is_waited_for(listener: socket.socket, guarded: Guarded) -> None:
    drain = Drain(listener)
    with socket.create_connection(listener.getsockname()):
        assert queued(listener) == 1
        assert [drain.step() for _ in range(4)] == [False] * 4
        assert "stop_accepting" not in guarded.calls
        listener.accept()[0].close()
    assert queued(listener) == 0
    assert [drain.step() for _ in range(2)] == [False, True]
    assert guarded.calls[-1] == "stop_accepting"


def test_a_connection_that_is_open_keeps_the_worker(listener: socket.socket, guarded: Guarded) -> None:
    drain = Drain(listener)
    guarded.open = 1
    assert [drain.step() for _ in range(5)] == [False] * 5
    guarded.open = 0
    assert drain.step()
