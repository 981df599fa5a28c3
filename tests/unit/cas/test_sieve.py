"""SIEVE: the order in which objects go."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from edge_server.cas.sieve import Sieve


def sieve_of(items: str, visited: set[str]) -> Sieve[str]:
    def take(item: str) -> bool:
        was = item in visited
        visited.discard(item)
        return was

    made: Sieve[str] = Sieve(take)
    for item in items:
        made.add(item)
    return made


def evicted(sieve: Sieve[str], count: int) -> str:
    gone = []
    for _ in range(count):
        victim = sieve.victim()
        assert victim is not None
        sieve.discard(victim)
        gone.append(victim)
    return "".join(gone)


def test_without_visits_the_oldest_goes_first() -> None:
    assert evicted(sieve_of("abcd", set()), 4) == "abcd"


def test_what_was_visited_is_spared_once_and_stays_where_it_is() -> None:
    sieve = sieve_of("abcde", {"a", "c"})
    assert evicted(sieve, 3) == "bde"
    assert list(sieve) == ["a", "c"]
    assert evicted(sieve, 2) == "ac"


def test_the_hand_goes_on_from_where_it_was_past_what_is_new() -> None:
    visited = {"a", "b"}
    sieve = sieve_of("abcd", visited)
    assert evicted(sieve, 1) == "c"
    sieve.add("e")
    assert evicted(sieve, 1) == "d"
    visited.add("e")
    assert evicted(sieve, 1) == "a"
    assert list(sieve) == ["b", "e"]


def test_when_all_were_visited_the_one_under_the_hand_goes() -> None:
    assert evicted(sieve_of("abc", {"a", "b", "c"}), 3) == "abc"


def test_readers_who_visit_without_end_do_not_hold_it_up() -> None:
    sieve: Sieve[str] = Sieve(lambda item: True)
    for item in "abc":
        sieve.add(item)
    assert sieve.victim() in set("abc")


def test_an_empty_queue_has_no_victim() -> None:
    assert sieve_of("", set()).victim() is None


class Plain:
    """The algorithm as its paper writes it, on a list: the newest first."""

    def __init__(self) -> None:
        self.queue: list[int] = []
        self.visited: set[int] = set()
        self.hand: int | None = None

    def add(self, item: int) -> None:
        if item not in self.queue:
            self.queue.insert(0, item)

    def discard(self, item: int) -> None:
        if item in self.queue:
            at = self.queue.index(item)
            if self.hand == item:
                self.hand = self.queue[at - 1] if at else None
            self.queue.remove(item)
            self.visited.discard(item)

    def evict(self) -> int | None:
        if not self.queue:
            return None
        item = self.queue[-1] if self.hand is None else self.hand
        while item in self.visited:
            self.visited.discard(item)
            at = self.queue.index(item)
            item = self.queue[at - 1] if at else self.queue[-1]
        self.hand = item
        self.discard(item)
        return item


STEPS = st.lists(st.tuples(st.sampled_from(["add", "visit", "discard", "evict"]), st.integers(0, 9)))


@given(STEPS)
def test_it_does_what_the_paper_says(steps: list[tuple[str, int]]) -> None:
    plain, visited = Plain(), set()

    def take(item: int) -> bool:
        was = item in visited
        visited.discard(item)
        return was

    sieve: Sieve[int] = Sieve(take)
    does: dict[str, Callable[[int], None]] = {"add": sieve.add, "discard": sieve.discard}
    for action, item in steps:
        if action == "evict":
            victim = sieve.victim()
            assert victim == plain.evict()
            if victim is not None:
                sieve.discard(victim)
        elif action == "visit":
            if item in sieve:
                visited.add(item)
                plain.visited.add(item)
        else:
            does[action](item)
            getattr(plain, action)(item)
            if action == "discard":
                visited.discard(item)
        assert list(sieve) == plain.queue[::-1]
        assert len(sieve) == len(plain.queue)
