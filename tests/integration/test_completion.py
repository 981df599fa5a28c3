"""Completion in a real bash: the script is sourced, and the tabulator key is pressed."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import environment

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash (Debian package bash)")

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x07|\r")
_PROMPT = "ready> "


class Shell:
    """An interactive bash with the completion of this command and nothing else."""

    def __init__(self, folder: Path) -> None:
        master, slave = pty.openpty()
        binaries = os.path.dirname(sys.executable)
        extra = {
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "PS1": _PROMPT,
            "TERM": "dumb",
            "INPUTRC": "/dev/null",
        }
        self._master = master
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env=environment(extra),
            start_new_session=True,
        )
        os.close(slave)
        self.run("bind 'set bell-style none'; source <(svc-edge completion bash)")

    def run(self, line: str) -> str:
        """Type a line, and return what is shown until the next prompt."""
        os.write(self._master, f"{line}; echo do''ne\n".encode())
        return self._until("done\n" + _PROMPT)

    def complete(self, words: str, wanted: list[str]) -> str:
        """Press tab twice; return what is shown, line or choices, once all that is wanted is there."""
        os.write(self._master, f"{words}\t\t".encode())
        shown, deadline = "", time.monotonic() + 20
        while time.monotonic() < deadline and not all(each in shown for each in wanted):
            shown += self._read(0.1)
        os.write(self._master, b"\x15\n")  # forget the line
        self._until(_PROMPT)
        return shown

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def _until(self, text: str) -> str:
        shown, deadline = "", time.monotonic() + 30
        while text not in shown:
            assert time.monotonic() < deadline, shown
            shown += self._read(0.1)
        return shown

    def _read(self, within_s: float) -> str:
        readable, _, _ = select.select([self._master], [], [], within_s)
        return _CONTROL.sub("", os.read(self._master, 65536).decode()) if readable else ""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("completion")
    (folder / "planet.pmtiles").touch()
    shell = Shell(folder)
    yield shell
    shell.close()


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("svc-edge pack ", ["hash", "show", "verify"]),
        ("svc-edge pack ver", ["svc-edge pack verify"]),
        ("svc-edge pack verify --mo", ["svc-edge pack verify --mode"]),
        ("svc-edge pack verify --mode ", ["full", "index"]),
        ("svc-edge pack verify pla", ["svc-edge pack verify planet.pmtiles"]),
        ("svc-edge serve pla", ["svc-edge serve planet.pmtiles"]),
        ("svc-edge completion ", ["bash", "fish", "zsh"]),
        ("svc-edge pro", ["svc-edge profile"]),
    ],
)
def test_tab_completes(shell: Shell, typed: str, shown: list[str]) -> None:
    found = shell.complete(typed, shown)
    assert [words for words in shown if words not in found] == [], found
