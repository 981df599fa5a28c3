"""The manual page: in step with the commands, clean for both readers, shipped."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_server.cli.main import COMMANDS, main
from edge_server.cli.man import page

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/svc-edge.1"


def test_the_page_that_is_shipped_is_the_one_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["man"]) == 0
    assert capsys.readouterr().out == PAGE.read_text(), "svc-edge man > docs/svc-edge.1"
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    assert settings["options.data_files"]["share/man/man1"].split() == ["docs/svc-edge.1"]
    assert "include docs/svc-edge.1" in (ROOT / "MANIFEST.in").read_text().splitlines()


def read(*command: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(command[0]) is None:
        package = {"man": "man-db"}.get(command[0], command[0])
        pytest.skip(f"needs {command[0]} (Debian package {package})")
    environ = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "100"}
    return subprocess.run(
        command, input=page(), capture_output=True, text=True, timeout=60, env=environ, check=False
    )


def test_man_shows_the_page_without_a_warning() -> None:
    done = read("man", "--warnings", "-l", "-")
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    for name in COMMANDS:
        assert f"svc-edge {name} [OPTIONS]" in text
    for words in ("--admin URL", "svc-edge top --once", "--no-amnesia", "EXIT STATUS", "SIGUSR2"):
        assert words in text


def test_mandoc_finds_nothing_but_that_it_has_no_date() -> None:
    told = read("mandoc", "-T", "lint", "-W", "warning").stdout.splitlines()
    assert [line for line in told if "missing date" not in line] == []
