"""A disk that fails: memory goes on, the reason is told, and storing resumes when it works again."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from blake3 import blake3

from edge_server.cas import disk as disk_module
from edge_server.cas.bodies import body_path
from edge_server.errors import NoRoom
from edge_server.shm.fill_index import DISK, MEMORY, DiskState, FillIndex, Word, key_id
from tests.stores import BLANK, KIB, Shelf, body_of

SMALL, BIG = 4 * KIB, 40 * KIB
DISK_SIZE_BYTES = 32 << 20


@pytest.fixture(autouse=True)
def _retried_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_module, "RETRY_S", 0.0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of DISK_SIZE_BYTES."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE_BYTES}", "svc-edge-test", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system cannot be mounted here: {error}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def on_small_disk(index: FillIndex, memory: Path, small_disk: Path) -> Iterator[Shelf]:
    made = Shelf(index, memory, small_disk / "cas", disk_bytes=64 << 20)
    yield made
    made.close()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Have everything in a folder be read-only meanwhile, for those who open it by name."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def states(shelf: Shelf) -> list[object]:
    return [told["usable"] for told in shelf.told("cas_disk")]


def check_degraded(shelf: Shelf, why: str) -> None:
    """See that only memory works, and that everybody is told why."""
    assert not shelf.store.is_reachable()
    assert why in shelf.store.stats().disk
    assert shelf.index.get(Word.DISK_STATE) == DiskState.UNUSABLE
    assert shelf.told("cas_disk")[-1]["reason"] == shelf.store.stats().disk
    assert shelf.fill("in memory", body_of(5, SMALL)).tier == MEMORY
    assert shelf.read("in memory") == body_of(5, SMALL)
    with pytest.raises(NoRoom):
        shelf.fill("too big", body_of(6, BIG))


def check_resumed(shelf: Shelf) -> None:
    """See that both tiers work."""
    shelf.store.retry_disk()
    assert shelf.store.is_reachable()
    assert shelf.index.get(Word.DISK_STATE) == DiskState.USABLE
    assert shelf.fill("too big", body_of(6, BIG)).tier == DISK
    assert shelf.read("too big") == body_of(6, BIG)
    shelf.settle()
    assert shelf.store.stats().unsettled == 0


def test_a_full_disk_leaves_memory_and_is_used_again_when_it_has_room(
    on_small_disk: Shelf, small_disk: Path
) -> None:
    shelf = on_small_disk
    shelf.fill("before", body_of(1, BIG))
    ballast = small_disk / "ballast"
    free = shutil.disk_usage(small_disk).free
    ballast.write_bytes(bytes(free - 8 * KIB))
    with pytest.raises(NoRoom):
        shelf.fill("a", body_of(2, BIG))
    check_degraded(shelf, "No space left")
    assert shelf.read("before") == body_of(1, BIG)
    ballast.unlink()
    check_resumed(shelf)
    assert states(shelf) == [True, False, True]
    assert shelf.read("before") == body_of(1, BIG)


def test_what_fits_into_memory_is_stored_there_when_the_disk_fills_up_under_it(
    on_small_disk: Shelf, small_disk: Path
) -> None:
    shelf = on_small_disk
    writer = shelf.store.begin(BIG)
    writer.write(body_of(1, SMALL))
    assert writer.number == DISK
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    writer.write(body_of(1, 3 * SMALL)[SMALL:])
    assert writer.number == MEMORY
    record = shelf.store.commit(writer, key_id("a"), BLANK, "a")
    assert (record.tier, record.size) == (MEMORY, 3 * SMALL)
    assert shelf.read("a") == body_of(1, 3 * SMALL)
    assert not shelf.store.is_reachable()


def test_a_disk_that_turns_read_only_leaves_memory_and_what_it_has(
    on_small_disk: Shelf, small_disk: Path
) -> None:
    shelf = on_small_disk
    shelf.fill("before", body_of(1, BIG))
    with read_only(small_disk):
        with pytest.raises(NoRoom):
            shelf.fill("a", body_of(2, BIG))
        check_degraded(shelf, "Read-only")
        assert shelf.read("before") == body_of(1, BIG)
        shelf.store.retry_disk()
        assert not shelf.store.is_reachable()
    check_resumed(shelf)


def test_what_was_removed_while_the_disk_was_read_only_stays_away(
    on_small_disk: Shelf, small_disk: Path
) -> None:
    shelf = on_small_disk
    record = shelf.fill("a", body_of(1, BIG))
    with read_only(small_disk):
        shelf.store.purge("a")
        assert shelf.read("a") is None
    check_resumed(shelf)
    assert shelf.read("a") is None
    assert sum(shelf.store.sweep(f"{number:02x}") for number in range(256)) == 1
    assert not os.path.exists(body_path(str(shelf.disk), record.digest))


def test_what_came_while_the_disk_failed_settles_afterwards(on_small_disk: Shelf, small_disk: Path) -> None:
    shelf = on_small_disk
    with read_only(small_disk):
        shelf.fill("a", body_of(1, SMALL))
        shelf.settle()
        assert not shelf.store.is_reachable()
        assert shelf.read("a") == body_of(1, SMALL)
    check_resumed(shelf)
    assert os.path.exists(body_path(str(shelf.disk), blake3(body_of(1, SMALL)).digest()))


def test_a_bound_beyond_what_the_disk_has_is_brought_down_to_it(
    index: FillIndex, memory: Path, small_disk: Path
) -> None:
    shelf = Shelf(index, memory, small_disk / "cas", disk_bytes=1 << 40)
    for number in range(100):
        assert shelf.fill(str(number), body_of(number, 1 << 20)).tier == DISK
    assert shelf.store.stats().evictions_disk > 50
    assert states(shelf) == [True]
    shelf.close()
    shelf.successor()
    assert shelf.store.is_reachable()
    assert shelf.read("99") == body_of(99, 1 << 20)
    shelf.close()


def test_a_disk_that_others_have_filled_is_used_with_what_is_left(
    on_small_disk: Shelf, small_disk: Path
) -> None:
    shelf = on_small_disk
    for number in range(20):
        shelf.fill(str(number), body_of(number, 1 << 20))
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free - 16 * KIB))
    with pytest.raises(NoRoom):
        shelf.fill("a", body_of(99, BIG))
    check_resumed(shelf)
    for number in range(40):
        shelf.fill(f"more/{number}", body_of(100 + number, 1 << 20))
    assert shelf.store.is_reachable()
    assert shelf.store.stats().evictions_disk > 40
    assert shelf.store.stats().disk_bytes > 8 << 20


def test_a_disk_that_comes_back_empty_gets_again_what_is_in_memory(
    on_small_disk: Shelf, small_disk: Path
) -> None:
    shelf = on_small_disk
    shelf.fill("a", body_of(1, SMALL))
    shelf.settle()
    shelf.fill("big", body_of(2, BIG))
    with read_only(small_disk), pytest.raises(NoRoom):
        shelf.fill("b", body_of(3, BIG))
    shutil.rmtree(small_disk / "cas")
    check_resumed(shelf)
    assert shelf.read("a") == body_of(1, SMALL)
    assert shelf.read("big") is None
    assert shelf.store.stats().disk_bytes == SMALL + BIG


def fifo(path: Path) -> None:
    os.mkfifo(path)


def file(path: Path) -> None:
    path.write_bytes(b"in the way")


def folder(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "full").touch()


def clear(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


@pytest.mark.parametrize(
    ("where", "make"),
    [
        ("", fifo),
        ("", file),
        ("tmp", fifo),
        ("tmp", file),
        ("00", fifo),
        ("writer.lock", fifo),
        ("writer.lock", folder),
        ("records.sqlite", fifo),
        ("records.sqlite", folder),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_stands_in_the_wrong_place_leaves_memory(
    index: FillIndex, memory: Path, tmp_path: Path, where: str, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "disk" / where if where else tmp_path / "disk"
    path.parent.mkdir(exist_ok=True)
    make(path)
    shelf = Shelf(index, memory, tmp_path / "disk")
    try:
        check_degraded(shelf, "")
        clear(path)
        check_resumed(shelf)
    finally:
        shelf.close()


def test_a_folder_in_the_place_of_a_body_leaves_memory(shelf: Shelf) -> None:
    body = body_of(1, BIG)
    writer = shelf.store.begin(len(body))
    writer.write(body)
    folder(Path(body_path(str(shelf.disk), writer.digest())))
    with pytest.raises(NoRoom):
        shelf.store.commit(writer, key_id("a"), BLANK, "a")
    check_degraded(shelf, "directory")
    clear(Path(body_path(str(shelf.disk), writer.digest())))
    check_resumed(shelf)


def test_a_folder_in_the_place_of_a_small_body_keeps_it_in_memory(shelf: Shelf) -> None:
    record = shelf.fill("a", body_of(1, SMALL))
    folder(Path(body_path(str(shelf.disk), record.digest)))
    shelf.settle()
    check_degraded(shelf, "directory")
    assert shelf.read("a") == body_of(1, SMALL)


def test_a_disk_that_another_instance_has_is_left_to_it(
    index: FillIndex, memory: Path, tmp_path: Path, shelf: Shelf
) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            other_memory = Path(f"{memory}-other")
            other = Shelf(index, other_memory, shelf.disk)
            usable, reason = other.store.is_reachable(), other.store.stats().disk
            status = 0 if (usable, reason) == (False, "in use by another process") else 2
            shutil.rmtree(other_memory)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_no_body_is_kept_back_from_a_client_by_a_database_that_fails(shelf: Shelf) -> None:
    shelf.fill("a", body_of(1, BIG))
    (shelf.disk or Path()).joinpath("records.sqlite").write_bytes(b"\\0" * 100)
    for number in range(5):
        shelf.fill(str(number), body_of(number, BIG))
        assert shelf.read(str(number)) == body_of(number, BIG)


def test_a_full_memory_tier_leaves_the_disk(index: FillIndex, small_disk: Path, tmp_path: Path) -> None:
    shelf = Shelf(index, small_disk / "cas", tmp_path / "disk", memory_bytes=1 << 20)
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    assert shelf.fill("a", body_of(1, SMALL)).tier == DISK
    assert shelf.read("a") == body_of(1, SMALL)
    assert shelf.told("cas_memory")
    shelf.close()
