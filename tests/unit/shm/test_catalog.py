"""The catalog finds what was mounted, and nothing else; it hashes what it is asked for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.errors import PackUnreadable
from edge_server.packs.reader import NO_FILE, Entry, Pack, SourceFile, TileSet
from edge_server.packs.source import source_file
from edge_server.shm import catalog as catalog_module
from edge_server.shm.catalog import Catalog
from edge_server.shm.path_table import bind_find, layout
from edge_server.shm.segment import segment_name

Build = Callable[[list[Pack]], Catalog]


@pytest.fixture
def build() -> Iterator[Build]:
    built: list[Catalog] = []

    def make(packs: list[Pack]) -> Catalog:
        built.append(Catalog.build(packs, generation=7, name=segment_name(f"test-{len(built)}")))
        return built[-1]

    yield make
    for catalog in built:
        catalog.close()
        catalog.unlink()


def mounted(path: Path) -> SourceFile:
    return source_file(str(path), path.stat())


def folder_pack(root: Path, files: dict[str, bytes], **changes: object) -> Pack:
    pack = Pack(name="", kind="directory", path=str(root))
    for number, (name, data) in enumerate(files.items()):
        (root / name).write_bytes(data)
        pack.files.append(mounted(root / name))
        pack.entries.append(Entry(name, number, 0, len(data), "text/plain"))
    return pack


def tile_pack(root: Path, name: str, first_ids: list[int], run_lengths: list[int]) -> Pack:
    path = root / f"{name}.pmtiles"
    path.write_bytes(b"x" * 1000)
    tiles = TileSet(
        name=name,
        file=0,
        extensions=("png",),
        media_type="image/png",
        coding="",
        min_zoom=0,
        max_zoom=5,
        tilejson={"name": name},
        first_ids=np.array(first_ids, dtype=np.uint64),
        run_lengths=np.array(run_lengths, dtype=np.uint32),
        offsets=np.array([10 * number for number in range(len(first_ids))], dtype=np.uint64),
        lengths=np.array([number + 1 for number in range(len(first_ids))], dtype=np.uint32),
    )
    archive = Entry(f"{name}.pmtiles", 0, 0, 1000, "application/vnd.pmtiles", is_archive=True)
    about = Entry(f"{name}/metadata.json", NO_FILE, 0, 2, "application/json", inline=b"{}")
    return Pack(name, "pmtiles", str(path), [mounted(path)], [archive, about], [tiles])


def test_an_entry_is_found_by_its_path_and_a_missing_one_is_not(tmp_path: Path, build: Build) -> None:
    catalog = build([folder_pack(tmp_path, {"a.txt": b"one", "ä.txt": b"two"})])
    entry = catalog.entry(catalog.find("ä.txt".encode()))
    assert (entry.path, entry.length, entry.media_type) == ("ä.txt", 3, "text/plain")
    assert catalog.file(entry.file) == mounted(tmp_path / "ä.txt")
    assert catalog.find(b"b.txt") == -1
    assert catalog.find(b"") == -1


def test_entries_of_several_packs_keep_their_own_files(tmp_path: Path, build: Build) -> None:
    (tmp_path / "other").mkdir()
    first = folder_pack(tmp_path, {"a": b"1"})
    second = folder_pack(tmp_path / "other", {"b": b"22"})
    catalog = build([first, second])
    entry = catalog.entry(catalog.find(b"b"))
    assert catalog.file(entry.file).path == str(tmp_path / "other" / "b")


def test_an_inline_body_comes_back_whole(tmp_path: Path, build: Build) -> None:
    catalog = build([tile_pack(tmp_path, "world", [0], [1])])
    entry = catalog.entry(catalog.find(b"world/metadata.json"))
    assert entry.is_inline
    assert catalog.inline(entry) == b"{}"


def test_variants_point_at_their_siblings_entries(tmp_path: Path, build: Build) -> None:
    pack = folder_pack(tmp_path, {"a.css": b"body{}", "a.css.gz": b"gz", "a.css.br": b"br"})
    pack.entries[0] = pack.entries[0]._replace(variants=(("gzip", "a.css.gz"), ("br", "a.css.br")))
    catalog = build([pack])
    entry = catalog.entry(catalog.find(b"a.css"))
    assert {coding: catalog.entry(index).path for coding, index in entry.variants} == {
        "br": "a.css.br",
        "gzip": "a.css.gz",
    }


@pytest.mark.parametrize(
    ("tile_id", "expected"),
    [(0, -1), (4, -1), (5, 0), (7, 0), (8, -1), (9, 1), (10, -1), (2**62, -1)],
    ids=str,
)
def test_a_tile_is_found_within_its_run_only(
    tmp_path: Path, build: Build, tile_id: int, expected: int
) -> None:
    catalog = build([tile_pack(tmp_path, "world", [5, 9], [3, 1])])
    assert catalog.tilesets["world"].find(tile_id) == expected


def test_tiles_of_two_archives_have_digest_rows_of_their_own(tmp_path: Path, build: Build) -> None:
    catalog = build([tile_pack(tmp_path, "one", [0, 1], [1, 1]), tile_pack(tmp_path, "two", [0], [1])])
    one, two = catalog.tilesets["one"], catalog.tilesets["two"]
    rows = [one.row(0), one.row(1), two.row(0)]
    assert len(set(rows)) == 3
    assert min(rows) >= catalog.entries
    catalog.digests.put(two.row(0), b"d" * 32)
    assert catalog.digests.get(two.row(0)) == b"d" * 32
    assert catalog.digests.get(one.row(1)) is None


def test_a_digest_known_at_mount_is_there_and_others_are_not(tmp_path: Path, build: Build) -> None:
    pack = folder_pack(tmp_path, {"a": b"1", "b": b"2"})
    pack.entries[0] = pack.entries[0]._replace(digest=blake3(b"1").digest())
    catalog = build([pack])
    assert catalog.digests.get(catalog.find(b"a")) == blake3(b"1").digest()
    assert catalog.digests.get(catalog.find(b"b")) is None


def test_hashing_an_entry_records_its_digest_for_every_reader(tmp_path: Path, build: Build) -> None:
    catalog = build([folder_pack(tmp_path, {"a": b"hello"})])
    index = catalog.find(b"a")
    pid = os.fork()
    if pid == 0:
        catalog.hash_entry(index)
        os._exit(0)
    os.waitpid(pid, 0)
    assert catalog.digests.get(index) == blake3(b"hello").digest()


def test_only_big_entries_are_left_for_the_background_smallest_first(
    tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_module, "HASH_INLINE_BYTES", 3)
    catalog = build([folder_pack(tmp_path, {"big": b"123456", "mid": b"1234", "small": b"123"})])
    assert [catalog.entry(index).path for index in catalog.pending_digests()] == ["mid", "big"]
    for index in catalog.pending_digests():
        catalog.hash_entry(index)
    assert catalog.pending_digests() == []
    assert catalog.digests.get(catalog.find(b"big")) == blake3(b"123456").digest()


def test_hashing_stops_when_told_to(tmp_path: Path, build: Build) -> None:
    catalog = build([folder_pack(tmp_path, {"big": b"123456"})])
    stop = threading.Event()
    stop.set()
    assert catalog.hash_entry(catalog.find(b"big"), stop) is None
    assert catalog.digests.get(catalog.find(b"big")) is None


@pytest.mark.parametrize(
    "change", [b"longer than before", b"h3llo", b"", None], ids=["grown", "same size", "empty", "gone"]
)
def test_a_file_that_changed_is_never_hashed_into_a_digest(
    tmp_path: Path, build: Build, change: bytes | None
) -> None:
    catalog = build([folder_pack(tmp_path, {"a": b"hello"})])
    if change is None:
        (tmp_path / "a").unlink()
    else:
        (tmp_path / "a").write_bytes(change)
        os.utime(tmp_path / "a", ns=(1, 1))
    with pytest.raises(PackUnreadable):
        catalog.hash_entry(catalog.find(b"a"))
    assert catalog.digests.get(catalog.find(b"a")) is None


def test_an_archive_replaced_on_disk_still_opens_as_it_was_mounted(tmp_path: Path, build: Build) -> None:
    catalog = build([tile_pack(tmp_path, "world", [0], [1])])
    (tmp_path / "new").write_bytes(b"y" * 1000)
    (tmp_path / "new").rename(tmp_path / "world.pmtiles")
    descriptor = catalog.open(catalog.tilesets["world"].file)
    assert os.pread(descriptor, 4, 0) == b"xxxx"
    os.close(descriptor)


def test_nobody_can_write_through_the_sealed_views(tmp_path: Path, build: Build) -> None:
    catalog = build([folder_pack(tmp_path, {"a": b"1"})])
    assert all(column.readonly for column in catalog._columns.values())


def test_a_catalog_without_any_entry_finds_nothing(build: Build) -> None:
    catalog = build([Pack("", "directory", "/")])
    assert catalog.find(b"a") == -1
    assert catalog.entries == 0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sets(st.binary(max_size=12), max_size=400), st.sets(st.binary(max_size=3), max_size=50))
def test_the_path_table_agrees_with_a_dictionary(paths: set[bytes], strangers: set[bytes]) -> None:
    ordered = sorted(paths)
    hashes, entries, mask = layout(ordered)
    find = bind_find(
        memoryview(hashes.tobytes()).cast("Q"),
        memoryview(entries.tobytes()).cast("I"),
        mask,
        ordered.__getitem__,
    )
    oracle = {path: number for number, path in enumerate(ordered)}
    for path in paths | strangers:
        assert find(path) == oracle.get(path, -1)


def test_the_path_table_survives_paths_that_all_share_one_home(monkeypatch: pytest.MonkeyPatch) -> None:
    class SameHome(bytes):
        def __hash__(self) -> int:
            return -1

    paths = [SameHome(b"%d" % number) for number in range(40)]
    hashes, entries, mask = layout(paths)
    find = bind_find(
        memoryview(hashes.tobytes()).cast("Q"),
        memoryview(entries.tobytes()).cast("I"),
        mask,
        paths.__getitem__,
    )
    assert [find(path) for path in paths] == list(range(40))
    assert find(SameHome(b"none")) == -1
