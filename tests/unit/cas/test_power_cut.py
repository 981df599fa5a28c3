"""A power cut: what may be on a disk after it, in any order of what had reached it, is never served wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_server.cas.bodies import body_path, seal
from edge_server.shm.fill_index import key_id
from tests.stores import KIB, Shelf, body_of, damage

BODY = body_of(1, 40 * KIB)


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    """The name had reached the disk, and none of the bytes; the seal had."""
    _rewrite(path, b"")


def tear(path: Path) -> None:
    """Some blocks had reached the disk: the length is right, the end is zeros."""
    _rewrite(path, BODY[: 8 * KIB] + bytes(len(BODY) - 8 * KIB))


def shorten(path: Path) -> None:
    _rewrite(path, BODY[: 8 * KIB])


def zero(path: Path) -> None:
    """Length and seal had reached the disk, and no block."""
    _rewrite(path, bytes(len(BODY)))


def _rewrite(path: Path, data: bytes) -> None:
    digest = bytes.fromhex(path.name)
    path.unlink()
    path.write_bytes(data)
    with path.open("rb") as file:
        seal(file.fileno(), digest)


@pytest.mark.parametrize("cut", [remove, empty, shorten, tear, zero], ids=lambda cut: cut.__name__)
def test_a_record_whose_body_did_not_reach_the_disk_is_no_answer_and_is_filled_again(
    shelf: Shelf, restart: Callable[[], Shelf], cut: Callable[[Path], None]
) -> None:
    record = shelf.fill("a", BODY)
    assert shelf.disk is not None
    cut(Path(body_path(shelf.disk, record.digest)))
    again = restart()
    assert again.read("a") is None
    assert again.index.find(key_id("a")) is None
    again.fill("a", BODY)
    assert again.read("a") == BODY
    again.check()


def test_a_body_whose_record_did_not_reach_the_disk_is_nobodys_and_is_swept(
    shelf: Shelf, restart: Callable[[], Shelf]
) -> None:
    record = shelf.fill("a", BODY)
    assert shelf.disk is not None
    shelf.close()
    for name in ("records.sqlite", "records.sqlite-wal", "records.sqlite-shm"):
        (shelf.disk / name).unlink(missing_ok=True)
    again = restart()
    assert again.read("a") is None
    path = body_path(shelf.disk, record.digest)
    assert os.path.exists(path)
    assert again.store.sweep(record.digest.hex()[:2]) == 1
    assert not os.path.exists(path)
    again.fill("a", BODY)
    assert again.read("a") == BODY
    again.check()


def test_a_body_left_without_its_record_and_torn_is_not_taken_for_the_same_bytes(
    shelf: Shelf, restart: Callable[[], Shelf]
) -> None:
    record = shelf.fill("a", BODY)
    assert shelf.disk is not None
    shelf.close()
    (shelf.disk / "records.sqlite").unlink()
    damage(Path(body_path(shelf.disk, record.digest)), at=len(BODY) - 1)
    again = restart()
    again.fill("b", BODY)
    assert again.read("b") == BODY
    again.check()


def test_what_was_being_written_at_the_cut_is_removed(shelf: Shelf, restart: Callable[[], Shelf]) -> None:
    assert shelf.disk is not None
    left = shelf.disk / "tmp" / "4711-1"
    left.write_bytes(b"half a bo")
    again = restart()
    assert not left.exists()
    again.check()
