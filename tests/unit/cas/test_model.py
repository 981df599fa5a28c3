"""The store against a dict: whatever happens, an answer is the last one stored for its key, or none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_server.cas.bodies import body_path
from edge_server.errors import NoRoom
from edge_server.shm.fill_index import NO_DIGEST, FillIndex, Flag, key_id
from edge_server.shm.segment import SHM_DIR, segment_name
from tests.stores import BLANK, DISK_BYTES, KIB, MEMORY_BYTES, Shelf, body_of, damage

RECORDS = 7
KEYS = st.sampled_from([f"{letter}/{number}" for letter in "ab" for number in range(5)])
SIZES = st.sampled_from([0, 1, 4 * KIB, 16 * KIB + 1, 60 * KIB, 200 * KIB])


class StoreMachine(RuleBasedStateMachine):
    """`stored` is what was last stored for each key; the store may have lost it, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = SHM_DIR / segment_name("test-cas-model")
        self.disk = Path(mkdtemp())
        self.shelf = Shelf(self.new_index(), self.memory, self.disk)
        self.stored: dict[str, tuple[int, bytes]] = {}

    def new_index(self) -> FillIndex:
        self.index = FillIndex.create(segment_name("test-cas-model-index"), RECORDS)
        return self.index

    @rule(key=KEYS, number=st.integers(0, 2), size=SIZES, fresh_ms=st.integers(0, 99))
    def fill(self, key: str, number: int, size: int, fresh_ms: int) -> None:
        body = body_of(number, size)
        try:
            self.shelf.fill(key, body, fresh_ms=fresh_ms)
        except NoRoom:
            return
        self.stored[key] = (fresh_ms, body)
        assert self.shelf.read(key) == body

    @rule(key=KEYS, fresh_ms=st.integers(0, 99))
    def fill_what_may_not_be_stored(self, key: str, fresh_ms: int) -> None:
        self.shelf.fill(key, b"passed", is_memory_only=True, fresh_ms=fresh_ms, flags=int(Flag.PASSED))
        self.stored[key] = (fresh_ms, b"passed")

    @rule(key=KEYS)
    def remember(self, key: str) -> None:
        self.shelf.store.remember(key_id(key), BLANK._replace(fresh_ms=7), key)
        self.stored[key] = (7, b"")

    @rule(key=KEYS, fresh_ms=st.integers(0, 99))
    def refresh(self, key: str, fresh_ms: int) -> None:
        if self.shelf.store.refresh(key_id(key), {"fresh_ms": fresh_ms}) is not None:
            self.stored[key] = (fresh_ms, self.stored[key][1])

    @rule(key=KEYS)
    def purge(self, key: str) -> None:
        self.shelf.store.purge(key)
        self.stored.pop(key, None)

    @rule(letter=st.sampled_from("ab"))
    def purge_prefix(self, letter: str) -> None:
        self.shelf.store.purge(f"{letter}/", is_prefix=True)
        self.stored = {key: value for key, value in self.stored.items() if not key.startswith(letter)}

    @rule(key=KEYS)
    def visit(self, key: str) -> None:
        self.index.visit(key_id(key))

    @rule(size=SIZES)
    def abort(self, size: int) -> None:
        writer = self.shelf.store.begin(size)
        writer.write(body_of(77, size // 2))
        writer.abort()

    @rule(count=st.integers(1, 9))
    def settle(self, count: int) -> None:
        for _ in range(count):
            self.shelf.store.settle()

    @rule()
    def scrub_and_sweep(self) -> None:
        self.shelf.store.scrub(1 << 20)
        for number in range(256):
            self.shelf.store.sweep(f"{number:02x}")

    @rule(key=KEYS)
    def lose_a_file(self, key: str) -> None:
        record = self.index.find(key_id(key))
        if record is not None and record.digest != NO_DIGEST:
            folder = self.disk if record.tier else self.memory
            if os.path.exists(body_path(folder, record.digest)):
                os.unlink(body_path(folder, record.digest))

    @rule()
    def restart_the_sidecar(self) -> None:
        self.shelf.close()
        self.shelf.successor()

    @rule(flips=st.integers(0, 2))
    def restart_the_instance(self, flips: int) -> None:
        self.shelf.close()
        shutil.rmtree(self.memory)
        for path in sorted(self.disk.glob("??/*"))[:flips]:
            if path.stat().st_size:
                damage(path)
        self.index.segment.unlink()
        self.index.close()
        self.shelf = Shelf(self.new_index(), self.memory, self.disk)

    @invariant()
    def an_answer_is_what_was_stored_last_or_none(self) -> None:
        for stored in list(self.index.items()):
            record = self.shelf.store.find(stored.key_id)
            if record is None:
                continue
            fresh_ms, body = self.stored[stored.key]
            assert record.fresh_ms == fresh_ms
            assert (self.shelf.body(record) if record.digest != NO_DIGEST else b"") == body

    @invariant()
    def bounds_hold(self) -> None:
        stats = self.shelf.store.stats()
        assert stats.memory_bytes <= MEMORY_BYTES
        assert stats.disk_bytes <= DISK_BYTES
        assert stats.records <= RECORDS
        assert stats.disk == "usable"

    def teardown(self) -> None:
        self.shelf.close()
        self.index.segment.unlink()
        self.index.close()
        shutil.rmtree(self.memory)
        shutil.rmtree(self.disk)


TestTheStoreAgreesWithADict = StoreMachine.TestCase
TestTheStoreAgreesWithADict.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
