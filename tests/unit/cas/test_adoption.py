"""Adoption: what a store takes over from a sidecar that died, and from an instance before."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from blake3 import blake3

from edge_server.cas.bodies import body_path
from edge_server.cas.upkeep import Upkeep
from edge_server.errors import BodyGone, NoRoom
from edge_server.shm.fill_index import DISK, MEMORY, FillIndex, FillRecord, Flag, key_id
from tests.servers import eventually
from tests.stores import BLANK, KIB, Shelf, body_of, damage

SMALL, BIG = 4 * KIB, 40 * KIB


def test_a_successor_has_everything_its_predecessor_had(shelf: Shelf) -> None:
    for number in range(8):
        shelf.fill(f"s{number}", body_of(number, SMALL))
    shelf.fill("big", body_of(100, BIG))
    shelf.store.remember(key_id("no"), BLANK._replace(status=404), "no")
    before = {stored.key: stored.record for stored in shelf.index.items()}
    shelf.close()
    shelf.successor()
    assert {stored.key: stored.record for stored in shelf.index.items()} == before
    assert all(shelf.read(f"s{number}") == body_of(number, SMALL) for number in range(8))
    assert shelf.store.stats().unverified == 0
    shelf.check()
    assert shelf.store.purge("s", is_prefix=True) == 8
    shelf.check()


def test_a_successor_waits_until_its_predecessor_has_ended(shelf: Shelf) -> None:
    shelf.close()
    ready_end, ready = os.pipe()

    def hold() -> None:
        shelf.successor()
        os.write(ready, b"x")
        signal.pause()

    pid = started(hold)
    os.close(ready)
    assert os.read(ready_end, 1) == b"x"
    os.close(ready_end)
    assert not shelf.store.adopt()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert shelf.store.adopt()


def test_what_a_killed_sidecar_left_half_done_is_gone(shelf: Shelf) -> None:
    kept = shelf.fill("kept", b"kept")
    lost = shelf.fill("lost", b"lost")
    passed = shelf.fill("passed", b"passed", flags=int(Flag.PASSED))
    shelf.close()
    os.unlink(body_path(shelf.memory, lost.digest))
    nobody = blake3(b"nobody's").digest()
    Path(body_path(shelf.memory, nobody)).write_bytes(b"nobody's")
    for folder in (shelf.memory, shelf.disk):
        assert folder is not None
        (folder / "tmp" / "99-1").write_bytes(b"half")
    shelf.successor()
    assert shelf.index.find(key_id("lost")) is None
    assert shelf.index.find(key_id("passed")) is None
    assert passed.digest != kept.digest
    assert [path.name for path in shelf.files()] == [kept.digest.hex()]
    assert shelf.read("kept") == b"kept"
    shelf.check()


def test_an_instance_that_starts_again_is_warm(shelf: Shelf, restart: Callable[[], Shelf]) -> None:
    for number in range(8):
        shelf.fill(f"s{number}", body_of(number, SMALL), fresh_ms=number)
    shelf.fill("big", body_of(100, BIG))
    shelf.store.remember(key_id("many"), BLANK._replace(flags=int(Flag.VARIES)), "many")
    shelf.settle()
    again = restart()
    for number in range(8):
        record = again.index.find(key_id(f"s{number}"))
        assert record is not None
        assert (record.tier, record.fresh_ms) == (DISK, number)
        assert record.flags & Flag.UNVERIFIED
        with pytest.raises(BodyGone, match="verified"):
            again.bodies.open(record)
        assert again.read(f"s{number}") == body_of(number, SMALL)
        checked = again.index.find(key_id(f"s{number}"))
        assert checked is not None
        assert not checked.flags & Flag.UNVERIFIED
    assert again.read("big") == body_of(100, BIG)
    many = again.store.find(key_id("many"))
    assert many is not None
    assert many.flags & Flag.VARIES
    again.check()


def test_what_was_purged_or_refreshed_is_so_after_a_restart(
    shelf: Shelf, restart: Callable[[], Shelf]
) -> None:
    for key in ("a", "b", "c"):
        shelf.fill(key, key.encode())
    shelf.fill("same as a", b"a")
    shelf.settle()
    shelf.store.purge("a")
    shelf.store.refresh(key_id("b"), {"fresh_ms": 5})
    shelf.fill("c", b"another")
    shelf.settle()
    again = restart()
    assert again.read("a") is None
    assert again.read("same as a") == b"a"
    record = again.store.find(key_id("b"))
    assert record is not None
    assert record.fresh_ms == 5
    assert again.read("c") == b"another"
    again.check()


def test_what_may_not_be_stored_is_not_there_after_a_restart(
    shelf: Shelf, restart: Callable[[], Shelf]
) -> None:
    shelf.fill("a", b"secret", is_memory_only=True, flags=int(Flag.PASSED))
    shelf.settle()
    assert restart().read("a") is None


def test_a_flipped_bit_is_never_read_and_can_be_filled_again(
    shelf: Shelf, restart: Callable[[], Shelf]
) -> None:
    record = shelf.fill("big", body_of(1, BIG))
    assert shelf.disk is not None
    again = restart()
    damage(Path(body_path(shelf.disk, record.digest)), at=777)
    assert again.read("big") is None
    assert again.told("cas_damaged") == [{"level": "error", "hash": record.digest.hex()}]
    assert not os.path.exists(body_path(shelf.disk, record.digest))
    again.fill("big", body_of(1, BIG))
    assert again.read("big") == body_of(1, BIG)
    again.check()


def test_a_fill_of_what_is_damaged_on_the_disk_takes_its_place(
    shelf: Shelf, restart: Callable[[], Shelf]
) -> None:
    record = shelf.fill("a", body_of(1, BIG))
    assert shelf.disk is not None
    again = restart()
    damage(Path(body_path(shelf.disk, record.digest)))
    again.fill("b", body_of(1, BIG))
    assert again.read("b") == again.read("a") == body_of(1, BIG)
    again.check()


def test_the_scrub_finds_what_is_damaged_before_anybody_asks(
    shelf: Shelf, restart: Callable[[], Shelf]
) -> None:
    for number in range(6):
        shelf.fill(str(number), body_of(number, SMALL))
    shelf.settle()
    again = restart()
    record = again.index.find(key_id("3"))
    assert record is not None
    assert shelf.disk is not None
    damage(Path(body_path(shelf.disk, record.digest)))
    assert again.store.scrub(2 * SMALL) == 2 * SMALL
    assert again.store.stats().unverified == 4
    while again.store.scrub(1):
        pass
    assert again.store.stats().unverified == 0
    assert again.index.find(key_id("3")) is None
    assert len(again.told("cas_damaged")) == 1
    assert again.read("2") == body_of(2, SMALL)


def test_a_body_that_lost_its_seal_is_verified_and_used(shelf: Shelf, restart: Callable[[], Shelf]) -> None:
    record = shelf.fill("a", body_of(1, BIG))
    assert shelf.disk is not None
    os.utime(body_path(shelf.disk, record.digest))
    again = restart()
    assert again.read("a") == body_of(1, BIG)


def test_what_nobody_knows_is_swept_from_the_disk(shelf: Shelf) -> None:
    record = shelf.fill("a", body_of(1, BIG))
    nobody = blake3(b"x").digest()
    assert shelf.disk is not None
    path = Path(body_path(shelf.disk, nobody))
    path.write_bytes(b"x")
    assert sum(shelf.store.sweep(f"{number:02x}") for number in range(256)) == 1
    assert not path.exists()
    assert shelf.body(record) == body_of(1, BIG)


@pytest.mark.parametrize("spoil", ["garbage", "torn page", "other version"])
def test_a_database_that_is_none_is_begun_anew(
    shelf: Shelf, restart: Callable[[], Shelf], spoil: str
) -> None:
    for number in range(60):
        shelf.fill(str(number), body_of(number, 100))
    shelf.settle()
    shelf.close()
    assert shelf.disk is not None
    path = shelf.disk / "records.sqlite"
    if spoil == "garbage":
        path.write_bytes(b"no database at all" * 100)
    elif spoil == "torn page":
        whole = bytearray(path.read_bytes())
        whole[4096:] = bytes(len(whole) - 4096)
        path.write_bytes(whole)
    else:
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    again = restart()
    assert again.store.is_reachable()
    assert again.store.stats().records == 0
    again.fill("a", body_of(1, BIG))
    assert again.read("a") == body_of(1, BIG)
    for number in range(256):
        again.store.sweep(f"{number:02x}")
    again.check()


def test_a_smaller_bound_after_a_restart_is_kept(shelf: Shelf, index: FillIndex) -> None:
    for number in range(6):
        shelf.fill(str(number), body_of(number, BIG))
    shelf.close()
    smaller = Shelf(index, shelf.memory, shelf.disk, disk_bytes=2 * BIG)
    assert smaller.store.stats().disk_bytes == 2 * BIG
    smaller.check()
    smaller.close()


def fill_forever(shelf: Shelf, seed: int) -> None:
    """Fill, refresh, purge, settle, verify at random, as a sidecar does."""
    chance = random.Random(seed)
    shelf.successor()
    threading.Thread(target=lambda: [shelf.store.settle() or time.sleep(0.001) for _ in iter(int, 1)]).start()
    while True:
        number = chance.randrange(60)
        key = f"k{number}"
        action = chance.random()
        if action < 0.7:
            size = chance.choice([100, SMALL, BIG])
            try:
                shelf.fill(key, body_of(chance.randrange(30), size))
            except NoRoom:
                pass
        elif action < 0.8:
            shelf.store.refresh(key_id(key), {"fresh_ms": number})
        elif action < 0.9:
            shelf.store.purge(key)
        else:
            shelf.store.find(key_id(key))


def read_forever(index: FillIndex, shelf: Shelf, done: int) -> None:
    """Read at random, as a worker does; write a byte for each body read, and end with 1 at a wrong one."""
    chance = random.Random(done)
    while True:
        record = index.find(key_id(f"k{chance.randrange(60)}"))
        if record is None:
            continue
        index.visit(key_id("k1"))
        try:
            fd = shelf.bodies.open(record)
        except BodyGone:
            continue
        with open(fd, "rb") as file:
            body = file.read()
        if blake3(body).digest() != record.digest or len(body) != record.size:
            os._exit(1)
        with suppress(BlockingIOError):
            os.write(done, b".")


def started(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(2)
    return pid


def test_whatever_is_read_hashes_to_its_digest_while_writers_storm_and_are_killed(
    index: FillIndex, shelf: Shelf
) -> None:
    shelf.close()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    chance = random.Random(3)
    readers = [started(lambda: read_forever(index, shelf, write_end)) for _ in range(2)]
    try:
        for seed in range(12):
            writer = started(lambda seed=seed: fill_forever(shelf, seed))  # type: ignore[misc]
            time.sleep(chance.uniform(0.15, 0.4))
            assert os.waitpid(writer, os.WNOHANG) == (0, 0)
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)
        assert [os.waitpid(pid, os.WNOHANG) for pid in readers] == [(0, 0)] * 2
    finally:
        for pid in readers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    os.close(write_end)
    os.set_blocking(read_end, False)
    assert len(os.read(read_end, 1 << 16)) > 100
    os.close(read_end)
    shelf.successor()
    for number in range(256):
        shelf.store.sweep(f"{number:02x}")
    shelf.settle()
    shelf.check()
    for stored in list(index.items()):
        assert shelf.store.find(stored.key_id) == index.find(stored.key_id)
        record = index.find(stored.key_id)
        if record is not None and record.size:
            shelf.body(record)
    assert shelf.told("cas_damaged") == []


def test_upkeep_settles_scrubs_and_ends(shelf: Shelf, restart: Callable[[], Shelf]) -> None:
    shelf.fill("a", body_of(1, SMALL))
    upkeep = Upkeep(shelf.store, pause_s=0.01)
    upkeep.start()
    eventually(lambda: shelf.store.stats().disk_bytes == SMALL)
    upkeep.stop()
    again = restart()
    assert again.store.stats().unverified == 1
    upkeep = Upkeep(again.store, pause_s=0.01)
    upkeep.start()
    eventually(lambda: again.store.stats().unverified == 0)
    upkeep.stop()


def test_a_record_of_the_index_survives_its_move_between_tiers(shelf: Shelf) -> None:
    before: FillRecord = shelf.fill("a", body_of(1, SMALL), age_s=9)
    shelf.settle()
    assert before.tier == MEMORY
    for number in range(2, 40):
        shelf.fill(str(number), body_of(number, SMALL), flags=int(Flag.PASSED), is_memory_only=True)
    after = shelf.store.find(key_id("a"))
    assert after == before._replace(tier=DISK)
