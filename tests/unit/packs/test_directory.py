"""Directories as packs: what is served, what stays out, and which siblings become variants."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edge_server.errors import BadRequest, PackError
from edge_server.http.paths import ASSET_PREFIX, asset_key
from edge_server.packs import directory as module
from edge_server.packs.addresses import is_address, printable
from edge_server.packs.directory import Listing, read_directory
from edge_server.packs.reader import Entry


def put(root: Path, path: str, data: bytes = b"data", mtime: int | None = None) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    if mtime is not None:
        os.utime(file, (mtime, mtime))
    return file


def paths(listing: Listing) -> list[str]:
    return [entry.path for entry in listing.pack.entries]


def entry_at(listing: Listing, path: str) -> Entry:
    return next(entry for entry in listing.pack.entries if entry.path == path)


def reasons(listing: Listing) -> dict[str, str]:
    return {os.path.basename(path): reason for path, reason in listing.left_out}


def test_files_stand_under_their_relative_paths_in_order(tmp_path: Path) -> None:
    for path in ("z.txt", "a/b/c.css", "a/ü.js", "a.txt"):
        put(tmp_path, path, path.encode())
    listing = read_directory(str(tmp_path))
    assert paths(listing) == ["a.txt", "a/b/c.css", "a/ü.js", "z.txt"]
    assert (listing.pack.name, listing.pack.kind) == ("", "directory")
    entry = entry_at(listing, "a/b/c.css")
    file = listing.pack.files[entry.file]
    status = os.stat(tmp_path / "a/b/c.css")
    assert (entry.offset, entry.length, entry.media_type) == (0, 9, "text/css; charset=utf-8")
    assert file == (str(tmp_path / "a/b/c.css"), status.st_dev, status.st_ino, 9, status.st_mtime_ns)


def test_a_name_is_a_prefix(tmp_path: Path) -> None:
    put(tmp_path, "a/b.css")
    listing = read_directory(str(tmp_path), "static/v1")
    assert paths(listing) == ["static/v1/a/b.css"]
    assert listing.pack.name == "static/v1"


def test_an_empty_directory_is_a_pack_without_entries(tmp_path: Path) -> None:
    assert paths(read_directory(str(tmp_path))) == []


def test_an_empty_file_is_an_entry(tmp_path: Path) -> None:
    put(tmp_path, "empty.txt", b"")
    assert entry_at(read_directory(str(tmp_path)), "empty.txt").length == 0


def test_hidden_files_and_folders_stay_out_quietly(tmp_path: Path) -> None:
    for path in (".env", ".git/config", "a/.b/c.txt", "a/.htaccess", "a/seen.txt"):
        put(tmp_path, path)
    listing = read_directory(str(tmp_path))
    assert paths(listing) == ["a/seen.txt"]
    assert listing.left_out == []


def test_a_hidden_root_is_served_when_it_is_asked_for(tmp_path: Path) -> None:
    put(tmp_path, ".site/index.html")
    assert paths(read_directory(str(tmp_path / ".site"))) == ["index.html"]


def test_links_inside_the_root_are_followed(tmp_path: Path) -> None:
    # What a mounted Kubernetes ConfigMap looks like: visible links into a hidden folder.
    put(tmp_path, "..2026/style.json", b"real")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "style.json").symlink_to("..data/style.json")
    put(tmp_path, "a/b.txt")
    (tmp_path / "again").symlink_to("a")
    listing = read_directory(str(tmp_path))
    assert paths(listing) == ["a/b.txt", "again/b.txt", "style.json"]
    real = listing.pack.files[entry_at(listing, "style.json").file].path
    assert real == str(tmp_path / "..2026/style.json")


def test_a_root_that_is_a_link_is_resolved_once(tmp_path: Path) -> None:
    put(tmp_path, "real/a.txt")
    (tmp_path / "current").symlink_to("real")
    listing = read_directory(str(tmp_path / "current"))
    assert listing.pack.path == str(tmp_path / "current")
    assert listing.pack.files[0].path == str(tmp_path / "real/a.txt")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("../secret.txt", "out of the directory"),
        ("../outside", "out of the directory"),
        ("/etc/passwd", "out of the directory"),
        ("../root-sibling/a.txt", "out of the directory"),
        ("nowhere", "leads nowhere"),
        ("link", "cannot be followed"),
        (".", "back to a folder above"),
        ("sub/..", "back to a folder above"),
    ],
)
def test_a_link_that_leads_astray_is_left_out(tmp_path: Path, target: str, reason: str) -> None:
    root = tmp_path / "root"
    put(root, "sub/a.txt")
    put(tmp_path, "secret.txt")
    put(tmp_path, "outside/b.txt")
    put(tmp_path, "root-sibling/a.txt")  # its path begins like the root's
    (root / "link").symlink_to(target)
    listing = read_directory(str(root))
    assert paths(listing) == ["sub/a.txt"]
    assert reason in reasons(listing)["link"]


def test_folders_linked_into_each_other_end(tmp_path: Path) -> None:
    put(tmp_path, "a/one.txt")
    put(tmp_path, "b/two.txt")
    (tmp_path / "a/b").symlink_to("../b")
    (tmp_path / "b/a").symlink_to("../a")
    listing = read_directory(str(tmp_path))
    assert paths(listing) == ["a/b/two.txt", "a/one.txt", "b/a/one.txt", "b/two.txt"]
    assert len(listing.left_out) == 2


def test_links_that_multiply_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OBJECTS", 2000)
    for depth in range(14):
        (tmp_path / f"d{depth}").mkdir()
        for name in ("left", "right"):
            (tmp_path / f"d{depth}" / name).symlink_to(f"../d{depth + 1}")
    (tmp_path / "d14").mkdir()
    with pytest.raises(PackError, match="more than 2000 files and folders"):
        read_directory(str(tmp_path))


def test_special_files_are_left_out_and_never_opened(tmp_path: Path) -> None:
    put(tmp_path, "a.txt")
    os.mkfifo(tmp_path / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "sock"))
    (tmp_path / "zero").symlink_to("fifo")
    listing = read_directory(str(tmp_path))
    listener.close()
    assert paths(listing) == ["a.txt"]
    assert set(reasons(listing)) == {"fifo", "sock", "zero"}
    assert set(reasons(listing).values()) == {"it is no regular file"}


@pytest.mark.parametrize(
    "name", [b"\xff.txt", b"a\nb.txt", b"a\\b.txt", b"a\x7f.txt", b"\xc2\x85.txt"], ids=repr
)
def test_names_that_no_request_can_carry_are_left_out(tmp_path: Path, name: bytes) -> None:
    put(tmp_path, "a.txt")
    with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
        pass
    listing = read_directory(str(tmp_path))
    assert paths(listing) == ["a.txt"]
    ((path, reason),) = listing.left_out
    assert reason == "its name cannot stand in a request"
    assert path.isprintable()
    path.encode("utf-8")


def test_paths_longer_than_a_request_may_carry_are_left_out(tmp_path: Path) -> None:
    deep = "/".join(["x" * 200] * 5)
    put(tmp_path, f"{deep}/fits.txt")
    put(tmp_path, f"{deep}/{'y' * 30}.txt")
    listing = read_directory(str(tmp_path))
    assert paths(listing) == [f"{deep}/fits.txt"]
    assert len(listing.left_out) == 1


@pytest.mark.parametrize(
    "path",
    ["a", "a b", "ü/ö", "a%2e", "a..b", "...", "", "a//b", "a/./b", "..", "/a", "a/", "a\x00", "\udcff"],
)
def test_an_address_is_what_the_request_path_rule_says(path: str) -> None:
    try:
        key = asset_key(ASSET_PREFIX + path.encode("utf-8", "surrogateescape").decode("latin-1"))
    except BadRequest:
        key = None
    assert is_address(path) == (key == path)


def test_printable_text_is_left_alone() -> None:
    assert printable("/srv/tiles ü/a b.txt") == "/srv/tiles ü/a b.txt"
    assert printable("/srv/\udcff\n") == "/srv/\\xff\\n"


def test_archives_are_found_with_their_names(tmp_path: Path) -> None:
    put(tmp_path, "world.pmtiles")
    put(tmp_path, "maps/alps.PMTiles")
    listing = read_directory(str(tmp_path), "static")
    assert [archive.name for archive in listing.archives] == ["static/maps/alps", "static/world"]
    assert listing.archives[1].path == str(tmp_path / "world.pmtiles")
    assert paths(listing) == []


@pytest.mark.parametrize("name", ["world.mbtiles", "fonts.zip", "FONTS.ZIP"])
def test_archives_of_later_kinds_are_served_whole(tmp_path: Path, name: str) -> None:
    put(tmp_path, name)
    assert entry_at(read_directory(str(tmp_path)), name).is_archive


def test_precompressed_siblings_are_variants_and_entries(tmp_path: Path) -> None:
    put(tmp_path, "a/x.css", mtime=1000)
    for suffix in (".gz", ".br", ".zst"):
        put(tmp_path, f"a/x.css{suffix}", mtime=1000)
    listing = read_directory(str(tmp_path), "s")
    assert entry_at(listing, "s/a/x.css").variants == (
        ("br", "s/a/x.css.br"),
        ("zstd", "s/a/x.css.zst"),
        ("gzip", "s/a/x.css.gz"),
    )
    assert entry_at(listing, "s/a/x.css.gz").variants == ()
    assert listing.left_out == []


def test_a_sibling_alone_is_a_file_like_any_other(tmp_path: Path) -> None:
    put(tmp_path, "planet.tar.gz")
    assert entry_at(read_directory(str(tmp_path)), "planet.tar.gz").variants == ()


def test_a_sibling_older_than_its_original_is_no_variant(tmp_path: Path) -> None:
    put(tmp_path, "x.css", mtime=2000)
    put(tmp_path, "x.css.br", mtime=1999)
    put(tmp_path, "x.css.gz", mtime=2001)
    listing = read_directory(str(tmp_path))
    assert entry_at(listing, "x.css").variants == (("gzip", "x.css.gz"),)
    assert "x.css.br" in paths(listing)
    assert reasons(listing) == {"x.css.br": "it is older than the file it was made from"}


def test_whole_archives_have_no_variants(tmp_path: Path) -> None:
    put(tmp_path, "a.zip", mtime=1)
    put(tmp_path, "a.zip.gz", mtime=2)
    assert entry_at(read_directory(str(tmp_path)), "a.zip").variants == ()


def test_a_folder_that_cannot_be_read_refuses_the_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "closed/a.txt")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PackError, match="closed cannot be read: Permission denied"):
        read_directory(str(tmp_path))
