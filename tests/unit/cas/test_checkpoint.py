"""Records reach the database file by the upkeep alone: nobody who stores waits for a disk to synchronise."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_server.cas import disk_records
from edge_server.cas.disk_records import DiskRecords
from edge_server.cas.upkeep import Upkeep
from edge_server.shm.fill_index import DiskState, Word
from tests.stores import KIB, Shelf, body_of


def kept(shelf: Shelf, tmp_path: Path) -> int:
    """Return how many records the database has without its log."""
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    assert shelf.disk is not None
    shutil.copy(shelf.disk / disk_records.NAME, copy)
    records = DiskRecords(str(copy))
    try:
        return len(records.load())
    finally:
        records.close()


def test_what_is_stored_is_synchronised_by_the_upkeep_once_there_is_enough(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_records, "CHECKPOINT_CHANGES", 5)
    upkeep = Upkeep(shelf.store)
    for number in range(4):
        shelf.fill(str(number), body_of(number, KIB))
    shelf.settle()
    upkeep.step()
    assert kept(shelf, tmp_path) == 0
    shelf.fill("4", body_of(4, KIB))
    shelf.settle()
    assert kept(shelf, tmp_path) == 0
    upkeep.step()
    assert kept(shelf, tmp_path) == 5
    shelf.fill("5", body_of(5, KIB))
    shelf.settle()
    upkeep.step()
    assert kept(shelf, tmp_path) == 5


def test_records_that_cannot_be_synchronised_make_the_disk_unusable(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_records, "CHECKPOINT_CHANGES", 1)
    shelf.fill("a", body_of(1, KIB))
    shelf.settle()
    assert shelf.disk is not None
    for path in shelf.disk.glob("records.sqlite*"):
        path.unlink()
    shelf.store.checkpoint()
    assert shelf.index.get(Word.DISK_STATE) == DiskState.UNUSABLE
    assert shelf.read("a") == body_of(1, KIB)
