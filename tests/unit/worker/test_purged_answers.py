"""A purge that lands at any moment while an answer is found, told and remembered: nothing is repeated then.

The moments inside of `LiveAnswer.pick` are those at which it reads shared memory; the index that it is given
here tells of each of these reads, and the purge is made then, by a real store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_server.config.schema import Config, Http
from edge_server.errors import Miss
from edge_server.shm.fill_index import FillIndex, key_id
from edge_server.shm.segment import segment_name
from edge_server.worker import live as live_module
from edge_server.worker.filled import Filled
from edge_server.worker.live import Live
from edge_server.worker.live_answers import LiveAnswer
from tests.stores import RECORDS, Shelf

KEY = "purged"
NOW_S = 1_700_000_000.25
PLAIN: dict[str, Any] = {"REQUEST_METHOD": "GET"}


class Told:
    """Calls what a test has set for a moment, once."""

    def __init__(self) -> None:
        self.at: dict[str, Callable[[], object]] = {}

    def __call__(self, moment: str) -> None:
        self.at.pop(moment, lambda: None)()


class TellingWords:
    """The sequences of the records; tells when one has been read."""

    def __init__(self, words: memoryview, told: Told) -> None:
        self._words = words
        self._told = told

    def __getitem__(self, place: int) -> int:
        self._told("before the record is looked at")
        value: int = self._words[place]
        self._told("when the record has been found to stand")
        return value


class TellingIndex:
    """The fill index as a worker reads it; tells when its changes are read."""

    def __init__(self, index: FillIndex, told: Told) -> None:
        self._index = index
        self._told = told
        self.sequences = TellingWords(index.sequences, told)
        self.visited = index.visited

    @property
    def changes(self) -> int:
        self._told("before its changes are read")
        return self._index.changes


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    index = FillIndex.create(segment_name("test-purged"), RECORDS)
    memory = tmp_path / "memory"
    memory.mkdir()
    made = Shelf(index, memory, None)
    yield made
    made.close()
    index.segment.unlink()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One element for each time that the guard was told to forget what it repeats."""
    calls: list[bool] = []
    monkeypatch.setattr(
        live_module, "time", lambda: NOW_S
    )  # one second, in which only a change can be the reason
    monkeypatch.setattr(live_module.guard, "forget", lambda: calls.append(True))
    return calls


@pytest.fixture
def live(shelf: Shelf, told: Told) -> Live:
    """A worker's live part, over an index that tells and a store with one object."""
    shelf.fill(KEY, b"what will be purged", fresh_ms=int(time.time() * 1000) + 3_600_000)
    filled = Filled(shelf.index, shelf.bodies, Http(), max_files=10, make_room=lambda: None)
    made = Live(shelf.index, filled, None, Config())  # type: ignore[arg-type]
    made.index = TellingIndex(shelf.index, told)  # type: ignore[assignment]
    return made


def purge(shelf: Shelf) -> None:
    assert shelf.store.purge(KEY) == 1
    assert shelf.index.locate(key_id(KEY)) is None


def test_without_a_purge_an_answer_may_be_repeated(live: Live, forgotten: list[bool]) -> None:
    LiveAnswer(live, KEY).pick(PLAIN)
    assert live.may_repeat()
    live.forget_repeats()
    assert forgotten == []


@pytest.mark.parametrize("moment", ["before its changes are read", "before the record is looked at"])
def test_what_was_purged_before_it_was_found_to_stand_is_no_answer(
    live: Live, shelf: Shelf, told: Told, moment: str
) -> None:
    answer = LiveAnswer(live, KEY)
    told.at[moment] = lambda: purge(shelf)
    with pytest.raises(Miss):
        answer.pick(PLAIN)


def test_what_was_purged_right_after_it_was_found_to_stand_is_told_once_and_not_repeated(
    live: Live, shelf: Shelf, told: Told, forgotten: list[bool]
) -> None:
    answer = LiveAnswer(live, KEY)
    told.at["when the record has been found to stand"] = lambda: purge(shelf)
    answer.pick(PLAIN)
    assert live.may_repeat()
    live.forget_repeats()
    assert forgotten == [True]


@pytest.mark.parametrize("is_remembered", [False, True], ids=["before it is remembered", "after it"])
def test_what_was_purged_after_it_was_picked_is_not_repeated(
    live: Live, shelf: Shelf, forgotten: list[bool], is_remembered: bool
) -> None:
    LiveAnswer(live, KEY).pick(PLAIN)
    if is_remembered:
        assert live.may_repeat()
    purge(shelf)
    assert live.may_repeat()
    live.forget_repeats()
    assert forgotten == [True]


def test_an_answer_remembered_before_a_purge_goes_although_another_one_was_remembered_after_it(
    live: Live, shelf: Shelf, forgotten: list[bool]
) -> None:
    shelf.fill("other", b"stays", fresh_ms=int(time.time() * 1000) + 3_600_000)
    LiveAnswer(live, KEY).pick(PLAIN)
    assert live.may_repeat()
    purge(shelf)
    LiveAnswer(live, "other").pick(PLAIN)
    assert live.may_repeat()
    live.forget_repeats()
    assert forgotten == [True]
    live.forget_repeats()
    assert forgotten == [True]
