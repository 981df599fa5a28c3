"""Parking with a scripted sidecar: who is asked, who is resumed, and what is found then."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from edge_server.fill.messages import PACKET_BYTES, Ask, Done, Kind, Outcome
from edge_server.observe.metrics import PARK_RESULTS
from edge_server.shm.scoreboard import SIDECAR_SLOT, Field, Scoreboard
from edge_server.shm.segment import segment_name
from edge_server.worker import park_counts, parking
from edge_server.worker.parking import Parking, Want
from tests.counted import Counted

WANT = Want("a", (("accept", "*/*"),), "", False)


class ScriptedGuard:
    """Stands in for the guard: parks under growing tokens, and notes who is resumed."""

    def __init__(self) -> None:
        self.last = 0
        self.gone: set[int] = set()
        self.resumed: list[int] = []
        self.answering = 0

    def watch(self, descriptor: int, function: object) -> None: ...

    def park(self) -> int:
        self.last += 1
        return self.last

    def resume(self, token: int) -> bool:
        if token in self.gone:
            return False
        self.resumed.append(token)
        return True

    def replay_of(self) -> int:
        return self.answering


class World(SimpleNamespace):
    """A parking, the sidecar's end of its channel, and the clock."""

    guard: ScriptedGuard
    parking: Parking
    far: socket.socket
    rows: Any
    now_s: float
    counted: Counted
    joined: list[int]

    def asks(self) -> list[Ask]:
        found = []
        while True:
            try:
                found.append(Ask.unpack(self.far.recv(PACKET_BYTES)))
            except BlockingIOError:
                return found

    def park(self, want: Want = WANT, deadline_s: float = 105.0, corr_id: str = "c", rounds: int = 0) -> str:
        def ask(ticket: int, until_s: float) -> Ask:
            return Ask(ticket, Kind.FILL, want.key, dict(want.fields), "", False, until_s, corr_id)

        return str(self.parking.park(want, ask, deadline_s, corr_id, rounds))

    def tell(self, done: Done) -> None:
        self.far.send(done.pack())
        self.parking.on_packets()

    def replayed(self, token: int) -> parking.Result | None:
        self.guard.answering = token
        return self.parking.result()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    scripted = ScriptedGuard()
    board = Scoreboard.create(1, segment_name("test-parking"))
    rows = [row for row in board.rows() if row.slot == SIDECAR_SLOT]
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    far.setblocking(False)
    made = World(guard=scripted, far=far, rows=rows, now_s=100.0, counted=Counted(), joined=[])
    monkeypatch.setattr(parking, "guard", scripted)
    monkeypatch.setattr(parking, "monotonic", lambda: made.now_s)
    told = SimpleNamespace(
        edge_parks_total=made.counted,
        edge_fill_coalesced_total=SimpleNamespace(inc=made.joined.append),
    )
    for module in (parking, park_counts):
        monkeypatch.setattr(module, "metrics", lambda: told)
    rows[0].set(Field.FILLING_NS, 11)
    far.send(b"for a worker before this one")
    made.parking = Parking(near, rows)
    with near, far:
        yield made
    board.segment.unlink()


def test_what_is_stored_resumes_who_asked_and_the_replay_finds_it_once(world: World) -> None:
    assert world.park(corr_id="mine") == ""
    (ask,) = world.asks()
    assert (ask.key, ask.deadline_s, world.parking.waiting) == ("a", 105.0, 1)
    world.tell(Done(ask.ticket, Outcome.STORED, b"k" * 16))
    assert world.guard.resumed == [1]
    found = world.replayed(1)
    assert found is not None
    assert (found.done.key_id, found.corr_id, found.rounds) == (b"k" * 16, "mine", 1)
    assert world.replayed(1) is None
    assert world.parking.waiting == 0


def test_equal_wants_are_asked_for_once_and_others_by_themselves(world: World) -> None:
    for _ in range(3):
        world.park()
    world.park(WANT._replace(cache_control="no-cache"))
    asks = world.asks()
    assert len(asks) == 2
    world.tell(Done(asks[0].ticket, Outcome.STORED))
    assert world.guard.resumed == [1, 2, 3]


def test_requests_that_share_what_was_asked_are_counted_as_joined(world: World) -> None:
    for want in (WANT, WANT, WANT._replace(key="b"), WANT):
        world.park(want)
    world.parking.sweep()
    world.parking.sweep()
    assert world.joined == [2]
    world.park()
    world.parking.sweep()
    assert world.joined == [2, 1]


def test_one_whose_budget_is_longer_asks_again(world: World) -> None:
    world.park(deadline_s=101.0)
    world.park(deadline_s=101.4)
    world.park(deadline_s=104.0)
    assert [ask.deadline_s for ask in world.asks()] == [101.0, 104.0]


def test_past_its_budget_a_request_is_replayed_and_told_so(world: World) -> None:
    world.park(deadline_s=101.0)
    world.park(WANT._replace(key="b"), deadline_s=109.0)
    world.now_s = 102.0
    world.parking.sweep()
    assert world.guard.resumed == [1]
    found = world.replayed(1)
    assert found is not None
    assert (found.done.outcome, found.done.reason) == (Outcome.REFUSED, "timeout")
    assert world.parking.waiting == 1


def test_without_a_sidecar_in_time_filling_is_unavailable(world: World) -> None:
    world.rows[0].set(Field.FILLING_NS, 0)
    world.park(deadline_s=101.0)
    world.now_s = 102.0
    world.parking.sweep()
    found = world.replayed(1)
    assert found is not None
    assert found.done.reason == "fill_unavailable"


def test_a_new_sidecar_is_asked_again_and_its_answer_counts(world: World) -> None:
    world.park()
    (first,) = world.asks()
    world.parking.sweep()
    assert world.asks() == []
    world.rows[0].set(Field.FILLING_NS, 0)
    world.parking.sweep()
    assert world.asks() == []
    world.rows[1].set(Field.FILLING_NS, 22)
    world.parking.sweep()
    world.parking.sweep()
    assert world.asks() == [first]
    world.tell(Done(first.ticket, Outcome.STORED))
    assert world.guard.resumed == [1]


def test_a_sidecar_that_leaves_has_everybody_ask_its_successor(world: World) -> None:
    world.park()
    (first,) = world.asks()
    world.rows[0].set(Field.FILLING_NS, 0)
    world.tell(Done(first.ticket, Outcome.AGAIN))
    world.rows[1].set(Field.FILLING_NS, 22)
    world.parking.sweep()
    assert (world.asks(), world.guard.resumed) == ([first], [])


def test_answers_to_somebody_else_and_packets_that_are_none_change_nothing(world: World) -> None:
    world.park()
    (ask,) = world.asks()
    world.far.send(b"nonsense")
    world.tell(Done(ask.ticket + 1, Outcome.STORED))
    assert (world.guard.resumed, world.parking.waiting) == ([], 1)


def test_who_has_left_is_forgotten(world: World) -> None:
    world.park()
    world.park()
    world.guard.gone.add(1)
    (ask,) = world.asks()
    world.tell(Done(ask.ticket, Outcome.STORED))
    assert (world.guard.resumed, world.replayed(1)) == ([2], None)
    world.parking.sweep()
    world.parking.sweep()
    assert world.counted == {"stored": 1, "gone": 1}


def test_a_full_channel_keeps_asks_in_order_and_refuses_beyond_its_bound(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "_UNSENT_MAX", 5)
    taken = 0
    while world.park(WANT._replace(key=f"k{taken}")) == "":
        taken += 1
    assert world.park(WANT._replace(key="more")) == "busy"
    keys = []
    while asks := world.asks():
        keys += [ask.key for ask in asks]
        world.parking.sweep()
    assert keys == [f"k{number}" for number in range(taken)]
    assert world.parking.waiting == taken


def test_a_request_whose_fields_fit_no_packet_is_refused(world: World) -> None:
    assert world.park(WANT._replace(fields=(("x", "y" * PACKET_BYTES),))) == "header_cap"
    assert world.parking.waiting == 0


def test_every_outcome_has_a_count(world: World) -> None:
    named = {outcome.value for outcome in Outcome} - {Outcome.AGAIN.value}
    of_errands = {"read", "direct"}
    assert named | {"timeout", "fill_unavailable", "gone"} | of_errands == set(PARK_RESULTS)
