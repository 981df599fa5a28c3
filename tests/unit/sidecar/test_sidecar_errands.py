"""Errands run in this process, over a real channel and a real file."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from edge_server.errands import ERRAND_BYTES, NOBODY, ErrandDone, HashEntry, ReadAhead, unpack
from edge_server.shm.scoreboard import SIDECAR_SLOT, Field, Row, Scoreboard
from edge_server.sidecar import errands
from edge_server.sidecar.errands import Errands
from tests.cold import chill, pages_at_hand
from tests.servers import eventually

SIZE = 3 << 20
GENERATION = 4
DISK = 17


class Running(NamedTuple):
    """Errands that run, and a worker's end of a channel."""

    errands: Errands
    near: socket.socket
    wanted: list[int]

    def ask(self, errand: ReadAhead | HashEntry, *descriptors: int) -> None:
        socket.send_fds(self.near, [errand.pack()], descriptors)

    def told(self) -> ErrandDone:
        done = unpack(self.near.recv(ERRAND_BYTES))
        assert isinstance(done, ErrandDone)
        return done


@pytest.fixture
def row(scoreboard: Scoreboard) -> Row:
    return scoreboard.row(scoreboard.row_index(SIDECAR_SLOT, "a"))


@pytest.fixture
def running(row: Row) -> Iterator[Running]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.settimeout(5)
    far.setblocking(False)
    wanted: list[int] = []

    def want(entry: int, told: Any) -> None:
        wanted.append(entry)
        told(entry == 1)

    hashing: Any = SimpleNamespace(want=want)
    made = Errands(row, {"0a": far}, hashing, GENERATION)
    made.start()
    eventually(lambda: row.get(Field.ERRANDS_NS) > 0)
    with near, far:
        yield Running(made, near, wanted)
        made.stop()
        made._thread.join(5)
    assert row.get(Field.ERRANDS_NS) == 0


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    chill(path)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@contextmanager
def hanging(
    monkeypatch: pytest.MonkeyPatch, gate: threading.Event, begun: threading.Semaphore
) -> Iterator[None]:
    """Have every read that begins wait until this ends."""
    right = Errands._touch

    def touch(self: Errands, descriptor: int, start: int, stop: int) -> None:
        begun.release()
        gate.wait(10)
        right(self, descriptor, start, stop)

    monkeypatch.setattr(Errands, "_touch", touch)
    try:
        yield
    finally:
        gate.set()


def test_what_is_waited_for_is_in_the_page_cache_when_it_is_said_to_be(running: Running, file: int) -> None:
    running.ask(ReadAhead(7, 4096, 1 << 20, 0, DISK), file)
    assert running.told() == ErrandDone(7, True)
    got = os.preadv(file, [bytearray(1 << 20)], 4096, os.RWF_NOWAIT)
    assert got == 1 << 20


def test_what_comes_after_it_follows_by_itself(running: Running, file: int) -> None:
    running.ask(ReadAhead(7, 0, 4096, SIZE - 4096, DISK), file)
    assert running.told().is_done
    eventually(lambda: pages_at_hand(file) * os.sysconf("SC_PAGE_SIZE") >= SIZE)


def test_what_nobody_waits_for_is_not_answered(running: Running, file: int) -> None:
    running.ask(ReadAhead(NOBODY, 0, SIZE, 0, DISK), file)
    eventually(lambda: pages_at_hand(file) * os.sysconf("SC_PAGE_SIZE") >= SIZE)
    running.ask(ReadAhead(8, 0, 1, 0, DISK), file)
    assert running.told().ticket == 8


def test_a_file_that_has_become_shorter_is_told_of_like_any_other(running: Running, file: int) -> None:
    running.ask(ReadAhead(7, SIZE - 10, 4096, 0, DISK), file)
    assert running.told() == ErrandDone(7, True)


def test_what_cannot_be_read_is_left_to_who_asked(running: Running) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        running.ask(ReadAhead(7, 0, 10, 0, DISK), ours.fileno())
        assert running.told() == ErrandDone(7, False)
    running.ask(ReadAhead(8, 0, 10, 0, DISK))  # without a descriptor
    assert running.told() == ErrandDone(8, False)


def test_more_reads_than_may_wait_are_left_to_who_asked(
    running: Running, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errands, "READERS", 1)
    monkeypatch.setattr(errands, "WAITING_MAX", 1)
    gate, begun = threading.Event(), threading.Semaphore(0)
    with hanging(monkeypatch, gate, begun):
        running.ask(ReadAhead(7, 0, 10, 0, DISK), file)
        assert begun.acquire(timeout=5)
        running.ask(ReadAhead(8, 0, 10, 0, DISK), file)
        running.ask(ReadAhead(9, 0, 10, 0, DISK), file)
        assert running.told() == ErrandDone(9, False)
    assert {running.told(), running.told()} == {ErrandDone(7, True), ErrandDone(8, True)}


def test_a_disk_that_hangs_holds_up_no_other(
    running: Running, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, begun = threading.Event(), threading.Semaphore(0)
    with hanging(monkeypatch, gate, begun):
        for ticket in range(errands.READERS):
            running.ask(ReadAhead(1 + ticket, 0, 10, 0, DISK), file)
            assert begun.acquire(timeout=5)
        monkeypatch.undo()
        running.ask(ReadAhead(99, 0, 10, 0, DISK + 1), file)
        assert running.told() == ErrandDone(99, True)
    assert {running.told().is_done for _ in range(errands.READERS)} == {True}


def test_a_digest_is_wanted_of_this_generation_only(running: Running) -> None:
    for entry, generation in ((1, GENERATION), (2, GENERATION), (1, GENERATION - 1)):
        running.ask(HashEntry(entry, generation, entry))
    assert [running.told() for _ in range(3)] == [
        ErrandDone(1, True),
        ErrandDone(2, False),
        ErrandDone(1, False),
    ]
    assert running.wanted == [1, 2]


def test_no_descriptor_stays_open(running: Running, file: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for ticket in range(1, 50):
        running.ask(ReadAhead(ticket, 0, 10, 0, DISK), file)
        running.ask(HashEntry(ticket, GENERATION, 1), file)  # with one that it does not need
    assert {running.told().is_done for _ in range(98)} == {True}
    running.near.send(b"no errand")
    running.ask(ReadAhead(99, 0, 10, 0, DISK), file)
    assert running.told().ticket == 99
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_a_defect_ends_errands_and_says_so(
    running: Running, row: Row, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(errands, "log", lambda event, *_, **__: logged.append(event))
    monkeypatch.setattr(errands, "unpack", lambda packet: 1 / 0)
    running.ask(ReadAhead(7, 0, 10, 0, DISK), file)
    eventually(lambda: row.get(Field.ERRANDS_NS) == 0)
    assert logged == ["defect"]
