"""`svc-edge cas`: what it shows and removes, on the folder that a store has written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_server.cas.bodies import body_path
from edge_server.cas.shelf import DiskShelf
from edge_server.cli.main import main
from edge_server.errors import ResourceError
from edge_server.shm.fill_index import FillIndex, Flag, key_id
from edge_server.shm.segment import SHM_DIR, segment_name
from tests.stores import BLANK, KIB, Shelf, body_of, damage

BIG = 40 * KIB
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    index = FillIndex.create(segment_name("test-cli-cas-index"), 50)
    memory = SHM_DIR / segment_name("test-cli-cas")
    made = Shelf(index, memory, tmp_path / "disk")
    for number, key in enumerate(("fonts/a", "fonts/b", "maps/c")):
        made.fill(key, body_of(number, BIG), fresh_ms=(1 << 45) * (number == 2))
    made.fill("maps/same", body_of(2, BIG))
    made.store.remember(key_id("maps/many"), BLANK._replace(flags=int(Flag.VARIES)), "maps/many")
    yield made
    made.close()
    index.segment.unlink()
    index.close()
    shutil.rmtree(memory)


@pytest.fixture
def folder(shelf: Shelf) -> str:
    """The folder of an instance that has ended."""
    shelf.close()
    return str(shelf.disk)


def body(shelf: Shelf, key: str) -> Path:
    record = shelf.index.find(key_id(key))
    assert record is not None
    return Path(body_path(str(shelf.disk), record.digest))


def keys(folder: str) -> list[str]:
    return [held.key for held in DiskShelf(folder).held()]


def test_ls_lists_what_is_stored(folder: str, capsys: Captured) -> None:
    assert main(["cas", "ls", folder]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[:5]] == [
        "fonts/a",
        "fonts/b",
        "maps/c",
        "maps/same",
        "maps/many",
    ]
    assert [line.split()[1] for line in lines[:4]] == ["stale", "stale", "fresh", "stale"]
    assert lines[5] == f"5 responses, {3 * BIG:,} bytes of bodies"


def test_ls_prints_json_for_programs(folder: str, capsys: Captured) -> None:
    assert main(["cas", "ls", folder, "--json", "--prefix", "maps/"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["key"] for each in told] == ["maps/c", "maps/same", "maps/many"]
    assert told[0]["hash"] == told[1]["hash"]
    assert told[2]["hash"] is None
    assert told[2]["flags"] == ["VARIES"]
    assert told[0]["meta"] == {"type": "text/plain"}


def test_the_folder_may_come_from_the_settings(folder: str, capsys: Captured) -> None:
    assert main(["cas", "ls", "--set", f"cas.path={folder}"]) == 0
    assert "maps/c" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["ls"], ["verify"], ["gc"], ["purge", "a"]], ids=" ".join)
def test_without_a_store_every_command_says_so(command: list[str], tmp_path: Path, capsys: Captured) -> None:
    where = ["--folder", str(tmp_path)] if command[0] == "purge" else [str(tmp_path)]
    assert main(["cas", *command, *where]) == 69
    assert "holds no store" in capsys.readouterr().err
    assert main(["cas", *command]) == 69
    assert "cas.path is not set" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_verify_hashes_every_body(folder: str, capsys: Captured) -> None:
    assert main(["cas", "verify", folder]) == 0
    assert capsys.readouterr().out == f"ok: 3 bodies, {3 * BIG:,} bytes\n"
    assert main(["cas", "verify", folder, "--sample", "1"]) == 0
    assert capsys.readouterr().out == f"ok: 1 body, {BIG:,} bytes\n"


@pytest.mark.parametrize("spoil", [damage, os.unlink], ids=["flipped bit", "missing"])
def test_verify_names_what_is_damaged_and_removes_it_if_told_to(
    shelf: Shelf, folder: str, capsys: Captured, spoil: object
) -> None:
    path = body(shelf, "maps/c")
    spoil(path)  # type: ignore[operator]
    assert main(["cas", "verify", folder]) == 1
    assert f"damaged: b3:{path.name}" in capsys.readouterr().err
    assert main(["cas", "verify", folder, "--remove"]) == 0
    assert "removed: 2 responses" in capsys.readouterr().out
    assert keys(folder) == ["fonts/a", "fonts/b", "maps/many"]
    assert not path.exists()
    assert main(["cas", "verify", folder]) == 0


def test_gc_removes_what_is_of_no_use_and_nothing_else(shelf: Shelf, folder: str, capsys: Captured) -> None:
    body(shelf, "fonts/a").unlink()
    (Path(folder) / "00" / ("00" * 32)).write_bytes(b"nobody's")
    (Path(folder) / "tmp" / "9-1").write_bytes(b"half")
    assert main(["cas", "gc", folder]) == 0
    assert "removed: 1 body, 1 record, 1 temporary file; 12 bytes freed" in capsys.readouterr().out
    assert keys(folder) == ["fonts/b", "maps/c", "maps/same", "maps/many"]
    assert main(["cas", "verify", folder]) == 0


def test_purge_removes_keys_and_the_bodies_that_nobody_else_has(shelf: Shelf, folder: str) -> None:
    assert main(["cas", "purge", "maps/c", "fonts/a", "--folder", folder]) == 0
    assert keys(folder) == ["fonts/b", "maps/same", "maps/many"]
    assert body(shelf, "maps/same").exists()
    assert not body(shelf, "fonts/a").exists()


def test_purge_by_prefix(folder: str, capsys: Captured) -> None:
    assert main(["cas", "purge", "--prefix", "maps/", "--folder", folder]) == 0
    assert capsys.readouterr().out == "purged: 3 responses\n"
    assert keys(folder) == ["fonts/a", "fonts/b"]
    assert main(["cas", "purge", "--prefix", "", "--folder", folder]) == 0
    assert keys(folder) == []


@pytest.mark.parametrize("arguments", [[], ["a", "--prefix", "b"]], ids=["nothing", "both"])
def test_purge_wants_keys_or_a_prefix(folder: str, arguments: list[str]) -> None:
    assert main(["cas", "purge", *arguments, "--folder", folder]) == 2


def test_what_an_instance_holds_is_looked_at_and_not_changed(shelf: Shelf, capsys: Captured) -> None:
    with pytest.raises(ResourceError, match="in use"):
        in_another_process(lambda: DiskShelf(str(shelf.disk)).tidy())
    for command in (["ls"], ["verify"]):
        assert main(["cas", *command, str(shelf.disk)]) == 0
    assert shelf.read("maps/c") == body_of(2, BIG)


def in_another_process(work: object) -> None:
    """Do something where the locks of this process are another's."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()  # type: ignore[operator]
        except ResourceError as error:
            os.write(write_end, str(error).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    os.waitpid(pid, 0)
    with open(read_end, "rb") as told:
        text = told.read().decode()
    if text:
        raise ResourceError(text)


def test_a_store_takes_over_what_was_tidied(shelf: Shelf, folder: str) -> None:
    assert main(["cas", "purge", "fonts/a", "--folder", folder]) == 0
    shutil.rmtree(shelf.memory)
    index = FillIndex.create(segment_name("test-cli-cas-again"), 50)
    again = Shelf(index, shelf.memory, shelf.disk)
    assert again.read("fonts/a") is None
    assert again.read("maps/c") == body_of(2, BIG)
    again.check()
    again.close()
    index.segment.unlink()
    index.close()
