"""Mounting: patterns, names, precedence, conflicts, and what the log is told."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from edge_server.errors import PackError
from edge_server.packs.mount import mount
from edge_server.packs.reader import Pack, PackSpec
from tests.archives import build

ARCHIVE = build({1: b"a", 2: b"b", 3: b"b"})


class Told:
    """Events in the order they came; all from the thread that mounts."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, object]]] = []

    def __call__(self, name: str, fields: Mapping[str, object]) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.events.append((name, fields))

    def warnings(self) -> list[Mapping[str, object]]:
        return [fields for _, fields in self.events if fields.get("level") == "warning"]


def mounted(*specs: PackSpec | Path | str, verify: str = "none", told: Told | None = None) -> list[Pack]:
    elements = [spec if isinstance(spec, PackSpec) else PackSpec(str(spec)) for spec in specs]
    return mount(elements, verify=verify, on_event=told or Told())


def names(packs: list[Pack]) -> list[str]:
    return [pack.name for pack in packs]


def put(root: Path, path: str, data: bytes = ARCHIVE) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def test_nothing_asked_for_is_nothing_mounted() -> None:
    assert mounted() == []


def test_an_archive_is_named_after_its_file(tmp_path: Path) -> None:
    put(tmp_path, "world.v3.pmtiles")
    put(tmp_path, "ALPS.PMTILES")
    packs = mounted(tmp_path / "world.v3.pmtiles", tmp_path / "ALPS.PMTILES")
    assert names(packs) == ["world.v3", "ALPS"]
    assert packs[0].path == str(tmp_path / "world.v3.pmtiles")


def test_a_link_gives_its_own_name(tmp_path: Path) -> None:
    put(tmp_path, "world-2026.pmtiles")
    (tmp_path / "world.pmtiles").symlink_to("world-2026.pmtiles")
    assert names(mounted(tmp_path / "world.pmtiles")) == ["world"]


def test_a_name_overrides(tmp_path: Path) -> None:
    put(tmp_path, "world.pmtiles")
    put(tmp_path, "assets/a.css")
    packs = mounted(
        PackSpec(str(tmp_path / "world.pmtiles"), name="maps/base"),
        PackSpec(str(tmp_path / "assets"), name="static"),
    )
    assert [entry.path for pack in packs for entry in pack.entries] == [
        "maps/base.pmtiles",
        "maps/base/metadata.json",
        "static/a.css",
    ]


def test_a_pattern_mounts_what_matches_in_order(tmp_path: Path) -> None:
    for name in ("c", "a", "b", ".hidden"):
        put(tmp_path, f"{name}.pmtiles")
    put(tmp_path, "a.txt", b"text")
    assert names(mounted(f"{tmp_path}/*.pmtiles")) == ["a", "b", "c"]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path: Path) -> None:
    put(tmp_path, "[a].pmtiles")
    put(tmp_path, "a.pmtiles")
    assert names(mounted(tmp_path / "[a].pmtiles")) == ["[a]"]


def test_a_tilde_is_a_name_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "home", "world.pmtiles")
    put(tmp_path / "here/~", "own.pmtiles")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    assert names(mounted("~/*.pmtiles")) == ["own"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nothing.pmtiles", "no such file or directory"),
        ("*.nothing", "matches this pattern"),
        ("dangling.pmtiles", "cannot be opened: No such file"),
        ("a.mbtiles", r"mounts directories and \.pmtiles archives; \.mbtiles files in a mounted directory"),
        ("a.ZIP", r"mounts directories and \.pmtiles archives; \.zip"),
        ("a.txt", r"is neither\. This version mounts directories and \.pmtiles archives"),
        ("a.pmtiles", "does not begin with PMTiles"),
    ],
)
def test_what_cannot_be_mounted_is_named(tmp_path: Path, path: str, reason: str) -> None:
    for name in ("a.mbtiles", "a.ZIP", "a.txt", "a.pmtiles"):
        put(tmp_path, name, b"SQLite format 3" * 20)
    (tmp_path / "dangling.pmtiles").symlink_to("away")
    with pytest.raises(PackError, match=reason) as caught:
        mounted(tmp_path / path)
    assert caught.value.pack == str(tmp_path / path)
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("name", ["/a", "a/", "a//b", "../a", "a/..", ".", "a\nb", "a\\b", "x" * 1025])
def test_a_name_that_no_request_can_carry_is_refused(tmp_path: Path, name: str) -> None:
    put(tmp_path, "world.pmtiles")
    put(tmp_path, "assets/a.css")
    for path in ("world.pmtiles", "assets"):
        with pytest.raises(PackError, match="cannot be a name"):
            mounted(PackSpec(str(tmp_path / path), name=name))


def test_one_name_for_several_packs_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "a.pmtiles")
    put(tmp_path, "b.pmtiles")
    with pytest.raises(PackError, match="2 packs match and cannot share the name 'base'"):
        mounted(PackSpec(f"{tmp_path}/*.pmtiles", name="base"))
    assert names(mounted(PackSpec(f"{tmp_path}/a*.pmtiles", name="base"))) == ["base"]


def test_a_file_listed_twice_is_mounted_once(tmp_path: Path) -> None:
    put(tmp_path, "a.pmtiles")
    (tmp_path / "link.pmtiles").symlink_to("a.pmtiles")
    packs = mounted(
        tmp_path / "a.pmtiles", f"{tmp_path}/*.pmtiles", f"{tmp_path}/../{tmp_path.name}/a.pmtiles"
    )
    assert names(packs) == ["a"]


def test_the_mention_with_a_name_wins(tmp_path: Path) -> None:
    put(tmp_path, "a.pmtiles")
    put(tmp_path, "b.pmtiles")
    packs = mounted(f"{tmp_path}/*.pmtiles", PackSpec(str(tmp_path / "a.pmtiles"), name="base"))
    assert names(packs) == ["base", "b"]


def test_two_names_for_one_file_are_refused(tmp_path: Path) -> None:
    path = str(put(tmp_path, "a.pmtiles"))
    with pytest.raises(PackError, match="listed twice, as 'one' and as 'two'"):
        mounted(PackSpec(path, name="one"), PackSpec(path, name="two"))


def test_archives_in_a_directory_are_packs_behind_it(tmp_path: Path) -> None:
    put(tmp_path, "data/maps/world.pmtiles")
    put(tmp_path, "data/a.css")
    assert names(mounted(tmp_path / "data")) == ["", "maps/world"]
    assert names(mounted(PackSpec(str(tmp_path / "data"), name="s"))) == ["s", "s/maps/world"]


def test_an_archive_listed_and_found_in_a_directory_is_the_listed_one(tmp_path: Path) -> None:
    put(tmp_path, "data/world.pmtiles")
    put(tmp_path, "data/other.pmtiles")
    packs = mounted(tmp_path / "data", PackSpec(str(tmp_path / "data/world.pmtiles"), name="base"))
    assert names(packs) == ["", "other", "base"]
    assert names(mounted(tmp_path / "data", tmp_path / "data/world.pmtiles")) == ["", "other", "world"]


def test_a_damaged_archive_in_a_directory_refuses_the_mount(tmp_path: Path) -> None:
    put(tmp_path, "data/world.pmtiles", ARCHIVE[:100])
    with pytest.raises(PackError, match="header alone"):
        mounted(tmp_path / "data")


def test_directories_without_names_share_the_top(tmp_path: Path) -> None:
    put(tmp_path, "one/a.css")
    put(tmp_path, "two/b.css")
    assert names(mounted(tmp_path / "one", tmp_path / "two")) == ["", ""]


def test_two_packs_of_one_name_are_refused_with_both_paths(tmp_path: Path) -> None:
    put(tmp_path, "one/world.pmtiles")
    put(tmp_path, "two/world.pmtiles")
    with pytest.raises(
        PackError, match=r"two/world.pmtiles: has the name 'world', as has .*one/world.pmtiles"
    ):
        mounted(f"{tmp_path}/*/world.pmtiles")


@pytest.mark.parametrize("path", ["a.css", "world.pmtiles", "world.json", "world/metadata.json"])
def test_two_packs_with_one_path_are_refused_with_both_paths(tmp_path: Path, path: str) -> None:
    put(tmp_path, "one/a.css")
    put(tmp_path, "one/world.pmtiles")
    put(tmp_path, f"two/{path}")
    with pytest.raises(PackError, match=f"two.*(holds '{path}'|has the name 'world').*one"):
        mounted(tmp_path / "one", tmp_path / "two")


def test_a_document_beside_its_archive_is_a_conflict(tmp_path: Path) -> None:
    put(tmp_path, "world.pmtiles")
    put(tmp_path, "world.json")
    with pytest.raises(PackError, match=r"world.pmtiles: holds 'world.json'"):
        mounted(tmp_path)


def test_a_file_at_a_tile_address_is_no_conflict(tmp_path: Path) -> None:
    put(tmp_path, "world.pmtiles")
    put(tmp_path, "world/1/0/0.mvt")
    packs = mounted(tmp_path)
    assert [entry.path for entry in packs[0].entries] == ["world/1/0/0.mvt"]


def test_the_log_is_told_of_each_pack(tmp_path: Path) -> None:
    put(tmp_path, "data/world.pmtiles")
    put(tmp_path, "data/a.css", b"12345")
    told = Told()
    mounted(tmp_path / "data", verify="index", told=told)
    mounts = [fields for name, fields in told.events if name == "pack_mount"]
    assert [
        (fields["kind"], fields["name"], fields["entries"], fields["tiles"], fields["bytes"])
        for fields in mounts
    ] == [
        ("directory", "", 1, 0, 5),
        ("pmtiles", "world", 2, 3, len(ARCHIVE)),
    ]
    verified = [fields["pack"] for name, fields in told.events if name == "pack_verify"]
    assert verified == [str(tmp_path / "data"), str(tmp_path / "data/world.pmtiles")]


def test_the_log_is_told_of_left_out_files_but_not_flooded(tmp_path: Path) -> None:
    for place in range(50):
        (tmp_path / f"link{place}").symlink_to("/etc/passwd")
    told = Told()
    mounted(tmp_path, told=told)
    warnings = told.warnings()
    assert len(warnings) == 21
    assert warnings[0]["reason"] == "its link leads out of the directory"
    assert warnings[-1]["reason"] == "30 more left out"


def test_an_element_chooses_its_own_verification(tmp_path: Path) -> None:
    put(tmp_path, "one/a.css")
    put(tmp_path, "two/b.css")
    one, two = mounted(PackSpec(str(tmp_path / "one"), verify="full"), tmp_path / "two", verify="none")
    assert one.entries[0].digest is not None
    assert two.entries[0].digest is None


def test_no_thread_is_left_behind(tmp_path: Path) -> None:
    for place in range(300):
        put(tmp_path, f"data/{place}.bin", bytes(place))
    before = threading.active_count()
    mounted(tmp_path / "data", verify="full")
    assert threading.active_count() == before
