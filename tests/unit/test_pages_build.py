"""What builds the map preview: how often it tries, and what it says where it cannot."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "web"
TOOLS = ("bash", "cat", "cut", "dirname", "mkdir", "sha256sum")  # all that it needs before npm


@pytest.fixture
def binaries(tmp_path: Path) -> Path:
    """A PATH without npm."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


@pytest.fixture
def web(tmp_path: Path) -> Path:
    folder = tmp_path / "web"
    folder.mkdir()
    for name in ("build.sh", "package.json", "package-lock.json"):
        shutil.copy(WEB / name, folder)
    return folder


def build(web: Path, binaries: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(binaries / "bash"), str(web / "build.sh"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, env={"PATH": str(binaries)}, check=False
    )


def add_npm_that_fails(binaries: Path, calls: Path) -> None:
    npm = binaries / "npm"
    npm.write_text(f"#!{binaries}/bash\necho called >>{calls}\nexit 1\n")
    npm.chmod(0o755)


def test_without_npm_it_is_told_once_and_holds_up_nobody(web: Path, binaries: Path) -> None:
    first, second = build(web, binaries, "--optional"), build(web, binaries, "--optional")
    assert (first.returncode, second.returncode) == (0, 0)
    assert "Debian's package is called npm" in first.stderr
    assert "make pages" in first.stderr
    assert (second.stdout, second.stderr) == ("", "")


def test_where_it_is_wanted_a_failure_is_one_each_time(web: Path, binaries: Path) -> None:
    for _ in range(2):
        done = build(web, binaries)
        assert (done.returncode, "npm is missing" in done.stderr) == (1, True)


def test_a_registry_that_cannot_be_reached_is_asked_once(web: Path, binaries: Path, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    assert build(web, binaries, "--optional").returncode == 0
    add_npm_that_fails(binaries, calls)  # it has come since: that is another try
    for _ in range(3):
        assert build(web, binaries, "--optional").returncode == 0
    assert calls.read_text() == "called\n"
    assert build(web, binaries).returncode == 1
    assert calls.read_text() == "called\n" * 2
