"""Damaged and hostile archives: refused with a reason and a place, in bounded time and memory."""

from __future__ import annotations

import gzip
import json
import os
import random
import time
import tracemalloc
from pathlib import Path

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.errors import PackError
from edge_server.packs.pmtiles import read_pmtiles
from edge_server.packs.verify import verify
from tests.archives import CODINGS, HEADER_BYTES, Row, assemble, build, damaged, directory, encode, varint

TILES = {tile_id: b"tile %d" % (tile_id // 2) for tile_id in range(21, 300)}
PLAIN = build(TILES, coding="", internal="")
LEAFY = build(TILES, leaf_sizes=(8, 4))
TILE = [Row(0, 0, 1)]
MANY = 1 << 62


def read(folder: Path, archive: bytes, mode: str = "none") -> None:
    path = folder / "hostile.pmtiles"
    path.write_bytes(archive)
    pack = read_pmtiles(str(path), "hostile")
    verify(pack, mode, on_event=lambda name, fields: None)


def leafy(root: list[Row], *leaves: bytes) -> bytes:
    """Return an archive whose leaves are these, uncompressed, one after another."""
    return assemble(directory(root), leaves=b"".join(leaves), tiles=b"tile data")


LEAF = directory([Row(10, 0, 4), Row(11, 4, 5)])
RUNNING = directory([Row(10, 0, 1, 6)])
POINTER = Row(10, 0, len(LEAF), 0)
# Each leaf points to the next; a loop points to itself or to the one above.
SELF = directory([Row(0, 0, 5, 0)])
CHAIN = [Row(0, place * 5, 5, 0) for place in range(1, 9)]

REFUSED: dict[str, tuple[bytes, str, int | None]] = {
    "nothing": (b"", "no PMTiles", 0),
    "another kind of file": (b"SQLite format 3\x00" * 100, "does not begin", 0),
    "half a header": (PLAIN[:100], "header alone", 0),
    "version 2": (damaged(PLAIN, version=2), "version 2", 7),
    "version 4": (damaged(PLAIN, version=4), "version 4", 7),
    "a root past the end": (damaged(PLAIN, root_offset=MANY), "root directory end", 8),
    "a root that wraps": (damaged(PLAIN, root_offset=(1 << 64) - 1), "root directory end", 8),
    "a root inside the header": (damaged(PLAIN, root_offset=8), "inside the header", 8),
    "no root": (damaged(PLAIN, root_length=0), "is empty", 16),
    "a root beyond the first read": (
        assemble(directory(TILE), b"{}" + b" " * 20_000, tiles=b"t", root_offset=17_000),
        "first 16384 bytes",
        8,
    ),
    "metadata past the end": (damaged(PLAIN, metadata_length=MANY), "metadata end", 24),
    "leaves past the end": (damaged(LEAFY, leaves_length=MANY), "leaf directories end", 40),
    "tiles past the end": (damaged(PLAIN, tiles_length=1 << 40), "tile data end", 56),
    "tiles inside the header": (damaged(PLAIN, tiles_offset=0), "inside the header", 56),
    "unknown internal compression": (damaged(PLAIN, internal_compression=0), "internal compression 0", 97),
    "impossible internal compression": (damaged(PLAIN, internal_compression=9), "internal compression 9", 97),
    "impossible tile compression": (damaged(PLAIN, tile_compression=5), "tile compression 5", 98),
    "an impossible tile type": (damaged(PLAIN, tile_type=77), "tile type 77", 99),
    "zooms beyond 31": (damaged(PLAIN, max_zoom=32), "zooms", 100),
    "zooms upside down": (damaged(PLAIN, min_zoom=9, max_zoom=3), "zooms", 100),
    "directories in another coding": (damaged(PLAIN, internal_compression=2), "not gzip", None),
    "a directory of nonsense": (assemble(b"\xff" * 64), "within a number", 127),
    "a directory without entries": (assemble(varint(0)), "no entries", 127),
    "absurdly many entries": (assemble(directory(TILE, count=1 << 60), tiles=b"t"), "claims", 127),
    "a tile past the tile data": (
        assemble(directory([Row(0, 0, 2)]), tiles=b"t"),
        "end of the tile data",
        127,
    ),
    "a tile far past the tile data": (
        assemble(directory([Row(0, MANY - 1, 1)]), tiles=b"t"),
        "tile data",
        127,
    ),
    "a tile without tile data": (assemble(directory(TILE)), "end of the tile data", 127),
    "a leaf past the leaves": (leafy([Row(10, 0, 100, 0)], LEAF), "end of the leaf directories", 127),
    "a leaf without leaves": (assemble(directory([POINTER])), "end of the leaf directories", 127),
    "a leaf that is its own parent": (leafy([Row(0, 0, 5, 0)], SELF), "pointed to twice", 134),
    "two pointers to one leaf": (leafy([POINTER, Row(20, 0, len(LEAF), 0)], LEAF), "twice", None),
    "leaves that overlap": (leafy([POINTER, Row(20, 1, len(LEAF) - 1, 0)], LEAF), "overlap", None),
    "leaves without end": (
        leafy([Row(0, 0, 5, 0)], *(directory([row]) for row in CHAIN)),
        "nested more than 3",
        149,
    ),
    "a leaf below its range": (leafy([POINTER._replace(tile_id=11)], LEAF), "outside the range", None),
    "a leaf above its range": (leafy([POINTER, Row(11, 0, 1)], LEAF), "outside the range", None),
    "a run out of the leaf's range": (
        leafy([Row(10, 0, len(RUNNING), 0), Row(15, 0, 1)], RUNNING),
        "outside the range",
        None,
    ),
    "metadata that are no JSON": (build(TILES, metadata=b"{nonsense"), "no JSON", None),
    "metadata that are a list": (build(TILES, metadata=[1, 2]), "no JSON object", None),
    "metadata that are not UTF-8": (build(TILES, metadata=b'{"name": "\xff"}'), "no JSON in UTF-8", None),
    "metadata with half a character": (
        build(TILES, metadata=b'{"name": "\\ud800"}'),
        "no JSON in UTF-8",
        None,
    ),
    "metadata with NaN": (build(TILES, metadata=b'{"a": NaN}'), "no JSON", None),
    "metadata with an endless number": (build(TILES, metadata=b'{"a": 1e999}'), "no JSON", None),
    "metadata nested without end": (build(TILES, metadata=b'{"a":' + b"[" * 500_000), "no JSON", None),
    "metadata in another coding": (build(TILES, internal="gzip", metadata_length=9), "not gzip", None),
}


@pytest.mark.parametrize(("archive", "reason", "offset"), REFUSED.values(), ids=REFUSED)
def test_an_unsound_archive_is_refused_with_a_reason_and_a_place(
    tmp_path: Path, archive: bytes, reason: str, offset: int | None
) -> None:
    with pytest.raises(PackError, match=reason) as caught:
        read(tmp_path, archive)
    assert caught.value.pack.endswith("hostile.pmtiles")
    assert caught.value.offset == offset if offset is not None else caught.value.offset is not None


def bombs() -> dict[str, tuple[bytes, str]]:
    """Return small archives that would take gigabytes if they were believed."""
    zeros = bytes(1 << 20)
    streams = {
        "gzip": b"".join(gzip.compress(zeros, 9, mtime=0) for _ in range(64)),
        "br": brotli.compress(bytes(200 << 20), quality=1),
        "zstd": zstandard.ZstdCompressor(level=1).compress(bytes(200 << 20)),
    }
    found = {}
    for coding, data in streams.items():
        fields = {"internal_compression": CODINGS[coding], "tiles": b"t"}
        metadata = encode(coding, b"{}")
        if len(data) < 16_000:
            found[f"{coding} in the root"] = assemble(data, metadata, **fields), "inflates"
        leaf_root = encode(coding, directory([Row(0, 0, len(data), 0)]))
        found[f"{coding} in a leaf"] = assemble(leaf_root, metadata, data, **fields), "inflates"
        found[f"{coding} in the metadata"] = (
            assemble(encode(coding, directory(TILE)), data, **fields),
            "inflate",
        )
    found["many leaves"] = many_leaves(), "inflates"
    return found


def many_leaves() -> bytes:
    """Return leaves of a million entries that are sound one by one; all together they are too much."""
    count = 1_000_000
    columns = b"\x01" * (count * 3 - 1) + b"\x01" + b"\x00" * (count - 1)
    rows, leaves = [], b""
    for first in range(0, 12 * count, count):
        leaf = brotli.compress(varint(count) + varint(first) + columns, quality=1)
        rows.append(Row(first, len(leaves), len(leaf), 0))
        leaves += leaf
    root, metadata = encode("br", directory(rows)), encode("br", b"{}")
    return assemble(root, metadata, leaves, b"t" * count, internal_compression=CODINGS["br"])


BOMBS = bombs()


@pytest.mark.parametrize(("archive", "reason"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_in_bounded_time_and_memory(tmp_path: Path, archive: bytes, reason: str) -> None:
    tracemalloc.start()
    started_s = time.process_time()  # whatever else the machine does
    try:
        with pytest.raises(PackError, match=reason):
            read(tmp_path, archive)
        assert tracemalloc.get_traced_memory()[1] < 1 << 30
    finally:
        tracemalloc.stop()
    assert time.process_time() - started_s < 10


def interesting_lengths(archive: bytes) -> list[int]:
    """Return lengths in the header, at the ends of all sections, and some between."""
    ends = [HEADER_BYTES]
    for place in range(8, 72, 16):
        offset, length = (int.from_bytes(archive[at : at + 8], "little") for at in (place, place + 8))
        ends += [offset, offset + 1, offset + length - 1]
    between = random.Random(3).sample(range(len(archive)), 60)
    return sorted({length for length in (*range(129), *ends, *between) if length < len(archive)})


@pytest.mark.parametrize("archive", [PLAIN, LEAFY], ids=["plain", "leafy"])
def test_an_archive_cut_short_anywhere_is_refused(tmp_path: Path, archive: bytes) -> None:
    for length in interesting_lengths(archive):
        with pytest.raises(PackError):
            read(tmp_path, archive[:length])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("archive", [PLAIN, LEAFY], ids=["plain", "leafy"])
def test_an_archive_with_changed_bytes_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, archive: bytes, data: st.DataObject
) -> None:
    # Header, directories and metadata are at the front: that is where changes tell.
    front = int.from_bytes(archive[56:64], "little")
    changes = data.draw(
        st.lists(st.tuples(st.integers(0, front - 1), st.integers(0, 255)), min_size=1, max_size=4)
    )
    changed = bytearray(archive)
    for place, value in changes:
        changed[place] = value
    try:
        read(tmp_path_factory.mktemp("changed"), bytes(changed), mode="full")
    except PackError:
        pass


@settings(max_examples=150, deadline=None, derandomize=True)
@given(root=st.binary(min_size=1, max_size=200), leaves=st.binary(max_size=200))
def test_sections_of_random_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, root: bytes, leaves: bytes
) -> None:
    archive = assemble(root, leaves=leaves, tiles=b"t" * 100)
    try:
        read(tmp_path_factory.mktemp("random"), archive, mode="index")
    except PackError:
        pass


def test_a_wide_tree_of_tiny_leaves_is_read_in_bounded_time(tmp_path: Path) -> None:
    archive = build(
        {place: b"%d" % place for place in range(12_000)}, coding="", internal="", leaf_sizes=(4, 64)
    )
    started = time.monotonic()
    read(tmp_path, archive)
    assert time.monotonic() - started < 5


def test_a_sparse_file_that_claims_terabytes_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sparse.pmtiles"
    path.write_bytes(damaged(PLAIN, leaves_offset=1 << 20, leaves_length=1 << 39, metadata_length=1 << 38))
    os.truncate(path, 1 << 40)
    started = time.monotonic()
    with pytest.raises(PackError):
        read_pmtiles(str(path), "sparse")
    assert time.monotonic() - started < 1


def test_a_leaf_of_gigabytes_of_nothing_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sparse.pmtiles"
    root = directory([Row(0, 0, (1 << 32) - 1, 0)])
    path.write_bytes(assemble(root, leaves_length=1 << 33))
    os.truncate(path, 1 << 34)
    with pytest.raises(PackError, match="beyond the limit"):
        read_pmtiles(str(path), "sparse")


def test_metadata_of_any_size_within_the_limit_are_read(tmp_path: Path) -> None:
    metadata = json.dumps({"text": "x" * (7 << 20)}).encode()
    read(tmp_path, build(TILES, metadata=metadata))
