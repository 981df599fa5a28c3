"""A store on small tiers: an index, a folder on tmpfs, a folder on the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_server.shm.fill_index import FillIndex
from edge_server.shm.segment import SHM_DIR, segment_name
from tests.stores import RECORDS, Shelf


@pytest.fixture
def index() -> Iterator[FillIndex]:
    made = FillIndex.create(segment_name("test-cas-index"), RECORDS)
    yield made
    made.segment.unlink()
    made.close()


@pytest.fixture
def memory() -> Iterator[Path]:
    folder = SHM_DIR / segment_name("test-cas")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def shelf(index: FillIndex, memory: Path, tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(index, memory, tmp_path / "disk")
    yield made
    made.close()
    assert not [name for name in os.listdir("/proc/self/fd") if "test-cas/" in _target(name)]


@pytest.fixture
def restart(shelf: Shelf) -> Iterator[Callable[[], Shelf]]:
    """End the instance of a shelf, whose index and memory go with it, and begin another."""
    made: list[Shelf] = []

    def begin() -> Shelf:
        shelf.close()
        shutil.rmtree(shelf.memory, ignore_errors=True)
        fresh = FillIndex.create(segment_name(f"test-cas-again-{len(made)}"), 200)
        made.append(Shelf(fresh, shelf.memory, shelf.disk))
        return made[-1]

    yield begin
    for each in made:
        each.close()
        each.index.segment.unlink()
        each.index.close()


def _target(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""
