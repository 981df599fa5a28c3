"""`svc-edge pack`: what it prints, and the exit codes it ends with."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from edge_server.cli.main import main
from tests.archives import build

TILES = {0: b"world", **{tile_id: b"tile %d" % tile_id for tile_id in range(5, 40)}}
ARCHIVE = build(TILES)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "world.pmtiles"
    path.write_bytes(ARCHIVE)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "assets"
    (path / "a").mkdir(parents=True)
    (path / "a/b.css").write_bytes(b"body{}")
    (path / "c.txt").write_bytes(b"text")
    return path


def test_show_describes_an_archive(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "show", str(archive), "--tiles", "2"]) == 0
    out = capsys.readouterr().out
    for words in ("pmtiles", "mvt", "gzip", "tiles of a test", "water", "tile 0/0/0", "tile 2/0/0"):
        assert words in out
    assert "tile 2/1/0" not in out


def test_show_prints_json_for_programs(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "show", str(archive), "--json"]) == 0
    (described,) = json.loads(capsys.readouterr().out)
    assert (described["kind"], described["bytes"], described["addressed tiles"]) == (
        "pmtiles",
        len(ARCHIVE),
        36,
    )
    assert described["header"]["root_offset"] == 127
    assert described["first tiles"][0]["tile"] == "0/0/0"
    assert described["tilejson"]["name"] == "demo"


def test_show_describes_a_directory_and_the_archives_in_it(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (archive.parent / "outside").symlink_to("/etc")
    assert main(["pack", "show", str(archive.parent), "--json"]) == 0
    captured = capsys.readouterr()
    assert [described["kind"] for described in json.loads(captured.out)] == ["directory", "pmtiles"]
    assert "outside: its link leads out of the directory" in captured.err


@pytest.mark.parametrize("mode", ["index", "full"])
def test_verify_passes_sound_packs(
    archive: Path, folder: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pack", "verify", str(archive), str(folder), "--mode", mode]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [f"ok: {archive}: 2 entries, 36 tiles", f"ok: {folder}: 2 entries"]
    assert captured.err == ""


def test_verify_tries_every_pack_and_ends_with_78(
    archive: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = folder.parent / "damaged.pmtiles"
    damaged.write_bytes(ARCHIVE[:-1])
    assert main(["pack", "verify", str(damaged), "nowhere", str(archive)]) == 78
    captured = capsys.readouterr()
    assert f"failed: pack {damaged} at byte 56: tile data end" in captured.err
    assert "failed: pack nowhere: no such file" in captured.err
    assert captured.out == f"ok: {archive}: 2 entries, 36 tiles\n"


def test_verify_looks_at_as_many_samples_as_it_is_told(archive: Path) -> None:
    data = bytearray(ARCHIVE)
    data[-1] ^= 0xFF
    archive.write_bytes(data)
    assert main(["pack", "verify", str(archive), "--mode", "index", "--sample", "0"]) == 0
    assert main(["pack", "verify", str(archive), "--mode", "index", "--sample", "1"]) == 78


def test_verify_shows_a_bar_on_a_terminal_alone(folder: Path) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "edge_server", "pack", "verify", str(folder)]
    environ = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=follower, env=environ, check=True, timeout=30
    )
    shown = os.read(leader, 1 << 16)
    os.close(follower)
    os.close(leader)
    assert b"2/2" in shown
    assert done.stdout == f"ok: {folder}: 2 entries\n".encode()


def test_hash_prints_what_stands_in_etags(
    archive: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pack", "hash", str(archive), str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"b3:{blake3(ARCHIVE).hexdigest()}  {archive}",
        f"b3:{blake3(b'body{}').hexdigest()}  a/b.css",
        f"b3:{blake3(b'text').hexdigest()}  c.txt",
    ]


@pytest.mark.parametrize("verb", ["show", "hash"])
def test_a_pack_that_cannot_be_read_ends_with_78(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", verb, "/nowhere.pmtiles"]) == 78
    assert "pack /nowhere.pmtiles" in capsys.readouterr().err


def test_hashes_of_before_a_restore_are_compared(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pack", "hash", str(folder)]) == 0
    known = tmp_path / "assets.b3"
    known.write_text(capsys.readouterr().out)
    for more in ([], ["--sample", "1"], ["--sample", "100"]):
        assert main(["pack", "hash", "--check", str(known), *more, str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == ["ok: 2 of 2", "ok: 1 of 1", "ok: 2 of 2"]

    (folder / "c.txt").write_bytes(b"tezt")
    (folder / "a/b.css").unlink()
    assert main(["pack", "hash", "--check", str(known), str(folder)]) == 78
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["missing: a/b.css", "changed: c.txt"]
    assert captured.out == "ok: 0 of 2\n"


def test_what_is_no_list_of_hashes_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = tmp_path / "other"
    known.write_text("d41d8cd9  c.txt\n")
    assert main(["pack", "hash", "--check", str(known), str(folder)]) == 2
    assert f"{known}:1: not a line of svc-edge pack hash" in capsys.readouterr().err


def test_a_sample_alone_means_that_no_more_than_the_sample_is_read(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pack", "verify", "--sample", "3", str(archive)]) == 0
    assert main(["pack", "verify", "--sample", "3", "--mode", "full", str(archive)]) == 2
    assert "leave out --sample" in capsys.readouterr().err
