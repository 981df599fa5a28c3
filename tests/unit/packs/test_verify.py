"""Verification: what each mode finds, what it does not look for, and that it ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from blake3 import blake3

from edge_server.errors import PackError
from edge_server.packs import entry_checks
from edge_server.packs import tile_checks as tile_checks_module
from edge_server.packs.directory import read_directory
from edge_server.packs.pmtiles import read_pmtiles
from edge_server.packs.reader import Pack
from edge_server.packs.verify import verify
from tests.archives import build, encode

TILES = {tile_id: b"tile %d " % (tile_id // 2) * 20 for tile_id in range(21, 300)}


def ignore(name: str, fields: Mapping[str, object]) -> None:
    pass


def archive_pack(folder: Path, archive: bytes) -> Pack:
    path = folder / "world.pmtiles"
    path.write_bytes(archive)
    return read_pmtiles(str(path), "world")


def directory_pack(folder: Path, files: Mapping[str, bytes]) -> Pack:
    root = folder / "files"
    root.mkdir()
    for name, data in files.items():
        (root / name).write_bytes(data)
        os.utime(root / name, (1000, 1000))
    return read_directory(str(root)).pack


def check(pack: Pack, mode: str, **options: int) -> list[Mapping[str, object]]:
    told: list[Mapping[str, object]] = []
    verify(pack, mode, on_event=lambda name, fields: told.append({"event": name, **fields}), **options)
    return told


def test_full_gives_every_entry_the_digest_of_its_bytes(tmp_path: Path) -> None:
    files = {"empty": b"", "small": b"x", "block": bytes(1 << 20), "more": os.urandom((3 << 20) + 17)}
    pack = directory_pack(tmp_path, files)
    check(pack, "full")
    assert {entry.path: entry.digest for entry in pack.entries} == {
        name: blake3(data).digest() for name, data in files.items()
    }


def test_full_gives_an_archive_the_digest_of_the_whole_file(tmp_path: Path) -> None:
    archive = build(TILES, leaf_sizes=(16,))
    pack = archive_pack(tmp_path, archive)
    check(pack, "full")
    assert pack.entries[0].digest == blake3(archive).digest()
    assert pack.entries[1].digest == blake3(pack.entries[1].inline or b"").digest()


@pytest.mark.parametrize("mode", ["none", "index"])
def test_other_modes_leave_digests_to_be_made_later(tmp_path: Path, mode: str) -> None:
    pack = directory_pack(tmp_path, {"a": b"1"})
    check(pack, mode)
    assert pack.entries[0].digest is None


@pytest.mark.parametrize("mode", ["index", "full"])
@pytest.mark.parametrize("coding", ["", "gzip", "br", "zstd", "unknown"])
def test_a_sound_archive_passes(tmp_path: Path, mode: str, coding: str) -> None:
    for leaf_sizes in ((), (16, 4)):
        check(archive_pack(tmp_path, build(TILES, coding=coding, leaf_sizes=leaf_sizes)), mode)


def test_counts_of_zero_claim_nothing(tmp_path: Path) -> None:
    archive = build(TILES, addressed_tiles=0, tile_entries=0, tile_contents=0)
    check(archive_pack(tmp_path, archive), "index")


@pytest.mark.parametrize(
    ("fields", "reason", "offset"),
    [
        ({"addressed_tiles": 278}, "claims 278 addressed tiles, its directories have 279", 72),
        ({"tile_entries": 1}, "claims 1 tile entries", 80),
        ({"tile_contents": 1 << 40}, "tile contents", 88),
        ({"max_zoom": 3}, "outside the zooms of its header, 3 to 3", 100),
        ({"min_zoom": 4}, "outside the zooms of its header, 4 to 4", 100),
    ],
    ids=str,
)
def test_a_header_that_disagrees_with_the_directories_is_found(
    tmp_path: Path, fields: dict[str, int], reason: str, offset: int
) -> None:
    pack = archive_pack(tmp_path, build(TILES, **fields))
    check(pack, "none")
    with pytest.raises(PackError, match=reason) as caught:
        check(pack, "index")
    assert caught.value.offset == offset


def with_a_damaged_tile(place: int) -> bytes:
    """Return an archive whose stored tile number `place` from the start is damaged in the middle."""
    archive = bytearray(build(TILES))
    offset = int.from_bytes(archive[56:64], "little")
    for tile_id in sorted(TILES)[: place * 2 : 2]:
        offset += len(encode("gzip", TILES[tile_id]))
    archive[offset + 12] ^= 0xFF
    return bytes(archive)


def test_full_finds_one_damaged_tile_among_all(tmp_path: Path) -> None:
    archive = with_a_damaged_tile(77)
    pack = archive_pack(tmp_path, archive)
    check(pack, "index", sample=1)
    with pytest.raises(PackError, match="a tile is not gzip") as caught:
        check(pack, "full")
    offset = caught.value.offset
    assert offset is not None
    assert offset in pack.tilesets[0].offsets.tolist()


def test_index_finds_damage_in_its_sample(tmp_path: Path) -> None:
    last = len({TILES[tile_id] for tile_id in TILES}) - 1
    pack = archive_pack(tmp_path, with_a_damaged_tile(last))
    with pytest.raises(PackError, match="a tile is not gzip"):
        check(pack, "index", sample=2)


def test_index_without_a_sample_reads_no_tile(tmp_path: Path) -> None:
    check(archive_pack(tmp_path, with_a_damaged_tile(0)), "index", sample=0)


def test_each_stored_tile_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    monkeypatch.setattr(
        tile_checks_module, "decode", lambda coding, data, max_bytes: decoded.append(data) or data
    )
    check(archive_pack(tmp_path, build(TILES)), "full")
    assert len(decoded) == len(set(decoded)) == len(set(TILES.values()))


def test_a_tile_that_is_a_bomb_is_found(tmp_path: Path) -> None:
    pack = archive_pack(tmp_path, build({0: bytes(65 << 20)}, coding="zstd"))
    for mode in ("index", "full"):
        with pytest.raises(PackError, match="a tile is not zstd: decoded data exceed"):
            check(pack, mode)


@pytest.mark.parametrize("mode", ["index", "full"])
@pytest.mark.parametrize(
    "change",
    [os.unlink, lambda path: os.truncate(path, 3), lambda path: os.utime(path, (5, 5))],
    ids=["gone", "shorter", "touched"],
)
def test_a_file_that_is_no_longer_the_mounted_one_is_found(tmp_path: Path, mode: str, change: object) -> None:
    pack = directory_pack(tmp_path, {f"f{place}": b"12345" for place in range(200)})
    change(pack.files[pack.entries[150].file].path)  # type: ignore[operator]
    with pytest.raises(PackError, match=r"f\d+: (changed since|cannot be opened: No such file)"):
        check(pack, mode)


SIBLINGS = {"x.css": b"body{}" * 50, "x.css.gz": encode("gzip", b"body{}" * 50)}


@pytest.mark.parametrize("mode", ["index", "full"])
def test_siblings_that_decode_to_their_original_pass(tmp_path: Path, mode: str) -> None:
    pack = directory_pack(tmp_path, SIBLINGS)
    check(pack, mode)
    assert pack.entries[0].variants == (("gzip", "x.css.gz"),)


@pytest.mark.parametrize("mode", ["index", "full"])
@pytest.mark.parametrize(
    ("sibling", "reason"),
    [
        (encode("gzip", b"body{ }" * 50), "is not x.css in gzip"),
        (encode("gzip", b"BODY{}" * 50), "decodes to something else than x.css"),
        (encode("gzip", b"body{}"), "decodes to something else than x.css"),
        (encode("gzip", bytes(100 << 20)), "is not x.css in gzip: decoded data exceed"),
        (SIBLINGS["x.css.gz"][:-1], "is not x.css in gzip"),
        (b"", "is not x.css in gzip"),
        (encode("br", SIBLINGS["x.css"]), "is not x.css in gzip"),
    ],
    ids=["longer", "other", "shorter", "bomb", "cut short", "empty", "another coding"],
)
def test_a_sibling_of_other_contents_is_found(tmp_path: Path, mode: str, sibling: bytes, reason: str) -> None:
    pack = directory_pack(tmp_path, {**SIBLINGS, "x.css.gz": sibling})
    with pytest.raises(PackError, match=reason):
        check(pack, mode)


def test_siblings_too_large_to_check_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_server.packs.verify.MAX_VARIANT_BYTES", 10)
    pack = directory_pack(tmp_path, SIBLINGS)
    told = check(pack, "full")
    assert pack.entries[0].variants == ()
    assert (told[0]["level"], told[0]["path"]) == ("warning", "x.css")


def test_progress_is_told_and_complete_at_the_end(tmp_path: Path) -> None:
    pack = directory_pack(tmp_path, {f"f{place}": bytes(100) for place in range(500)})
    last = check(pack, "full")[-1]
    assert (last["event"], last["verify"], last["done"], last["total"]) == ("pack_verify", "full", 500, 500)
    assert last["bytes"] == 50_000


def test_the_sample_is_the_same_every_time(tmp_path: Path) -> None:
    pack = directory_pack(tmp_path, {f"f{place}": bytes(place) for place in range(500)})
    first, second = check(pack, "index", sample=7)[-1], check(pack, "index", sample=7)[-1]
    assert first["done"] == first["total"] == 507
    assert first["bytes"] == second["bytes"]


def test_a_failure_stops_the_rest_and_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = directory_pack(tmp_path, {f"f{place}": bytes(100) for place in range(2000)})
    read: list[int] = []
    read_exactly = entry_checks.read_exactly

    def slow_read(*args: object) -> bytes:
        read.append(1)
        time.sleep(0.001)
        return read_exactly(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(entry_checks, "read_exactly", slow_read)
    os.unlink(pack.files[pack.entries[0].file].path)
    before = threading.active_count()
    with pytest.raises(PackError, match="f0: cannot be opened: No such file"):
        check(pack, "full", threads=2)
    assert threading.active_count() == before
    assert len(read) < 1000


def test_an_interrupt_stops_the_threads(tmp_path: Path) -> None:
    pack = directory_pack(tmp_path, {f"f{place}": bytes(100) for place in range(500)})

    def interrupt(name: str, fields: Mapping[str, object]) -> None:
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        verify(pack, "full", on_event=interrupt)
    assert threading.active_count() == before


def test_a_file_written_to_while_it_is_hashed_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = directory_pack(tmp_path, {"big": bytes(3 << 20)})
    read_exactly = entry_checks.read_exactly

    def read_and_write(*args: object) -> bytes:
        os.utime(pack.files[0].path, (7, 7))
        return read_exactly(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(entry_checks, "read_exactly", read_and_write)
    with pytest.raises(PackError, match="changed while it was read"):
        check(pack, "full")


def test_an_unknown_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none, index, full"):
        verify(directory_pack(tmp_path, {}), "some", on_event=ignore)
