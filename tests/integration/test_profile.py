"""`svc-edge profile`: flame graphs of a real instance under load, and what it says where it cannot."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import run as run_program
from xml.etree import ElementTree

import pytest

from tests.meanwhile import meanwhile
from tests.servers import COMMAND, Server, environment, run
from tests.wire import ask
from tests.worlds import World

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as it traces other processes")


@contextmanager
def hits(server: Server, world: World) -> Iterator[None]:
    """Ask for a file with ever new correlation ids, which the guard does not repeat by itself."""
    path = f"/edge/assets/{next(iter(world.files))}"
    numbers = itertools.count()

    def turn() -> None:
        fields = {"X-Corr-ID": f"profile-{next(numbers)}"}
        assert ask(server.assets, path, "GET", fields).status == 200

    with meanwhile(turn, threads=2):
        yield


def titles(path: Path) -> str:
    """Return the text of every frame of an SVG, which must be well-formed."""
    root = ElementTree.parse(path).getroot()
    assert root.tag.endswith("svg")
    return "\n".join(node.text or "" for node in root.iter() if node.tag.endswith("title"))


def test_a_flame_graph_shows_the_hit_path(serve: Callable[..., Server], world: World, tmp_path: Path) -> None:
    server = serve("--workers", 1, *world.packs)
    path = tmp_path / "worker.svg"
    with hits(server, world):
        done = run("profile", "--admin", server.admin, "--seconds", 3, "--rate", 500, "-o", path)
    assert done.returncode == 0, done.stderr
    assert f"process {server.workers()[0]}" in done.stderr
    assert "samples" in done.stdout
    assert "edge_server/worker/hitpath.py" in titles(path)
    assert "libev" not in titles(path)
    assert os.listdir(tmp_path) == ["worker.svg"]


def test_native_frames_are_shown_when_asked_for(
    serve: Callable[..., Server], world: World, tmp_path: Path
) -> None:
    server = serve("--workers", 1, *world.packs)
    path = tmp_path / "native.svg"
    with hits(server, world):
        done = run(
            *("profile", "--admin", server.admin, "--seconds", 3, "--rate", 200, "--native", "-o", path),
            within=60,
        )
    assert done.returncode == 0, done.stderr
    assert "libev" in titles(path)


def test_the_sidecar_is_profiled_and_a_file_is_named_after_the_process(
    serve: Callable[..., Server], world: World, tmp_path: Path
) -> None:
    server = serve("--workers", 1, *world.packs)
    done = run("profile", "--admin", server.admin, "--sidecar", "--idle", "--seconds", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (made,) = tmp_path.iterdir()
    assert made.name == "svc-edge-sidecar-a.svg"
    assert "edge_server/sidecar/main.py" in titles(made)


def test_a_slot_that_is_not_there_is_told_with_those_that_are(
    serve: Callable[..., Server], world: World, tmp_path: Path
) -> None:
    server = serve("--workers", 2, *world.packs)
    done = run("profile", "--admin", server.admin, "--slot", 7, cwd=tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (69, [])
    assert "no serving worker in slot 7; slots are 0, 1" in done.stderr


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (Debian package util-linux)")
def test_without_the_right_to_trace_it_says_what_to_do(
    serve: Callable[..., Server], world: World, tmp_path: Path
) -> None:
    server = serve("--workers", 1, *world.packs)
    weaker = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]
    line = [*weaker, *COMMAND, "profile", "--admin", str(server.admin), "--seconds", "1"]
    done = run_program(
        line, capture_output=True, text=True, timeout=60, env=environment(), cwd=tmp_path, check=False
    )
    assert (done.returncode, list(tmp_path.iterdir())) == (69, []), done.stderr
    for words in ("may not be traced", "CAP_SYS_PTRACE", "--cap-add SYS_PTRACE"):
        assert words in done.stderr


def test_without_py_spy_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    code = f"import sys; sys.executable = {str(bare / 'python')!r}; from edge_server.cli.main import main; "
    done = run_program(
        [sys.executable, "-c", code + "sys.exit(main(['profile']))"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": str(bare)},
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        69,
        "svc-edge: error: py-spy is not installed; pip install 'svc-edge[profile]'\n",
    )


def test_a_file_that_cannot_be_written_is_told(
    serve: Callable[..., Server], world: World, tmp_path: Path
) -> None:
    server = serve("--workers", 1, *world.packs)
    done = run("profile", "--admin", server.admin, "--seconds", 1, "--idle", "-o", tmp_path / "no" / "a.svg")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "no" / "a.svg") in done.stderr or "No such file" in done.stderr
