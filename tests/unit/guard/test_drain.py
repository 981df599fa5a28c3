"""The drain waits for the queue, then for the connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from edge_server import guard
from edge_server.guard.drain import IDLE_S, Drain, queued


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
        self.is_stopping = True
        self.patience_s: list[float] = []
        monkeypatch.setattr(guard, "close_idle", self.patience_s.append)
        monkeypatch.setattr(guard, "connections", lambda: {"busy": self.open})


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Guarded:
    return Guarded(monkeypatch)


def stopping(listener: socket.socket, guarded: Guarded, patience_s: float = 7.0) -> Drain:
    return Drain(listener, lambda: guarded.is_stopping, patience_s)


def test_every_answer_is_the_last_one_from_the_beginning(listener: socket.socket, guarded: Guarded) -> None:
    stopping(listener, guarded)
    assert guarded.calls == ["close_after_answers"]


def test_what_waits_in_the_queue_is_waited_for(listener: socket.socket, guarded: Guarded) -> None:
    drain = stopping(listener, guarded)
    with socket.create_connection(listener.getsockname()):
        assert queued(listener) == 1
        assert [drain.step() for _ in range(4)] == [False] * 4
        assert "stop_accepting" not in guarded.calls
        listener.accept()[0].close()
    assert queued(listener) == 0
    assert [drain.step() for _ in range(2)] == [False, True]
    assert guarded.calls[-1] == "stop_accepting"


def test_a_connection_that_is_open_keeps_the_worker(listener: socket.socket, guarded: Guarded) -> None:
    drain = stopping(listener, guarded)
    guarded.open = 1
    assert [drain.step() for _ in range(5)] == [False] * 5
    guarded.open = 0
    assert drain.step()


def test_a_successor_has_the_queue_at_once(listener: socket.socket, guarded: Guarded) -> None:
    guarded.is_stopping = False
    drain = stopping(listener, guarded)
    assert guarded.calls == ["close_after_answers", "stop_accepting"]
    with socket.create_connection(listener.getsockname()):
        assert drain.step(), "what is queued is the successor's"
        assert queued(listener) == 1


def test_an_idle_connection_is_borne_until_the_instance_stops(
    listener: socket.socket, guarded: Guarded
) -> None:
    guarded.is_stopping = False
    guarded.open = 1
    drain = stopping(listener, guarded, patience_s=7.0)
    drain.step()
    guarded.is_stopping = True
    drain.step()
    assert guarded.patience_s == [7.0, IDLE_S]


@pytest.mark.parametrize(("patience_s", "borne_s"), [(0.0, IDLE_S), (1.0, 1.0)])
def test_nobody_is_hung_up_sooner_than_at_a_stop(
    listener: socket.socket, guarded: Guarded, patience_s: float, borne_s: float
) -> None:
    guarded.is_stopping = False
    stopping(listener, guarded, patience_s).step()
    assert guarded.patience_s == [borne_s]


class TersePlace(socket.socket):
    """A listening socket of a kernel that tells the state of TCP and nothing more."""

    def getsockopt(self, level: int, option: int, length: int = 0) -> bytes:  # type: ignore[override]
        return super().getsockopt(level, option, length)[:8]


def test_a_kernel_that_tells_little_still_tells_whether_somebody_waits() -> None:
    with TersePlace() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert queued(listener) == 0
        with socket.create_connection(listener.getsockname()):
            assert queued(listener) == 1
