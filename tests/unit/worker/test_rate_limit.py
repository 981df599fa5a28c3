"""The one token bucket that several workers account for without a lock."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.shm.admission import Field, Ledger
from edge_server.shm.segment import segment_name
from edge_server.worker.rate_limit import bind_rate_limit

BEGAN_S = 1000.0
_names = itertools.count()


class Clock:
    """A clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now_s = BEGAN_S

    def __call__(self) -> float:
        return self.now_s


class Instance:
    """Workers over one ledger, each bound to the row of its identity."""

    def __init__(self, ledger: Ledger, rate: int, burst: int) -> None:
        self.ledger = ledger
        self.clock = Clock()
        self._limits = (rate, burst)
        self._letters = [0] * ledger.workers
        self.workers = [self._bind(slot) for slot in range(ledger.workers)]

    def _bind(self, slot: int) -> Callable[[], bool]:
        return bind_rate_limit(self.ledger, 2 * slot + self._letters[slot], *self._limits, self.clock)

    def replace(self, slot: int) -> None:
        """Have the next letter of a slot take over, as after a kill."""
        self._letters[slot] ^= 1
        self.workers[slot] = self._bind(slot)

    def ask(self, slot: int, seconds: float, interval_s: float) -> int:
        """Let a worker ask at every interval; return how many it admitted."""
        admitted = 0
        for _ in range(round(seconds / interval_s)):
            self.clock.now_s += interval_s
            admitted += self.workers[slot]()
        return admitted


@pytest.fixture
def make_ledger() -> Iterator[Callable[[int], Ledger]]:
    made: list[Ledger] = []

    def make(workers: int) -> Ledger:
        ledger = Ledger.create(workers, segment_name(f"test-rate-{next(_names)}"), BEGAN_S)
        made.append(ledger)
        return ledger

    yield make
    for ledger in made:
        ledger.segment.unlink()
        ledger.close()


MakeLedger = Callable[[int], Ledger]


@pytest.mark.parametrize(("burst", "expected"), [(0, 1), (1, 1), (7, 7), (100, 100)], ids=str)
def test_an_idle_instance_admits_its_burst_at_once(
    make_ledger: MakeLedger, burst: int, expected: int
) -> None:
    instance = Instance(make_ledger(2), 100, burst)
    assert sum(instance.workers[0]() for _ in range(1000)) == expected


@pytest.mark.parametrize(
    ("shares", "workers"),
    [([1], 1), ([1, 0], 2), ([9, 1], 2), ([1, 1], 2), ([1, 1, 1, 1], 4), ([97, 1, 1, 1], 4)],
    ids=str,
)
def test_the_rate_is_kept_however_the_load_falls(
    make_ledger: MakeLedger, shares: list[int], workers: int
) -> None:
    instance = Instance(make_ledger(workers), 500, 50)
    slots = random.Random(5).choices(range(workers), shares, k=100_000)  # 20,000 requests a second
    admitted = 0
    for slot in slots:
        instance.clock.now_s += 50e-6
        admitted += instance.workers[slot]()
    assert admitted == pytest.approx(50 + 5 * 500, abs=workers + 1)


def test_no_worker_starves_beside_another_that_asks_as_much(make_ledger: MakeLedger) -> None:
    instance = Instance(make_ledger(2), 1000, 10)
    admitted = [0, 0]
    for slot in random.Random(7).choices((0, 1), k=100_000):
        instance.clock.now_s += 50e-6
        admitted[slot] += instance.workers[slot]()
    assert min(admitted) > 0.3 * sum(admitted)


def test_a_worker_that_was_idle_knows_what_the_others_did_meanwhile(make_ledger: MakeLedger) -> None:
    instance = Instance(make_ledger(2), 100, 100)
    assert instance.workers[1]()
    admitted = instance.ask(0, seconds=10, interval_s=0.001)
    assert admitted == pytest.approx(1099, abs=1)
    assert sum(instance.workers[1]() for _ in range(500)) <= 1


def test_an_instance_that_was_idle_for_long_has_its_burst_and_no_more(make_ledger: MakeLedger) -> None:
    instance = Instance(make_ledger(2), 100, 20)
    instance.ask(0, seconds=1, interval_s=0.001)
    instance.clock.now_s += 3600
    assert sum(instance.workers[slot]() for slot in [0, 1] * 500) == pytest.approx(20, abs=2)


def test_a_worker_that_is_replaced_neither_brings_nor_takes_budget(make_ledger: MakeLedger) -> None:
    instance = Instance(make_ledger(2), 200, 100)
    admitted = 0
    for tenth in range(100):
        admitted += instance.ask(tenth % 2, seconds=0.1, interval_s=0.001)
        instance.replace(tenth % 2)
    assert admitted == pytest.approx(100 + 10 * 200, rel=0.01)


def test_a_successor_goes_on_from_the_count_of_its_identity(make_ledger: MakeLedger) -> None:
    instance = Instance(make_ledger(1), 1000, 50)
    assert instance.ask(0, seconds=0.01, interval_s=0.001) == 10
    instance.replace(0)
    instance.replace(0)
    assert instance.workers[0]()
    assert list(instance.ledger.column(Field.ADMITTED)) == [11, 0]


@given(
    rate=st.integers(1, 5000),
    burst=st.integers(0, 300),
    workers=st.integers(1, 4),
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([0.0, 1e-6, 50e-6, 1e-3, 0.02, 0.5]), st.booleans()),
        min_size=1,
        max_size=400,
    ),
)
def test_no_interleaving_admits_more_than_the_bucket_has(
    rate: int, burst: int, workers: int, steps: list[tuple[int, float, bool]]
) -> None:
    ledger = Ledger.create(workers, segment_name(f"test-rate-{next(_names)}"), BEGAN_S)
    try:
        instance = Instance(ledger, rate, burst)
        slack = workers + max(1, burst) / 8 + 0.001 * len(steps)
        at: list[float] = []
        for slot, pause_s, is_killed in steps:
            instance.clock.now_s += pause_s
            if is_killed:
                instance.replace(slot % workers)
            at += [instance.clock.now_s] * sum(instance.workers[slot % workers]() for _ in range(5))
        for first, began_s in enumerate(at):
            admitted = len(at) - first
            assert admitted <= max(1, burst) + rate * (at[-1] - began_s) + slack + rate * workers * 50e-6
    finally:
        ledger.segment.unlink()
        ledger.close()
