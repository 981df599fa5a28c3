"""What admission decides from what the guard and the other workers tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from edge_server import guard
from edge_server.config.schema import Ingress
from edge_server.guard import CROWDED, LATE, REPLAY
from edge_server.shm.admission import PATIENCE_S, Ledger
from edge_server.shm.scoreboard import Field, Scoreboard
from edge_server.shm.segment import segment_name
from edge_server.worker.admission import ADMITTED, BUSY, INTERVAL_S, RATE_LIMIT, Admission, InflightCap


class Guard:
    """Stands in for what the guard knows: load, and the marks that it was given."""

    def __init__(self) -> None:
        self.load: tuple[int, int, bool] = (1, 0, False)
        self.marks: list[tuple[int, float, float]] = []

    def press_at(self, room: int, patience_s: float, interval_s: float) -> None:
        self.marks.append((room, patience_s, interval_s))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Guard:
    stand_in = Guard()
    monkeypatch.setattr(guard, "load", lambda: stand_in.load)
    monkeypatch.setattr(guard, "press_at", stand_in.press_at)
    return stand_in


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    made = Scoreboard.create(2, segment_name("test-admission"))
    yield made
    made.segment.unlink()
    made.close()


@pytest.fixture
def make_admission(board: Scoreboard) -> Iterator[Callable[..., Admission]]:
    ledger = Ledger.create(2, segment_name("test-admission-ledger"))
    yield lambda **keys: Admission(Ingress(**keys), board, board.row(0), ledger, 0)
    ledger.segment.unlink()
    ledger.close()


Make = Callable[..., Admission]


def test_without_pressure_and_limits_everything_is_admitted(told: Guard, make_admission: Make) -> None:
    admission = make_admission()
    assert not admission.limits_rate
    assert admission.judge(0) == ADMITTED


def test_who_is_late_while_the_late_are_shed_is_refused(told: Guard, make_admission: Make) -> None:
    assert make_admission().judge(LATE) == BUSY


def test_a_replay_was_admitted_before(told: Guard, make_admission: Make) -> None:
    admission = make_admission(rps_limit=1, rps_burst=1, max_inflight=1)
    told.load = (5, 5, True)
    assert [admission.judge(REPLAY) for _ in range(3)] == [ADMITTED] * 3


def test_beyond_the_rate_the_reason_is_rate_limit(told: Guard, make_admission: Make) -> None:
    admission = make_admission(rps_limit=1, rps_burst=2)
    assert admission.limits_rate
    assert [admission.judge(0) for _ in range(3)] == [ADMITTED, ADMITTED, RATE_LIMIT]


def test_what_is_refused_as_busy_takes_nothing_of_the_rate(told: Guard, make_admission: Make) -> None:
    admission = make_admission(rps_limit=1, rps_burst=1)
    assert [admission.judge(LATE), admission.judge(0)] == [BUSY, ADMITTED]


@pytest.mark.parametrize(
    ("others", "own", "verdict"),
    [(0, 10, ADMITTED), (0, 11, BUSY), (6, 4, ADMITTED), (6, 5, BUSY), (10, 1, BUSY), (11, 1, BUSY)],
)
def test_requests_in_hand_are_counted_over_all_workers(
    board: Scoreboard, told: Guard, make_admission: Make, others: int, own: int, verdict: str
) -> None:
    board.row(2).set(Field.INFLIGHT, others // 2)
    board.row(3).set(Field.PARKED, others - others // 2)
    board.row(board.row_index(-1, "a")).set(Field.INFLIGHT, 99)
    told.load = (own - own // 2, own // 2, False)
    assert make_admission(max_inflight=10).judge(CROWDED) == verdict


def test_a_tick_gives_the_guard_its_marks(told: Guard, make_admission: Make) -> None:
    told.load = (3, 1, False)
    make_admission(max_inflight=100).refresh()
    assert told.marks == [(4 + 96 // 16, PATIENCE_S, INTERVAL_S)]


def test_workers_that_fill_at_the_same_time_stay_below_the_cap(board: Scoreboard) -> None:
    cap = 160
    caps = [InflightCap(board, board.row(2 * slot), cap) for slot in (0, 1)]
    held, rooms = [0, 0], [each.look(0, 0, asking=0).until for each in caps]
    for turn in range(4000):
        slot = turn % 2
        held[slot] += 1
        if held[slot] > rooms[slot]:
            room = caps[slot].look(held[slot], 0)
            rooms[slot] = room.until
            if not room.is_left:
                held[slot] -= 1
                rooms[slot] = caps[slot].look(held[slot], 0, asking=0).until
    assert cap <= sum(held) <= cap + 2


def test_a_worker_that_has_room_of_its_own_looks_again_when_the_others_have_filled_it(
    board: Scoreboard, told: Guard, make_admission: Make
) -> None:
    admission = make_admission(max_inflight=8)
    assert admission.judge(CROWDED) == ADMITTED
    board.row(2).set(Field.INFLIGHT, 8)
    room, *_ = told.marks[-1]
    assert room < 1, "the next request alone is more than that"
    assert admission.judge(CROWDED) == BUSY
