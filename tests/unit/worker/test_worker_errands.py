"""Errands with a scripted guard and a scripted sidecar: who waits, who goes on, and who does it himself."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from edge_server.errands import ERRAND_BYTES, ErrandDone, HashEntry, ReadAhead, unpack
from edge_server.errors import Cold, PackUnreadable, Refused, Rejection, Unhashed
from edge_server.shm.scoreboard import SIDECAR_SLOT, Field, Scoreboard
from edge_server.shm.segment import segment_name
from edge_server.worker import errands, park_counts
from edge_server.worker.errands import Errands
from edge_server.worker.files import AHEAD_BYTES, WINDOW_BYTES
from tests.counted import Counted

BIG = 9 << 20  # too big to be hashed by a worker


class ScriptedGuard:
    """Stands in for the guard."""

    def __init__(self) -> None:
        self.last = 0
        self.gone: set[int] = set()
        self.resumed: list[int] = []
        self.went_on: list[tuple[int, bool]] = []
        self.given_up: list[int] = []
        self.spans: list[tuple[int, int, int, int]] = []
        self.answering = 0
        self.waits = False

    def watch(self, descriptor: int, function: object) -> None: ...

    def on_cold(self, function: object) -> None: ...

    def cold(self) -> list[tuple[int, int, int, int]]:
        spans, self.spans = self.spans, []
        return spans

    def park(self) -> int:
        self.last += 1
        return self.last

    def resume(self, token: int) -> bool:
        if token not in self.gone:
            self.resumed.append(token)
        return token not in self.gone

    def go_on(self, token: int, may_wait: bool) -> bool:
        self.went_on.append((token, may_wait))
        return True

    def give_up(self, token: int) -> bool:
        self.given_up.append(token)
        return True

    def may_wait(self) -> None:
        self.waits = True

    def replay_of(self) -> int:
        return self.answering


class World(SimpleNamespace):
    """A worker's errands, the sidecar's end of their channel, and the clock."""

    guard: ScriptedGuard
    errands: Errands
    far: socket.socket
    rows: Any
    now_s: float
    counted: Counted
    hashed: list[int]
    file: int

    @property
    def device(self) -> int:
        return os.fstat(self.file).st_dev

    def asked(self) -> list[ReadAhead | HashEntry | ErrandDone]:
        found = []
        while True:
            try:
                packet, descriptors, _, _ = socket.recv_fds(self.far, ERRAND_BYTES, 1)
            except BlockingIOError:
                return found
            errand = unpack(packet)
            assert len(descriptors) == isinstance(errand, ReadAhead)
            for descriptor in descriptors:
                os.close(descriptor)
            found.append(errand)

    def cold(self, offset: int = 0, started: float = 100.0, corr_id: str = "c") -> Rejection | None:
        return self.errands.wait(Cold(self.file, offset, 10, 5), started, corr_id)

    def done(self, ticket: int, is_done: bool = True) -> None:
        self.far.send(ErrandDone(ticket, is_done).pack())
        self.errands.on_packets()

    def replayed(self, token: int) -> str | None:
        self.guard.answering, self.guard.waits = token, False
        return self.errands.replayed()

    def beat(self) -> None:
        self.rows[0].set(Field.BEAT_NS, int(self.now_s * 1e9))


def fill(end: socket.socket) -> None:
    """Send until there is no room."""
    with suppress(BlockingIOError):
        while True:
            end.send(b"x" * 400)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    board = Scoreboard.create(1, segment_name("test-errands"))
    rows = [row for row in board.rows() if row.slot == SIDECAR_SLOT]
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    far.setblocking(False)
    hashed: list[int] = []
    file = os.open(os.devnull, os.O_RDONLY)
    made = World(
        guard=ScriptedGuard(), far=far, rows=rows, now_s=100.0, counted=Counted(), hashed=hashed, file=file
    )
    monkeypatch.setattr(errands, "guard", made.guard)
    monkeypatch.setattr(errands, "monotonic", lambda: made.now_s)
    monkeypatch.setattr(errands, "monotonic_ns", lambda: int(made.now_s * 1e9))
    monkeypatch.setattr(park_counts, "metrics", lambda: SimpleNamespace(edge_parks_total=made.counted))
    rows[0].set(Field.ERRANDS_NS, 11)
    made.beat()
    catalog: Any = SimpleNamespace(generation=3, hash_entry=hashed.append)
    made.errands = Errands(near, rows, catalog, 5.0)
    with near, far:
        yield made
    os.close(file)
    board.segment.unlink()


def test_what_was_read_ahead_resumes_who_asked_with_its_correlation_id(world: World) -> None:
    assert world.cold(corr_id="mine") is None
    (asked,) = world.asked()
    assert asked[1:] == (0, 10, 5, world.device)
    assert world.guard.resumed == []
    assert world.errands.last_token == 1
    world.done(asked.ticket)
    assert world.guard.resumed == [1]
    assert world.replayed(1) == "mine"
    assert not world.guard.waits
    assert world.replayed(1) is None
    world.errands.sweep()
    assert world.counted == {"read": 1}


def test_the_same_bytes_are_asked_for_once_and_others_by_themselves(world: World) -> None:
    for offset in (0, 0, 4096):
        assert world.cold(offset) is None
    first, second = world.asked()
    world.done(first.ticket)
    assert world.guard.resumed == [1, 2]
    world.done(second.ticket)
    assert world.guard.resumed == [1, 2, 3]


def test_what_could_not_be_read_ahead_is_read_by_the_worker(world: World) -> None:
    world.cold()
    (asked,) = world.asked()
    world.done(asked.ticket, False)
    assert world.replayed(1) == "c"
    assert world.guard.waits
    world.errands.sweep()
    assert world.counted == {"direct": 1}


@pytest.mark.parametrize("why", ["none", "silent", "full"])
def test_where_nobody_can_be_asked_the_worker_reads_itself(world: World, why: str) -> None:
    if why == "none":
        world.rows[0].set(Field.ERRANDS_NS, 0)
    elif why == "silent":
        world.now_s += 1.5
    else:
        fill(world.errands._channel)
    assert world.cold() is None
    assert world.guard.resumed == [1]
    assert world.replayed(1) == "c"
    assert world.guard.waits


def test_who_waits_for_a_sidecar_that_dies_goes_on_at_once(world: World) -> None:
    world.guard.spans = [(77, world.file, 0, 100)]
    world.cold()
    world.errands.on_cold()
    world.rows[0].set(Field.ERRANDS_NS, 0)
    world.errands.sweep()
    assert (world.guard.resumed, world.guard.went_on) == ([1], [(77, True)])
    assert world.replayed(1) == "c"
    assert world.guard.waits
    world.errands.sweep()
    assert world.counted == {"direct": 2}


def test_who_waits_for_a_sidecar_that_has_a_successor_asks_that_and_waits_for_no_disk(world: World) -> None:
    world.guard.spans = [(77, world.file, 0, 100)]
    world.cold()
    world.errands.on_cold()
    world.rows[1].set(Field.ERRANDS_NS, 22)
    world.rows[1].set(Field.BEAT_NS, int(world.now_s * 1e9))
    world.rows[0].set(Field.ERRANDS_NS, 0)
    world.asked()
    world.errands.sweep()
    assert (world.guard.resumed, world.guard.went_on) == ([1], [(77, False)])
    assert world.replayed(1) == "c"
    assert not world.guard.waits
    assert world.cold() is None
    assert len(world.asked()) == 1


def test_a_successor_does_not_take_errands_away_from_one_that_still_runs_them(world: World) -> None:
    world.cold()
    world.rows[1].set(Field.ERRANDS_NS, 22)
    world.rows[1].set(Field.BEAT_NS, int(world.now_s * 1e9))
    world.errands.sweep()
    assert world.guard.resumed == []


def test_past_its_time_a_request_is_replayed_and_refused_if_its_bytes_are_still_cold(
    world: World,
) -> None:
    world.cold()
    world.now_s += 6
    world.beat()
    world.errands.sweep()
    assert world.guard.resumed == [1]
    assert world.replayed(1) == "c"
    assert not world.guard.waits
    refused = world.cold(started=100.0)
    assert isinstance(refused, Refused)
    assert refused.reason == "timeout"
    world.errands.sweep()
    assert world.counted == {"timeout": 1}


def test_what_goes_cold_again_and_again_is_read_by_the_worker(world: World) -> None:
    for token in (1, 2, 3):
        assert world.cold() is None
        (asked,) = world.asked()
        world.done(asked.ticket)
        assert world.replayed(token) == "c"
        assert not world.guard.waits
    assert world.cold() is None
    assert world.asked() == []
    assert world.replayed(4) == "c"
    assert world.guard.waits


def test_rounds_are_a_requests_own(world: World) -> None:
    for token in (1, 2, 3):
        world.cold()
        (asked,) = world.asked()
        world.done(asked.ticket)
        world.replayed(token)
    world.guard.answering = 0  # another request
    world.cold()
    assert len(world.asked()) == 1


def test_a_client_that_has_left_is_counted_and_forgotten(world: World) -> None:
    world.cold()
    world.guard.gone.add(1)
    (asked,) = world.asked()
    world.done(asked.ticket)
    assert world.replayed(1) is None
    world.errands.sweep()
    assert world.counted == {"gone": 1}


def test_a_body_on_its_way_waits_for_a_window_and_has_the_disk_begin_with_more(world: World) -> None:
    world.guard.spans = [(77, world.file, 100, 1 << 30), (78, world.file, 100, 10)]
    world.errands.on_cold()
    first, second = world.asked()
    assert first[1:] == (100, WINDOW_BYTES, AHEAD_BYTES, world.device)
    assert second[1:] == (100, 10, 0, world.device)
    world.done(first.ticket)
    assert world.guard.went_on == [(77, False)]
    world.now_s += 6
    world.beat()
    world.errands.sweep()
    assert world.guard.given_up == [78]
    world.errands.sweep()
    assert world.counted == {"timeout": 1}


def test_what_nobody_waits_for_is_asked_for_while_there_is_little_to_do(world: World) -> None:
    world.guard.spans = [(0, world.file, 0, 100)]
    world.errands.on_cold()
    (asked,) = world.asked()
    assert asked == ReadAhead(0, 0, 100, 0, world.device)
    for offset in range(20):
        world.cold(offset)
    world.asked()
    world.guard.spans = [(0, world.file, 0, 100)]
    world.errands.on_cold()
    assert world.asked() == []


def test_a_digest_is_asked_for_by_generation_and_entry(world: World) -> None:
    assert world.errands.wait(Unhashed(9, BIG), 100.0, "c") is None
    (asked,) = world.asked()
    assert asked[1:] == (3, 9)
    world.done(asked.ticket)
    assert world.replayed(1) == "c"
    assert world.hashed == []


def test_without_a_sidecar_a_worker_hashes_what_is_not_too_big(world: World) -> None:
    world.rows[0].set(Field.ERRANDS_NS, 0)
    assert world.errands.wait(Unhashed(8, 2 << 20), 100.0, "c") is None
    assert (world.hashed, world.guard.resumed) == ([8], [1])
    refused = world.errands.wait(Unhashed(9, BIG), 100.0, "c")
    assert isinstance(refused, PackUnreadable)
    assert world.hashed == [8]


def test_what_is_no_answer_is_logged_and_ends_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(errands, "log", lambda event, *_, **__: logged.append(event))
    world.far.send(b"no errand")
    world.done(12345)
    assert logged == ["defect"]
    assert world.guard.resumed == []
