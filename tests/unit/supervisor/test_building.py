"""The builder: what it hands over, and what is left of one that fails."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from edge_server.config.load import Loaded
from edge_server.config.schema import Config, Edge, PackSource
from edge_server.errors import ConfigError
from edge_server.shm.catalog import Catalog, segment_names
from edge_server.shm.segment import SHM_DIR
from edge_server.supervisor.building import Build, BuildError, Built, build
from tests.archives import build as build_archive

NAME = f"test-building-{os.getpid()}"


def fork(body: Callable[[], int]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(body())
        except BaseException:
            os._exit(9)
    return pid


def finish(made: Build, now_s: float = 0.0, within_s: float = 10.0) -> tuple[Built, Catalog]:
    """Receive and reap as the loop does, then take."""
    until_s = time.monotonic() + within_s
    is_reaped = False
    while not made.is_over:
        assert time.monotonic() < until_s
        made.receive(now_s)
        if not is_reaped:
            pid, status = os.waitpid(made.pid, os.WNOHANG)
            if pid:
                is_reaped = True
                made.saw_exit(os.waitstatus_to_exitcode(status))
        time.sleep(0.001)
    return made.take()


def names() -> list[str]:
    return [name for name in segment_names(NAME) if (SHM_DIR / name).exists()]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    descriptors = len(os.listdir("/proc/self/fd"))
    yield
    assert names() == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.fixture
def load(tmp_path: Path) -> Callable[[], Loaded]:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "a.txt").write_text("hello")
    (tmp_path / "world.pmtiles").write_bytes(build_archive({0: b"tile" * 50}))
    packs = tuple(PackSource(path=str(tmp_path / name)) for name in ("pack", "world.pmtiles"))
    return lambda: Loaded(Config(edge=Edge(packs=packs)), {}, ("mind the gap",))


def begin(load: Callable[[], Loaded], **more: float) -> Build:
    live = partial(build, load=load, number=2, name=NAME, slots=3, spread=0)
    return Build(NAME, fork, live, 0.0, **more)


def test_a_generation_is_handed_over_with_its_descriptors(load: Callable[[], Loaded], tmp_path: Path) -> None:
    built, catalog = finish(begin(load))
    assert (built.config, built.warnings, len(built.cpus)) == (load().config, ("mind the gap",), 3)
    assert catalog.generation == 2
    assert [pack.name for pack in catalog.packs] == ["", "world"]
    index = catalog.find(b"a.txt")
    assert catalog.entry(index).length == 5
    assert catalog.hash_entry(index) == catalog.digests.get(index)
    tiles = catalog.tilesets["world"]
    offset, length = tiles.span(tiles.find(0))
    (tmp_path / "world.pmtiles").unlink()
    descriptor = catalog.open(tiles.file)
    assert len(os.pread(descriptor, length, offset)) == length
    os.close(descriptor)
    catalog.unlink()
    catalog.close()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(ConfigError("line 3: no"), "line 3: no", id="config"),
        pytest.param(ZeroDivisionError("oops"), r"defect: ZeroDivisionError\('oops'\)", id="defect"),
    ],
)
def test_what_fails_says_why(error: Exception, words: str) -> None:
    def fails() -> Loaded:
        raise error

    with pytest.raises(BuildError, match=f"^{words}$"):
        finish(begin(fails))


def test_one_that_is_killed_when_all_is_made_leaves_nothing(load: Callable[[], Loaded]) -> None:
    def live(channel: socket.socket) -> int:
        Catalog.build([], generation=2, name=NAME)
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    with pytest.raises(BuildError, match="ended with SIGKILL"):
        finish(Build(NAME, fork, live, 0.0))


def test_one_that_ends_without_a_word_has_failed() -> None:
    with pytest.raises(BuildError, match="ended with exit code 0"):
        finish(Build(NAME, fork, lambda channel: 0, 0.0))


def test_one_that_is_silent_is_killed_and_signs_of_life_count() -> None:
    def live(channel: socket.socket) -> int:
        channel.sendall(b".")
        time.sleep(60)
        return 0

    made = Build(NAME, fork, live, 0.0, silent_s=5.0)
    until_s = time.monotonic() + 5
    while not made._received:
        made.receive(4.0)
        assert time.monotonic() < until_s
    made.receive(8.0)
    assert os.waitpid(made.pid, os.WNOHANG) == (0, 0)
    with pytest.raises(BuildError, match="no sign of life for 5 s"):
        finish(made, now_s=9.1)


def test_one_that_is_abandoned_leaves_nothing(load: Callable[[], Loaded]) -> None:
    made = begin(load)
    made.abandon()
    os.waitpid(made.pid, 0)
    made.saw_exit(-signal.SIGKILL)
    made.discard()
