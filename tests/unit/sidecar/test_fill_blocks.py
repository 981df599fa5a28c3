"""Block fills alone: which fetches an Ask for ranges causes, and what becomes of each answer to them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from blake3 import blake3

from edge_server.cas.store import Store
from edge_server.config.schema import Config, Fill
from edge_server.errors import FillTimeout, IntegrityError, Rejection, TooLarge
from edge_server.fill.blocks import BLOCK_BYTES, PROBE, Block, variant_of_block
from edge_server.fill.engine import Fetched, Request
from edge_server.fill.loop import Loop
from edge_server.fill.messages import Ask, Done, Kind, Outcome
from edge_server.shm.fill_index import FillIndex, Flag, key_id
from edge_server.shm.segment import segment_name
from edge_server.sidecar.fill_blocks import BlockFills
from edge_server.sidecar.journal import Journal
from edge_server.sidecar.sinks import opener

TOTAL = 3 * BLOCK_BYTES - 5
ETAG = '"v1"'


class Wanted(NamedTuple):
    request: Request
    done: Callable[[Fetched | Rejection], None]


class Bench:
    """Block fills whose fetches are answered by the test.

    Attributes:
        wanted: the fetches that were begun and not answered.
        answers: what was told to the Ask.
        changes: how often it was told that the object had changed.
    """

    def __init__(self, store: Store, index: FillIndex) -> None:
        self.store = store
        self.index = index
        self.wanted: list[Wanted] = []
        self.answers: list[Done | Rejection] = []
        self.changes = 0
        self.refusal: Rejection | None = None
        config = Config(fill=Fill(max_object_bytes=2 * BLOCK_BYTES))
        self.fills = BlockFills(store, index, config, Journal())
        self._open = opener(store)

    def submit(
        self,
        request: Request,
        done: Callable[[Fetched | Rejection], None],
        *,
        is_missing: Callable[[], bool],
    ) -> bool:
        if self.refusal is not None:
            raise self.refusal
        if not is_missing():
            return False
        self.wanted.append(Wanted(request, done))
        return True

    def ask(self, ranges: str, **more: object) -> None:
        """Have the ranges of ``large`` fetched."""
        ask = Ask(7, Kind.FILL, "large", {}, "", False, time.monotonic() + 5, "corr", ranges)
        self.fills.fetch(ask._replace(**more), self.submit, self.answers.append, self._changed)  # type: ignore[arg-type]

    def answer(
        self, *, etag: str = ETAG, status: int = 206, control: str = "max-age=60", total: int = TOTAL
    ) -> Block:
        """Answer the fetch that was begun first; return the block that it was for."""
        request, done = self.wanted.pop(0)
        block = request.block
        assert block is not None
        body = body_of(block, total)
        sink = self._open(len(body), True)
        sink.write(body)
        fields = [
            ("ETag", etag),
            ("Cache-Control", control),
            ("Content-Range", f"bytes {block[0]}-{block[0] + len(body) - 1}/{total}"),
        ]
        now_ms = time.time_ns() // 1_000_000
        done(Fetched(status, fields, sink, sink.digest(), len(body), "origin.test", now_ms, now_ms, False, 1))
        return block

    def fail(self, failure: Rejection) -> None:
        """Fail the fetch that was begun first."""
        self.wanted.pop(0).done(failure)

    def _changed(self) -> None:
        self.changes += 1


def body_of(block: Block, total: int = TOTAL) -> bytes:
    size = min(block[1], total) - block[0]
    return blake3(b"%d" % block[0]).digest(length=size)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    index = FillIndex.create(segment_name("test-blocks"), 100)
    store = Store(index, tmp_path / "memory", 64 << 20, None, 0, lambda *_: None)
    assert store.adopt()
    made = Bench(store, index)
    yield made
    assert not os.listdir(tmp_path / "memory" / "tmp"), "a body that was neither stored nor thrown away"
    store.close()
    index.segment.unlink()
    index.close()


def test_an_unknown_object_is_probed_and_then_asked_for_the_blocks_of_that_version(bench: Bench) -> None:
    bench.ask(f"bytes={BLOCK_BYTES - 1}-{BLOCK_BYTES}")
    assert [each.request.block for each in bench.wanted] == [PROBE]
    assert bench.wanted[0].request.known is None
    bench.answer()
    assert [each.request.block for each in bench.wanted] == [(0, BLOCK_BYTES), (BLOCK_BYTES, 2 * BLOCK_BYTES)]
    assert {each.request.known.etag for each in bench.wanted if each.request.known} == {ETAG}
    bench.answer()
    assert bench.answers == []
    bench.answer()
    assert bench.answers == [Done(7, Outcome.STORED, key_id("large", "\0large"))]


def test_what_is_known_and_here_is_not_asked_for_again(bench: Bench) -> None:
    bench.ask("bytes=0-9")
    bench.answer()
    bench.answer()
    bench.ask(f"bytes=5-{BLOCK_BYTES + 5}")
    assert [each.request.block for each in bench.wanted] == [(BLOCK_BYTES, 2 * BLOCK_BYTES)]
    bench.answer()
    bench.ask("bytes=1-2")
    assert bench.wanted == []
    assert [type(answer) for answer in bench.answers] == [Done] * 3


def test_blocks_of_an_earlier_instance_are_hashed_by_a_thread_while_the_loop_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.ask("bytes=0-9")
    bench.answer()
    block = bench.answer()
    found_id = key_id("large", variant_of_block(ETAG, block))
    stored = bench.index.stored(found_id)
    assert stored is not None
    doubted = stored.record._replace(flags=Flag.UNVERIFIED)
    bench.index.put(found_id, doubted, stored.key, stored.order, stored.is_cut)
    gate, told, loop = threading.Event(), [], Loop()
    monkeypatch.setattr(bench.store, "find", lambda _: doubted if gate.wait(5) else None)
    until_s = time.monotonic() + 5
    loop.spawn(lambda: told.append(bench.fills.missing({block: found_id}, until_s)))
    loop.spawn(gate.set)
    loop.run(lambda: bool(told) or time.monotonic() > until_s, 0.01)
    loop.close()
    assert told == [[]]


def test_the_last_block_is_as_long_as_the_object(bench: Bench) -> None:
    bench.ask("bytes=-1")
    bench.answer()
    assert bench.answer() == (2 * BLOCK_BYTES, TOTAL)
    assert len(bench.answers) == 1


@pytest.mark.parametrize("ranges", [f"bytes={TOTAL}-", f"bytes=0-{TOTAL - 1}"], ids=["beyond", "too-much"])
def test_what_a_worker_refuses_costs_no_block(bench: Bench, ranges: str) -> None:
    bench.ask(ranges)
    bench.answer()
    assert bench.wanted == []
    assert [type(answer) for answer in bench.answers] == [Done]


@pytest.mark.parametrize("etag", ['W/"v1"', "v1", ""], ids=["weak", "no-tag", "empty"])
def test_an_object_without_a_strong_tag_is_not_put_together(bench: Bench, etag: str) -> None:
    bench.ask("bytes=0-9")
    bench.answer(etag=etag)
    assert isinstance(bench.answers[0], IntegrityError)
    assert bench.fills.head("large") is None


@pytest.mark.parametrize("control", ["no-store", "private"])
def test_an_object_that_may_not_be_stored_is_not_put_together(bench: Bench, control: str) -> None:
    bench.ask("bytes=0-9")
    bench.answer(control=control)
    assert isinstance(bench.answers[0], IntegrityError)
    assert bench.index.used == 0


def test_a_block_that_fails_is_told_once_all_have_ended_and_the_others_stay(bench: Bench) -> None:
    bench.ask(f"bytes=0-{BLOCK_BYTES}")
    bench.answer()
    bench.fail(FillTimeout("slow"))
    assert bench.answers == []
    bench.answer()
    assert [type(answer) for answer in bench.answers] == [FillTimeout]
    bench.ask(f"bytes=0-{BLOCK_BYTES}")
    assert [each.request.block for each in bench.wanted] == [(0, BLOCK_BYTES)]
    bench.answer()


def test_another_version_drops_what_is_known_and_all_blocks(bench: Bench) -> None:
    bench.ask("bytes=0-9")
    bench.answer()
    bench.answer()
    bench.ask(f"bytes={BLOCK_BYTES}-{BLOCK_BYTES}")
    bench.answer(status=200)
    assert (bench.changes, len(bench.answers)) == (1, 1)
    assert bench.fills.head("large") is None
    assert bench.index.used == 0


def test_an_object_that_is_too_large_at_once_is_a_refusal_and_no_change(bench: Bench) -> None:
    bench.ask("bytes=0-9")
    bench.fail(TooLarge("all of it"))
    assert isinstance(bench.answers[0], TooLarge)
    assert bench.changes == 0


def test_a_queue_that_is_full_is_told(bench: Bench) -> None:
    bench.refusal = FillTimeout("no")
    bench.ask("bytes=0-9")
    assert bench.answers == [bench.refusal]


def test_what_a_defect_leaves_is_an_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.ask("bytes=0-9")
    monkeypatch.setattr(bench.fills, "remember", lambda *_: 1 // 0)
    bench.answer()
    assert [answer.reason for answer in bench.answers] == ["fill_unavailable"]
