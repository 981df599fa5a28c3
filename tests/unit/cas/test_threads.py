"""One store, many threads: fetches that write and commit while upkeep settles, scrubs and evicts."""

from __future__ import annotations

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edge_server.cas.upkeep import Upkeep
from edge_server.errors import NoRoom
from edge_server.shm.fill_index import key_id
from edge_server.shm.segment import segment_name
from tests.stores import BLANK, KIB, Shelf, body_of


def test_threads_that_fill_at_once_leave_a_store_that_agrees_with_itself(shelf: Shelf) -> None:
    def fill(seed: int) -> int:
        chance, done = random.Random(seed), 0
        for _ in range(60):
            key = f"k{chance.randrange(40)}"
            body = body_of(chance.randrange(12), chance.choice([10, 4 * KIB, 12 * KIB, 40 * KIB]))
            try:
                writer = shelf.store.begin(chance.choice([len(body), None]))
                for start in range(0, len(body), 3000):
                    writer.write(body[start : start + 3000])
                record = shelf.store.commit(writer, key_id(key), BLANK, key)
            except NoRoom:
                continue
            assert record.size == len(body)
            done += 1
            if chance.random() < 0.1:
                shelf.store.purge("k1", is_prefix=True)
        return done

    upkeep = Upkeep(shelf.store, pause_s=0.001)
    upkeep.start()
    with ThreadPoolExecutor(8) as pool:
        done = sum(pool.map(fill, range(8)))
    upkeep.stop()
    assert done > 200
    for number in range(256):
        shelf.store.sweep(f"{number:02x}")
    shelf.check()
    for stored in list(shelf.index.items()):
        record = shelf.store.find(stored.key_id)
        assert record is not None
        shelf.body(record)
    assert shelf.store.contents.memory.claimed_bytes == 0
    assert shelf.store.contents.tier(1).claimed_bytes == 0
    assert not any(body.pins for body in shelf.store.contents.bodies.values())


AMNESIA = """
import sys
from edge_server.cas.store import Store
from edge_server.cas.upkeep import Upkeep
from edge_server.shm.fill_index import FillIndex, FillRecord, NO_DIGEST, key_id

index, folder = FillIndex.create(sys.argv[1], 50), sys.argv[2]
try:
    store = Store(index, folder, 1 << 20, None, 0, lambda event, fields: None)
    assert store.adopt()
    writer = store.begin(5)
    writer.write(b"hello")
    store.commit(writer, key_id("a"), FillRecord(NO_DIGEST, 0, 0, 0, 1, 1, 1, 1, 1, 200, b"{}"), "a")
    Upkeep(store).step()
    assert store.find(key_id("a")).size == 5
    assert store.is_reachable()
    store.close()
finally:
    index.segment.unlink()
assert "sqlite3" not in sys.modules
"""


def test_without_a_disk_nothing_but_the_memory_tier_is_written_and_no_database_loaded(
    memory: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", AMNESIA, segment_name("test-cas-amnesia"), str(memory)]
    subprocess.run(command, check=True, timeout=60, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert [path.read_bytes() for path in memory.glob("??/*")] == [b"hello"]
