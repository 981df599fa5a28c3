"""Source files: recognised again, or refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_server.errors import PackError, PackUnreadable
from edge_server.packs.reader import SourceFile
from edge_server.packs.source import open_regular, open_source, opened, read_exactly, source_file


@pytest.fixture
def file(tmp_path: Path) -> SourceFile:
    path = tmp_path / "a.bin"
    path.write_bytes(b"0123456789")
    return source_file(str(path), path.stat())


def rewritten_in_place(path: str) -> None:
    with open(path, "r+b") as out:
        out.write(b"x")
    os.utime(path, (1, 1))


def appended(path: str) -> None:
    with open(path, "ab") as out:
        out.write(b"x")


def replaced(path: str) -> None:
    status = os.stat(path)
    with open(path + ".new", "wb") as out:
        out.write(b"9876543210")
    os.utime(path + ".new", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(path + ".new", path)


def linked(path: str) -> None:
    os.rename(path, path + ".old")
    os.symlink(path + ".old", path)


def made_a_fifo(path: str) -> None:
    os.unlink(path)
    os.mkfifo(path)


def test_a_mounted_file_opens_and_is_not_inherited_by_programs(file: SourceFile) -> None:
    fd = open_source(file)
    assert os.pread(fd, 3, 4) == b"456"
    assert not os.get_inheritable(fd)
    os.close(fd)


@pytest.mark.parametrize("change", [rewritten_in_place, appended, replaced, linked, made_a_fifo, os.unlink])
def test_a_file_that_is_no_longer_the_mounted_one_is_refused(file: SourceFile, change: object) -> None:
    before = len(os.listdir("/proc/self/fd"))
    change(file.path)  # type: ignore[operator]
    with pytest.raises(PackUnreadable) as caught:
        open_source(file)
    assert (caught.value.status, caught.value.reason) == (503, "pack_io")
    with pytest.raises(PackError, match="pack there"), opened("there", file):
        pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_no_regular_file_is_not_opened_for_mounting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(PackError, match="not a regular file"):
            open_regular("there", str(path))
    with pytest.raises(PackError, match="cannot be opened: No such file"):
        open_regular("there", str(tmp_path / "nothing"))


def test_reading_past_the_end_is_an_error_and_not_a_short_answer(file: SourceFile) -> None:
    with opened("there", file) as fd:
        assert read_exactly("there", fd, 8, 2) == b"89"
        assert read_exactly("there", fd, 10, 0) == b""
        with pytest.raises(PackError, match="ends 3 bytes too early") as caught:
            read_exactly("there", fd, 8, 5)
    assert caught.value.offset == 10


def test_a_failing_device_is_an_error_of_the_pack(file: SourceFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with opened("there", file) as fd, pytest.raises(PackError, match="Input/output error"):
        read_exactly("there", fd, 0, 1)
