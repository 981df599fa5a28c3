"""Warm blocks: what is asked for again and again is sent from memory, and is never a wrong byte."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.guard_app import GuardApp, pattern
from tests.servers import eventually
from tests.wire import Connection

BLOCK = 256 << 10
SIZE = 8 * BLOCK + 1000
CONTENT = pattern(SIZE)
SMALL_BUFFER = 4096


@pytest.fixture
def app() -> Iterator[GuardApp]:
    with GuardApp(warm_bytes=16 * BLOCK) as running:
        yield running


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(CONTENT)
    return path


def target(path: Path, **query: object) -> str:
    return f"/file?{urlencode({'path': path, **query})}"


def warm_up(connection: Connection, path: Path, app: GuardApp, **query: object) -> None:
    """Ask until all of a file is warm."""
    size = path.stat().st_size

    def is_warm() -> bool:
        connection.ask(target(path, **query))
        return app.counters()["warm_bytes"] >= size

    eventually(is_warm)


def memfds(app: GuardApp) -> int:
    return sum("/memfd:" in os.readlink(entry) for entry in Path(f"/proc/{app.pid}/fd").iterdir())


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x" * SIZE)


def test_what_is_asked_for_once_is_not_kept(app: GuardApp, large: Path) -> None:
    with Connection(app.place) as connection:
        assert connection.ask(target(large)).body == CONTENT
        assert app.counters()["warm_bytes"] == 0
        assert connection.ask(target(large)).body == CONTENT
        assert app.counters()["warm_bytes"] > 0


@pytest.mark.parametrize("length", [1, 1000, 16384, 16385, 70_000, BLOCK, BLOCK + 1, SIZE])
@pytest.mark.parametrize("start", [0, 5, BLOCK - 3, BLOCK, 3 * BLOCK + 77, 8 * BLOCK + 1])
def test_warm_bytes_are_those_of_the_file(app: GuardApp, large: Path, start: int, length: int) -> None:
    length = min(length, SIZE - start)
    with Connection(app.place) as connection:
        warm_up(connection, large, app)
        for _ in range(2):
            assert (
                connection.ask(target(large, start=start, length=length)).body
                == CONTENT[start : start + length]
            )


@pytest.mark.parametrize("change", [rewrite, Path.unlink, lambda path: os.truncate(path, 10)])
def test_warm_bytes_of_a_changed_file_are_not_sent(
    app: GuardApp, large: Path, change: Callable[[Path], None]
) -> None:
    with Connection(app.place) as connection:
        warm_up(connection, large, app, length=SIZE)
        change(large)
        for length in (100, SIZE):
            assert connection.ask(target(large, length=length)).status == 503


def test_a_warm_body_under_way_ends_with_the_bytes_that_it_began_with(app: GuardApp, large: Path) -> None:
    with Connection(app.place) as other, Connection(app.place, receive_buffer=SMALL_BUFFER) as slow:
        warm_up(other, large, app)
        slow.send(target(large))
        slow.read_head()
        begun = slow.read_exactly(50_000)
        rewrite(large)
        assert begun + slow.read_exactly(SIZE - len(begun)) == CONTENT


def test_a_body_under_way_is_right_though_its_blocks_had_to_go(
    app: GuardApp, large: Path, tmp_path: Path
) -> None:
    others = [tmp_path / f"{name}.bin" for name in "abcd"]
    for path in others:
        path.write_bytes(b"y" * SIZE)
    with Connection(app.place) as other, Connection(app.place, receive_buffer=SMALL_BUFFER) as slow:
        warm_up(other, large, app)
        slow.send(target(large))
        slow.read_head()
        begun = slow.read_exactly(50_000)
        for path in others:
            for _ in range(4):
                assert other.ask(target(path)).body == b"y" * SIZE
        assert begun + slow.read_exactly(SIZE - len(begun)) == CONTENT


def test_warm_blocks_keep_within_their_limit(app: GuardApp, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.bin" for name in range(6)]
    for path in paths:
        path.write_bytes(CONTENT)
    most = 0
    with Connection(app.place) as connection:
        for _ in range(5):
            for path in paths:
                assert connection.ask(target(path)).body == CONTENT
                most = max(most, app.counters()["warm_bytes"])
                assert memfds(app) <= 17
    assert 8 * BLOCK < most <= 16 * BLOCK


def test_small_files_are_kept_without_descriptors(app: GuardApp, tmp_path: Path) -> None:
    with Connection(app.place) as connection:
        for k in range(50):
            path = tmp_path / f"{k}.bin"
            path.write_bytes(CONTENT[: 100 + k])
            for _ in range(3):
                assert connection.ask(target(path)).body == CONTENT[: 100 + k]
    assert app.counters()["warm_bytes"] == sum(100 + k for k in range(50))
    assert memfds(app) == 0


def test_nothing_is_kept_where_nothing_may_be(large: Path) -> None:
    with GuardApp(warm_bytes=0) as app, Connection(app.place) as connection:
        for _ in range(4):
            assert connection.ask(target(large)).body == CONTENT
        assert (app.counters()["warm_bytes"], memfds(app)) == (0, 0)
