"""The reload record: numbers, results, and what a reader sees of a writer at work."""

from __future__ import annotations

import pytest

from edge_server.shm.reload_record import RECORD_BYTES, LastReload, ReloadRecord, Result, Word


@pytest.fixture
def memory() -> memoryview:
    return memoryview(bytearray(RECORD_BYTES))


@pytest.fixture
def record(memory: memoryview) -> ReloadRecord:
    made = ReloadRecord(memory)
    made.start(generation=1, now_unix_ns=10)
    return made


def test_a_start_is_no_reload_and_a_success(record: ReloadRecord) -> None:
    assert record.read() == LastReload(0, 0, Result.NONE, 1, 0, 10, "")


def test_reloads_are_numbered_as_they_begin(record: ReloadRecord) -> None:
    assert record.begin() == 1
    assert record.read().is_running
    record.end(Result.OK, 2, 20, "")
    assert not record.read().is_running
    assert record.begin() == 2
    assert record.read() == LastReload(2, 1, Result.OK, 2, 20, 20, "")


def test_a_failure_keeps_the_time_of_the_last_success(record: ReloadRecord) -> None:
    record.begin()
    record.end(Result.FAILED, 1, 30, "no such pack")
    assert record.read() == LastReload(1, 1, Result.FAILED, 1, 30, 10, "no such pack")


@pytest.mark.parametrize(
    "reason", ["x" * 5000, "\u00e4" * 5000, "\ud800"], ids=["long", "cut inside", "surrogate"]
)
def test_any_reason_is_told_as_far_as_there_is_room(record: ReloadRecord, reason: str) -> None:
    record.begin()
    record.end(Result.FAILED, 1, 30, reason)
    told = record.read().reason
    assert told == reason.encode(errors="replace").decode()[: len(told)]
    assert len(told) >= min(len(reason), 400)


def test_a_writer_that_was_killed_holds_up_no_reader(record: ReloadRecord, memory: memoryview) -> None:
    memory.cast("Q")[Word.SEQUENCE] += 1
    assert record.read().generation == 1
