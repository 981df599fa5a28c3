"""A file that is no longer what was mounted gives 503 or a cut body, never other bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_server.config.schema import Http
from edge_server.errors import PackUnreadable
from tests.wsgi_client import BIG, Client


def truncate(path: Path) -> None:
    os.truncate(path, 5)


def rewrite_in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"HELLO")


def replace(path: Path) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(path.read_bytes())
    fresh.rename(path)


def remove(path: Path) -> None:
    path.unlink()


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_a_link(path: Path) -> None:
    moved = path.with_suffix(".moved")
    path.rename(moved)
    path.symlink_to(moved)


CHANGES = [truncate, rewrite_in_place, replace, remove, grow, become_a_folder, become_a_fifo]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("was_asked_for", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("name", ["a.txt", "big.bin"])
def test_a_changed_file_is_unavailable(
    get: Client, name: str, was_asked_for: bool, change: Callable[[Path], None]
) -> None:
    if was_asked_for:
        assert get(name).status == 200
    change(get.root / name)
    for method in ("GET", "HEAD"):
        answer = get(name, method)
        assert answer.status == 503
        assert answer["X-Reason"] == "pack_io"
        assert answer["Retry-After"] == "1"
    assert get(name, range="bytes=0-3").status == 503
    assert get("style.css").status == 200


def test_a_link_in_a_files_place_is_not_followed_even_to_the_same_file(get: Client) -> None:
    become_a_link(get.root / "a.txt")
    assert get("a.txt").status == 503


@pytest.mark.parametrize("change", [truncate, rewrite_in_place, grow], ids=lambda change: change.__name__)
def test_several_ranges_under_way_are_cut_off_when_their_file_changes(
    make_client: Callable[..., Client], change: Callable[[Path], None]
) -> None:
    get = make_client(http=Http(enable_multi_range=True))
    changes = [lambda: change(get.root / "big.bin")]
    get.between_chunks = lambda: changes.pop()() if changes else None
    answer = get("big.bin", range="bytes=0-9,500000-999999")
    assert isinstance(answer.cut, PackUnreadable)
    assert len(answer.body) < int(answer["Content-Length"])


def test_a_body_under_way_survives_the_removal_of_an_archive(get: Client) -> None:
    archive = get.root.parent / "w"
    expected = archive.read_bytes()
    archive.unlink()
    assert get("maps/world.pmtiles").body == expected


@pytest.mark.parametrize("change", [truncate, rewrite_in_place], ids=lambda change: change.__name__)
def test_tiles_of_a_changed_archive_are_unavailable(get: Client, change: Callable[[Path], None]) -> None:
    assert get("maps/world/0/0/0.mvt", accept_encoding="gzip").status == 200
    change(get.root.parent / "w")
    for coding in ("gzip", "identity"):
        assert get("maps/world/0/0/0.mvt", accept_encoding=coding)["X-Reason"] == "pack_io"
    assert get("maps/world.json").status == 200


def test_descriptors_are_closed_when_answers_are_forgotten(get: Client) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for name in ("a.txt", "big.bin", "style.css", "empty.bin"):
        get(name)
    assert len(os.listdir("/proc/self/fd")) == before + 4
    get.state.cache.clear()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_body_under_way_keeps_its_file_open_after_the_cache_forgot_it(get: Client) -> None:
    get.between_chunks = get.state.cache.clear
    assert get("big.bin").body == BIG
