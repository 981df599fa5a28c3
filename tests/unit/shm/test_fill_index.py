"""The fill index: what is put is found, what is torn is not, and a killed writer breaks nothing."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from edge_server.errors import NoRoom
from edge_server.shm.fill_index import (
    META_MAX,
    NO_DIGEST,
    FillIndex,
    FillRecord,
    Flag,
    Word,
    key_id,
    records_for,
)
from edge_server.shm.segment import Segment, segment_name

ROOM = 50


def record(number: int = 1, meta: bytes = b"{}") -> FillRecord:
    return FillRecord(
        digest=number.to_bytes(32, "big"),
        size=number,
        tier=number % 2,
        flags=int(Flag.NO_CACHE),
        stored_ms=1_700_000_000_000 + number,
        age_s=number,
        fresh_ms=2 * number,
        swr_ms=3 * number,
        sie_ms=4 * number,
        status=200,
        meta=meta,
    )


@pytest.fixture
def index() -> Iterator[FillIndex]:
    made = FillIndex.create(segment_name("test-fill"), ROOM)
    made.adopt()
    yield made
    made.segment.unlink()
    made.close()


def test_a_new_index_names_itself_and_has_nothing(index: FillIndex) -> None:
    assert bytes(index.segment.buf[:8]) == b"edgefill"
    assert index.find(key_id("a")) is None
    assert list(index.items()) == []
    assert index.room == ROOM


def test_what_is_put_is_found_until_it_is_removed(index: FillIndex) -> None:
    index.put(key_id("a"), record(1), "a", 7)
    assert index.find(key_id("a")) == record(1)
    stored = index.stored(key_id("a"))
    assert stored is not None
    assert (stored.key, stored.order, stored.is_cut) == ("a", 7, False)
    assert index.remove(key_id("a"))
    assert index.find(key_id("a")) is None
    assert not index.remove(key_id("a"))


def test_a_variant_is_another_key() -> None:
    assert len({key_id("a"), key_id("a", "b"), key_id("ab"), key_id("b", "a")}) == 4
    assert len(key_id("a")) == 16


def test_each_change_moves_the_word_that_readers_compare(index: FillIndex) -> None:
    seen = [index.changes]
    for change in (
        lambda: index.put(key_id("a"), record(1)),
        lambda: index.put(key_id("a"), record(2)),
        lambda: index.remove(key_id("a")),
    ):
        change()
        seen.append(index.changes_word[0])
    assert seen == sorted(set(seen))


def test_who_keeps_place_and_sequence_sees_a_change_of_that_record_only(index: FillIndex) -> None:
    index.put(key_id("a"), record(1))
    index.put(key_id("b"), record(2))
    kept = {name: index.locate(key_id(name)) for name in ("a", "b")}
    index.put(key_id("b"), record(3))

    def stands(name: str) -> bool:
        found = kept[name]
        assert found is not None
        return bool(index.sequences[found[0]] == found[1])

    assert (stands("a"), stands("b")) == (True, False)
    index.remove(key_id("a"))
    assert not stands("a")


def test_a_place_that_is_used_again_never_looks_unchanged(index: FillIndex) -> None:
    seen = set()
    for number in range(5 * ROOM):
        index.put(key_id("a"), record(number))
        found = index.locate(key_id("a"))
        assert found is not None
        assert found[:2] not in seen
        seen.add(found[:2])


def test_a_full_index_refuses_new_keys_and_still_changes_old_ones(index: FillIndex) -> None:
    for number in range(ROOM):
        index.put(key_id(str(number)), record(number))
    assert index.is_full
    with pytest.raises(NoRoom):
        index.put(key_id("one more"), record(1))
    index.put(key_id("0"), record(99))
    assert index.find(key_id("0")) == record(99)
    index.remove(key_id("1"))
    index.put(key_id("one more"), record(1))
    assert index.used == ROOM


def test_metadata_up_to_its_bound_is_kept_and_more_is_refused(index: FillIndex) -> None:
    longest = record(meta=b"m" * META_MAX)
    index.put(key_id("a"), longest, "k" * 5000)
    assert index.find(key_id("a")) == longest
    with pytest.raises(NoRoom):
        index.put(key_id("a"), record(meta=b"m" * (META_MAX + 1)))
    assert index.find(key_id("a")) == longest


@pytest.mark.parametrize(
    "key", ["fonts/a", "f\u00f6nts/\u4e16" * 900, "f" * 5000], ids=["short", "wide", "long"]
)
def test_a_key_that_does_not_fit_counts_as_all_it_may_be(index: FillIndex, key: str) -> None:
    index.put(key_id(key), record(), key)
    stored = index.stored(key_id(key))
    assert stored is not None
    assert key.startswith(stored.key)
    assert stored.is_of(key, False)
    assert stored.is_of(key[:2], True)
    assert not stored.is_of("other", True)
    assert not stored.is_of(key[:-1], False) or stored.is_cut
    assert stored.is_of(key + "more", True) == stored.is_cut


def test_a_visit_is_taken_once_and_outlives_a_change(index: FillIndex) -> None:
    index.put(key_id("a"), record(1))
    assert not index.take_visited(key_id("a"))
    index.visit(key_id("a"))
    index.put(key_id("a"), record(2))
    assert index.take_visited(key_id("a"))
    assert not index.take_visited(key_id("a"))


def test_a_new_key_does_not_inherit_the_visits_of_its_place(index: FillIndex) -> None:
    for number in range(3 * ROOM):
        index.put(key_id(str(number)), record(number))
        assert not index.take_visited(key_id(str(number)))
        index.visit(key_id(str(number)))
        index.remove(key_id(str(number)))


def test_a_flipped_bit_is_no_record(index: FillIndex) -> None:
    index.put(key_id("a"), record(1, b'{"etag":"x"}'), "a")
    found = index.locate(key_id("a"))
    assert found is not None
    at = bytes(index.segment.buf).index(b'{"etag":"x"}')
    index.segment.buf[at + 3] ^= 1
    assert index.find(key_id("a")) is None
    assert list(index.items()) == []


def test_it_agrees_with_a_dict(index: FillIndex) -> None:
    chance = random.Random(1)
    model: dict[str, FillRecord] = {}
    for step in range(3000):
        key = str(chance.randrange(2 * ROOM))
        if chance.random() < 0.4:
            assert index.remove(key_id(key)) == (model.pop(key, None) is not None)
        elif key in model or len(model) < ROOM:
            model[key] = record(step)
            index.put(key_id(key), model[key], key)
        if step % 500 == 0:
            index.adopt()
        assert index.find(key_id(key)) == model.get(key)
    assert {stored.key: stored.record for stored in index.items()} == model
    assert index.room == ROOM - len(model)


def storm(index: FillIndex, seed: int) -> None:
    """Put and remove without end; every record says in each of its fields which number it has."""
    chance = random.Random(seed)
    number = 0
    while True:
        key = str(chance.randrange(2 * ROOM))
        number += 1
        if chance.random() < 0.3 or index.is_full:
            index.remove(key_id(key))
        if not index.is_full:
            index.put(key_id(key), record(number, b"%d" % number * 20), key)


def is_whole(found: FillRecord) -> bool:
    number = int.from_bytes(found.digest, "big")
    return found == record(number, b"%d" % number * 20)


def in_child(work: object) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        work()  # type: ignore[operator]
    finally:
        os._exit(1)


def killed(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_readers_beside_a_storming_writer_see_whole_records_only(index: FillIndex) -> None:
    pid = in_child(lambda: storm(index, 1))
    try:
        seen = 0
        until_s = time.monotonic() + 2
        while time.monotonic() < until_s:
            for number in range(2 * ROOM):
                found = index.find(key_id(str(number)))
                if found is not None:
                    assert is_whole(found)
                    seen += 1
    finally:
        killed(pid)
    assert seen > 100
    assert index.changes > 100


def test_a_key_that_is_only_changed_is_never_missing(index: FillIndex) -> None:
    for number in range(ROOM):
        index.put(key_id(str(number)), record(1, b"1" * 20))

    def change() -> None:
        number = 1
        while True:
            number += 1
            index.put(key_id(str(number % ROOM)), record(number, b"%d" % number * 20))

    pid = in_child(change)
    try:
        until_s = time.monotonic() + 1.5
        while time.monotonic() < until_s:
            missing = [number for number in range(ROOM) if index.find(key_id(str(number))) is None]
            assert missing == []
    finally:
        killed(pid)


def test_a_writer_killed_anywhere_leaves_what_its_successor_can_adopt(index: FillIndex) -> None:
    chance = random.Random(7)
    for seed in range(25):
        pid = in_child(lambda seed=seed: storm(index, seed))  # type: ignore[misc]
        time.sleep(chance.uniform(0.01, 0.04))
        killed(pid)
        adopted = index.adopt()
        assert all(is_whole(stored.record) for stored in adopted)
        keys = [stored.key for stored in adopted]
        assert len(set(keys)) == len(keys)
        assert index.room == ROOM - len(keys)
        for stored in adopted:
            assert index.find(key_id(stored.key)) == stored.record
    assert index.changes > 1000


class Killed(BaseException):
    """A writer that ended between two instructions."""


class Words:
    """An array whose stores end the writer after so many."""

    def __init__(self, words: memoryview, stores: list[int]) -> None:
        self._words = words
        self._stores = stores

    def __getitem__(self, place: int) -> int:
        value: int = self._words[place]
        return value

    def __len__(self) -> int:
        return len(self._words)

    def __setitem__(self, place: int, value: int) -> None:
        if not self._stores[0]:
            raise Killed
        self._stores[0] -= 1
        self._words[place] = value


@pytest.mark.parametrize("stores", range(10))
@pytest.mark.parametrize("change", ["put new", "put again", "remove"])
def test_between_any_two_stores_a_writer_may_be_killed(change: str, stores: int) -> None:
    index = FillIndex.create(segment_name("test-fill"), 3)
    try:
        index.adopt()
        for number, key in enumerate("ab"):
            index.put(key_id(key), record(number), key)
        torn: object = index
        for name in ("changes_word", "sequences", "_heads", "_nexts", "visited"):
            setattr(torn, name, Words(getattr(index, name), left := locals().get("left", [stores])))
        before = {key: index.find(key_id(key)) for key in "abc"}
        try:
            if change == "remove":
                index.remove(key_id("a"))
            else:
                index.put(key_id("c" if change == "put new" else "a"), record(9), "?")
        except Killed:
            pass
        successor = FillIndex(index.segment)
        during = {key: successor.find(key_id(key)) for key in "abc"}
        adopted = {stored.key_id: stored.record for stored in successor.adopt()}
        after = {key: successor.find(key_id(key)) for key in "abc"}
        possible = {
            "put new": {"a": [before["a"]], "c": [None, record(9)]},
            "put again": {"a": [before["a"], record(9)], "c": [None]},
            "remove": {"a": [before["a"], None], "c": [None]},
        }[change]
        for key, answers in possible.items():
            assert during[key] in answers
            assert after[key] == adopted.get(key_id(key))
            assert after[key] in answers
        assert during["b"] == after["b"] == before["b"]
        assert successor.room == 3 - len(adopted)
        assert sum(sequence % 4 == 2 for sequence in successor.sequences) == len(adopted)
        assert all(sequence % 2 == 0 for sequence in successor.sequences)
        successor.put(key_id("a"), record(5), "a")
        assert successor.find(key_id("a")) == record(5)
    finally:
        index.segment.unlink()


def test_an_index_has_a_record_for_each_object_of_its_tiers_within_bounds() -> None:
    assert records_for(0, 0) == 1024
    assert records_for(256 << 20, 0) == 16384
    assert records_for(256 << 20, 1 << 40) == 65536


def test_a_record_without_a_body_says_so(index: FillIndex) -> None:
    index.put(key_id("a"), record()._replace(digest=NO_DIGEST, size=0, status=404))
    found = index.find(key_id("a"))
    assert found is not None
    assert (found.digest, found.status) == (NO_DIGEST, 404)


def test_words_of_the_header_are_read_where_they_are_written(index: FillIndex) -> None:
    index.set(Word.DISK_BYTES, 12)
    assert FillIndex(index.segment).get(Word.DISK_BYTES) == 12
    assert isinstance(index.segment, Segment)
