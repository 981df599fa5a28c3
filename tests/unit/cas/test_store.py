"""The store: what is stored is read, bounds hold, and what cannot be stored is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from blake3 import blake3

from edge_server.cas.bodies import body_path
from edge_server.errors import BodyGone, NoRoom
from edge_server.shm.fill_index import DISK, MEMORY, META_MAX, NO_DIGEST, FillIndex, Flag, key_id
from edge_server.shm.segment import remove_own
from tests.stores import BLANK, DISK_BYTES, KIB, MEMORY_BYTES, RECORDS, Shelf, body_of

SMALL, BIG = 4 * KIB, 40 * KIB


def test_what_is_stored_is_read(shelf: Shelf) -> None:
    record = shelf.fill("a", b"hello", status=200)
    assert (record.size, record.tier, record.meta) == (5, MEMORY, BLANK.meta)
    assert shelf.index.find(key_id("a")) == record
    assert shelf.read("a") == b"hello"
    assert shelf.told("cas_write") == [{"status": "ok"}]
    shelf.check()


def test_an_empty_body_is_a_body(shelf: Shelf) -> None:
    assert shelf.fill("a", b"").digest != NO_DIGEST
    assert shelf.read("a") == b""


def test_the_same_bytes_stand_once_whatever_has_them(shelf: Shelf) -> None:
    for key in "abc":
        shelf.fill(key, body_of(1, SMALL))
    assert shelf.store.stats().memory_bytes == SMALL
    assert [each["status"] for each in shelf.told("cas_write")] == ["ok", "dedup", "dedup"]
    for key in "ab":
        assert shelf.store.forget(key_id(key))
        assert shelf.read("c") == body_of(1, SMALL)
    assert shelf.store.forget(key_id("c"))
    assert shelf.files() == {}


def test_another_body_for_a_key_takes_the_place_of_the_first(shelf: Shelf) -> None:
    shelf.fill("a", b"old")
    shelf.fill("a", b"new")
    assert shelf.read("a") == b"new"
    assert len(shelf.files()) == 1
    shelf.check()


def test_a_reader_keeps_its_bytes_whatever_is_evicted(shelf: Shelf) -> None:
    fd = shelf.bodies.open(shelf.fill("a", body_of(1, SMALL)))
    shelf.store.purge("a")
    shelf.fill("a", body_of(2, SMALL))
    with open(fd, "rb") as file:
        assert file.read() == body_of(1, SMALL)


@pytest.mark.parametrize(
    ("size", "hint", "tier"),
    [
        (MEMORY_BYTES // 4, True, MEMORY),
        (MEMORY_BYTES // 4 + 1, True, DISK),
        (MEMORY_BYTES // 4 + 1, False, DISK),
        (SMALL, False, MEMORY),
        (DISK_BYTES, True, DISK),
    ],
)
def test_a_body_over_a_quarter_of_the_memory_goes_to_the_disk(
    shelf: Shelf, size: int, hint: bool, tier: int
) -> None:
    body = body_of(1, size)
    writer = shelf.store.begin(size if hint else None)
    for start in range(0, size, 1000):
        writer.write(body[start : start + 1000])
    assert writer.size == size
    record = shelf.store.commit(writer, key_id("a"), BLANK, "a")
    assert (record.tier, record.size) == (tier, size)
    assert shelf.read("a") == body
    shelf.check()


def test_what_fits_no_tier_is_refused_and_leaves_nothing(shelf: Shelf) -> None:
    with pytest.raises(NoRoom):
        shelf.store.begin(DISK_BYTES + 1)
    writer = shelf.store.begin()
    for _ in range(DISK_BYTES // SMALL):
        writer.write(bytes(SMALL))
    with pytest.raises(NoRoom):
        writer.write(b"x")
    assert not writer.is_open
    assert shelf.files() == {}
    assert shelf.read("a") is None
    shelf.check()
    shelf.fill("b", body_of(1, DISK_BYTES))


def test_without_a_disk_what_is_too_big_for_memory_is_refused(index: FillIndex, memory: Path) -> None:
    shelf = Shelf(index, memory, None)
    with pytest.raises(NoRoom):
        shelf.fill("a", bytes(BIG))
    shelf.fill("b", bytes(SMALL))
    assert shelf.store.is_reachable()
    assert shelf.store.stats().disk == "none"
    shelf.close()


def test_what_must_not_touch_a_disk_does_not(shelf: Shelf) -> None:
    with pytest.raises(NoRoom):
        shelf.fill("a", bytes(MEMORY_BYTES + 1), is_memory_only=True)
    secret = b"secret" * (MEMORY_BYTES // 2 // 6)  # more than others may take of memory
    shelf.fill("b", secret, is_memory_only=True, flags=int(Flag.PASSED))
    shelf.settle()
    assert shelf.disk is not None
    assert shelf.read("b") == secret
    assert not any(b"secret" in path.read_bytes() for path in shelf.disk.rglob("*") if path.is_file())


def test_metadata_that_is_too_long_is_refused_and_leaves_no_body(shelf: Shelf) -> None:
    writer = shelf.store.begin(5)
    writer.write(b"hello")
    with pytest.raises(NoRoom):
        shelf.store.commit(writer, key_id("a"), BLANK._replace(meta=bytes(META_MAX + 1)), "a")
    assert shelf.files() == {}
    assert shelf.told("cas_write")[-1] == {"status": "error"}


def test_an_aborted_writer_leaves_nothing(shelf: Shelf) -> None:
    for size in (SMALL, BIG):
        writer = shelf.store.begin(size)
        writer.write(bytes(size))
        writer.abort()
        writer.abort()
    assert shelf.files() == {}
    shelf.fill("a", bytes(MEMORY_BYTES // 4))
    shelf.check()


def test_bodies_stay_within_both_bounds(shelf: Shelf) -> None:
    for number in range(60):
        shelf.fill(f"small/{number}", body_of(number, SMALL))
        shelf.fill(f"big/{number}", body_of(1000 + number, BIG))
        if number % 3 == 0:
            shelf.settle()
        shelf.check()
    stats = shelf.store.stats()
    assert stats.evictions_memory > 40
    assert stats.evictions_disk > 40
    assert len(shelf.told("cas_eviction")) == stats.evictions_memory + stats.evictions_disk


def test_what_is_being_written_counts(shelf: Shelf) -> None:
    writers = [shelf.store.begin(16 * KIB) for _ in range(4)]
    late = shelf.store.begin(16 * KIB)
    assert [writer.number for writer in writers] == [MEMORY] * 4
    assert late.number == DISK
    for writer in (*writers, late):
        writer.abort()


def test_nothing_is_evicted_for_what_will_not_fit_all_the_same(shelf: Shelf) -> None:
    shelf.fill("a", body_of(1, SMALL))
    writers = [shelf.store.begin(15 * KIB) for _ in range(4)]
    late = shelf.store.begin(16 * KIB)
    assert late.number == DISK
    assert shelf.read("a") == body_of(1, SMALL)
    assert shelf.store.stats().evictions_memory == 0
    for writer in (*writers, late):
        writer.abort()


def test_what_nobody_asks_for_goes_first(shelf: Shelf) -> None:
    for number in range(16):
        shelf.fill(str(number), body_of(number, SMALL), is_memory_only=True, flags=int(Flag.PASSED))
    for number in range(0, 16, 2):
        shelf.index.visit(key_id(str(number)))
    for number in range(100, 108):
        shelf.fill(str(number), body_of(number, SMALL), is_memory_only=True, flags=int(Flag.PASSED))
    left = {number for number in range(16) if shelf.read(str(number)) is not None}
    assert left == set(range(0, 16, 2))


def test_a_body_that_is_on_the_disk_too_leaves_memory_for_it(shelf: Shelf) -> None:
    for number in range(16):
        shelf.fill(str(number), body_of(number, SMALL))
    shelf.settle()
    shelf.fill("one more", body_of(99, SMALL))
    records = [shelf.store.find(key_id(str(number))) for number in range(16)]
    assert [record.tier for record in records if record is not None].count(DISK) == 1
    assert all(shelf.read(str(number)) == body_of(number, SMALL) for number in range(16))
    assert shelf.store.stats().evictions_memory == 1
    shelf.check()


def test_a_full_index_makes_place_for_what_is_new(shelf: Shelf) -> None:
    for number in range(2 * RECORDS):
        shelf.fill(str(number), body_of(number, 10))
        assert shelf.read(str(number)) == body_of(number, 10)
    assert shelf.store.stats().records == RECORDS
    shelf.check()


def test_a_full_index_costs_one_body_for_each_new_key(shelf: Shelf) -> None:
    for number in range(RECORDS):
        shelf.fill(str(number), body_of(number, 10))
    shelf.settle()
    for number in range(5):
        shelf.fill(f"new/{number}", body_of(1000 + number, 10))
    stats = shelf.store.stats()
    assert (stats.records, stats.bodies, stats.memory_bytes) == (RECORDS, RECORDS, 10 * RECORDS)
    shelf.check()


def test_the_disk_keeps_what_memory_has_and_leaves_it_its_visits(shelf: Shelf) -> None:
    shelf.fill("hot", body_of(1, SMALL))
    shelf.settle()
    shelf.index.visit(key_id("hot"))
    for number in range(20):
        shelf.fill(f"big/{number}", body_of(1000 + number, BIG))
    assert shelf.store.stats().evictions_disk > 10
    assert os.path.exists(body_path(str(shelf.disk), blake3(body_of(1, SMALL)).digest()))
    assert shelf.index.take_visited(key_id("hot"))


def test_many_that_are_not_there_leave_place_for_those_that_are(shelf: Shelf) -> None:
    for number in range(20):
        shelf.fill(str(number), body_of(number, 10))
    for number in range(3 * RECORDS):
        shelf.store.remember(key_id(f"no/{number}"), BLANK._replace(status=404), f"no/{number}")
    assert all(shelf.read(str(number)) is not None for number in range(20))
    last = shelf.store.find(key_id(f"no/{3 * RECORDS - 1}"))
    assert last is not None
    assert (last.status, last.digest) == (404, NO_DIGEST)


def test_a_refreshed_response_has_new_times_and_the_same_body(shelf: Shelf) -> None:
    before = shelf.fill("a", b"hello")
    after = shelf.store.refresh(key_id("a"), {"fresh_ms": 9, "meta": b"{}"})
    assert after == before._replace(fresh_ms=9, meta=b"{}")
    assert shelf.index.find(key_id("a")) == after
    assert shelf.read("a") == b"hello"
    assert shelf.store.refresh(key_id("b"), {"fresh_ms": 9}) is None


def test_a_purge_takes_all_variants_of_a_key_and_nothing_else(shelf: Shelf) -> None:
    shelf.store.remember(key_id("a"), BLANK._replace(flags=int(Flag.VARIES)), "a")
    for number, variant in enumerate(("gzip", "br")):
        writer = shelf.store.begin(4)
        writer.write(b"%4d" % number)
        shelf.store.commit(writer, key_id("a", variant), BLANK, "a")
    shelf.fill("ab", b"other")
    assert shelf.store.purge("a") == 3
    assert shelf.store.find(key_id("a", "br")) is None
    assert shelf.read("ab") == b"other"


def test_a_purge_by_prefix_takes_what_begins_so(shelf: Shelf) -> None:
    for key in ("fonts/a", "fonts/b", "font", "fonts2/c"):
        shelf.fill(key, key.encode())
    assert shelf.store.purge("fonts/", is_prefix=True) == 2
    assert [key for key in ("fonts/a", "fonts/b", "font", "fonts2/c") if shelf.read(key)] == [
        "font",
        "fonts2/c",
    ]
    assert len(shelf.files()) == 2


def test_a_key_too_long_for_the_index_is_purged_all_the_same(shelf: Shelf) -> None:
    key = "fonts/" + "k" * 5000
    shelf.fill(key, b"x")
    shelf.settle()
    assert shelf.store.purge("other/" + "k" * 5000) == 0
    assert shelf.store.purge(key) == 1


def write_to(path: str, mode: str) -> None:
    os.chmod(path, 0o600)
    with open(path, mode) as file:
        file.write(b"x")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (os.unlink, "opened"),
        (lambda path: write_to(path, "ab"), "as it was stored"),
        (lambda path: write_to(path, "r+b"), "as it was stored"),
        (lambda path: (os.unlink(path), os.mkfifo(path)), "no regular file"),
        (lambda path: (os.unlink(path), os.mkdir(path)), "no regular file"),
        (lambda path: (os.unlink(path), os.symlink("/etc/passwd", path)), "opened"),
    ],
    ids=["gone", "longer", "written to", "fifo", "folder", "link"],
)
def test_what_is_not_the_body_is_never_opened_and_is_filled_again(shelf: Shelf, spoil, why: str) -> None:  # type: ignore[no-untyped-def]
    record = shelf.fill("a", b"hello")
    spoil(body_path(shelf.memory, record.digest))
    with pytest.raises(BodyGone, match=why):
        shelf.bodies.open(record)
    assert shelf.read("a") is None
    assert shelf.index.find(key_id("a")) is None
    path = Path(body_path(shelf.memory, record.digest))
    if path.is_dir():
        path.rmdir()
    shelf.fill("a", b"hello")
    assert shelf.read("a") == b"hello"


def test_a_body_that_was_only_touched_is_sealed_again(shelf: Shelf) -> None:
    record = shelf.fill("a", b"hello")
    os.utime(body_path(shelf.memory, record.digest))
    with pytest.raises(BodyGone):
        shelf.bodies.open(record)
    assert shelf.read("a") == b"hello"


def test_the_memory_tier_is_among_what_an_instance_removes(tmp_path: Path) -> None:
    from edge_server.shm.segment import segment_name

    folder = tmp_path / segment_name("cas")
    (folder / "ab").mkdir(parents=True, mode=0o700)
    (folder / "ab" / "body").touch(0o400)
    assert remove_own(tmp_path) == [folder.name]
    assert not folder.exists()
