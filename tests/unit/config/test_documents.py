"""Files: values and lines in three languages, keys given twice, and hostile files."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.config.documents import MAX_FILE_BYTES, Document, read_document
from edge_server.config.problems import SettingsError
from edge_server.config.yaml_reader import parse_yaml

bounded = settings(max_examples=200, deadline=None, derandomize=True)

YAML = """\
# comment
bind_addr: 127.0.0.1:80

edge:
  packs:
    - a.pmtiles
    - {path: b, name: c}
  origins:
    - prefix: fonts/
      url: https://x.org
log: {level: info,
      format: json}
"""
TOML = """\
# comment
bind_addr = "127.0.0.1:80"

[edge]
packs = [
    "a.pmtiles",  # ] not the end
    {path = "b", name = "c"},
]
[[edge.origins]]
prefix = "fonts/"
url = '''https://x.org'''
[ "log" ]
level = \"\"\"info\"\"\"
format = "json"
"""
JSON = """{
  "bind_addr": "127.0.0.1:80",

  "edge": {
    "packs": [
      "a.pmtiles",
      {"path": "b", "name": "c"}
    ],
    "origins": [
      {"prefix": "fonts/",
       "url": "https://x.org"}]},
  "log": {"level": "info",
          "format": "json"}
}
"""
VALUES = {
    "bind_addr": "127.0.0.1:80",
    "edge": {
        "packs": ["a.pmtiles", {"path": "b", "name": "c"}],
        "origins": [{"prefix": "fonts/", "url": "https://x.org"}],
    },
    "log": {"level": "info", "format": "json"},
}


def read(folder: Path, name: str, text: str | bytes) -> Document:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(str(path))


def trouble(folder: Path, name: str, text: str | bytes) -> str:
    with pytest.raises(SettingsError) as caught:
        read(folder, name, text)
    message = str(caught.value)
    assert message.startswith(str(folder / name))
    return message.removeprefix(str(folder / name))


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.yaml", YAML, (2, 4, 5, 6, 7, 10, 11, 12)),
        ("a.toml", TOML, (2, 4, 5, 5, 5, 11, 13, 14)),
        ("a.json", JSON, (2, 4, 5, 6, 7, 11, 12, 13)),
    ],
    ids=["yaml", "toml", "json"],
)
def test_values_and_their_lines_are_read(
    tmp_path: Path, name: str, text: str, lines: tuple[int, ...]
) -> None:
    document = read(tmp_path, name, text)
    assert document.values == VALUES
    keys = ("bind_addr", "edge", "edge.packs", "edge.packs[0]", "edge.packs[1].name", "edge.origins[0].url")
    keys += ("log.level", "log.format")
    assert tuple(int(document.place_of(key).rpartition(":")[2]) for key in keys) == lines


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.yaml", "log:\n  level: info\n  level: debug\n", ":3: log.level: is given twice, first in line 2"),
        ("a.yaml", "log: {}\nedge: {}\nlog: {}\n", ":3: log: is given twice, first in line 1"),
        (
            "a.json",
            '{"log": {"level": "info",\n"level": "debug"}}',
            ":2: log.level: is given twice, first in line 1",
        ),
        ("a.toml", "[log]\nlevel = 'info'\nlevel = 'debug'\n", ":3: not TOML, or a key is given twice"),
    ],
    ids=["yaml", "yaml section", "json", "toml"],
)
def test_a_key_given_twice_is_refused_with_its_line(
    tmp_path: Path, name: str, text: str, expected: str
) -> None:
    assert trouble(tmp_path, name, text).startswith(expected)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.yaml", "edge:\n  packs: [*.pmtiles]\n", ":2: "),
        ("a.yaml", "bind_addr: [::1]:80\n", ":1: "),
        ("a.yaml", "a: 1\n b: 2\n", ":2: not YAML"),
        ("a.yaml", "a: !!python/object/apply:os.system [id]\n", ":1: a: the tag"),
        ("a.yaml", "a: !!python/name:os.system x\n", ":1: not YAML"),
        ("a.yaml", "a: 2026-13-45\n", ":1: not YAML"),
        ("a.yaml", "a: 1\n---\nb: 2\n", ":2: only one YAML document"),
        ("a.yaml", "- a\n", ":1: the file must hold keys"),
        ("a.yaml", "? [a]\n: 1\n", ":1: a key must be plain text"),
        ("a.yaml", "a: &x 1\nb: {<<: *x}\n", ":2: << takes a mapping"),
        ("a.yaml", "a: \x07\n", ": not YAML"),
        ("a.json", '{"a": 1,\n "b": }', ":2: not JSON"),
        ("a.json", '{"a": NaN}', ": not JSON: NaN"),
        ("a.json", "[]", ":1: the file must hold keys"),
        ("a.toml", "a = 1\nb = \n", ":2: not TOML"),
        ("a.toml", 'a = "x', ":1: not TOML"),
        ("a.yaml", b"a: 1\nb: \xff\n", ":2: byte 8 is not UTF-8"),
        ("a.ini", "[a]\n", ": give a file that ends in .yaml, .yml, .toml or .json"),
        ("a.yaml", "#" * (MAX_FILE_BYTES + 1), ": a configuration file may have at most 1 MiB"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_malformed_file_is_refused_with_its_line(
    tmp_path: Path, name: str, text: str | bytes, expected: str
) -> None:
    assert trouble(tmp_path, name, text).startswith(expected)


def test_a_glob_without_quotes_is_explained(tmp_path: Path) -> None:
    assert "quotes" in trouble(tmp_path, "a.yaml", "edge:\n  packs:\n    - *.pmtiles\n")
    assert "quotes" in trouble(tmp_path, "b.yaml", "bind_addr: [::1]:80\n")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read_document(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("name", "text"), [("a.yaml", ""), ("a.yaml", "# only\n"), ("a.toml", ""), ("a.json", "{}")]
)
def test_an_empty_file_sets_nothing(tmp_path: Path, name: str, text: str) -> None:
    assert read(tmp_path, name, text).values == {}


def test_a_byte_order_mark_and_crlf_are_no_matter(tmp_path: Path) -> None:
    assert read(tmp_path, "a.toml", b"\xef\xbb\xbfa = 1\r\n[b]\r\nc = 2\r\n").values == {
        "a": 1,
        "b": {"c": 2},
    }


def test_anchors_and_merge_keys_are_followed(tmp_path: Path) -> None:
    text = "a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: {<<: [*x, {f: 4, b: 5}]}\n"
    document = read(tmp_path, "a.yaml", text)
    assert document.values["d"] == {"b": 1, "c": 3}
    assert document.values["e"] == {"b": 1, "c": 2, "f": 4}


def test_interpolation_is_left_as_it_is(tmp_path: Path) -> None:
    assert read(tmp_path, "a.yaml", "a: ${HOME:-x}\n").values == {"a": "${HOME:-x}"}


def test_aliases_that_multiply_stay_small(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    started = time.monotonic()
    document = read(tmp_path, "a.yaml", "\n".join(lines))
    assert time.monotonic() - started < 2
    assert len(document.values) == 60


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "a: " + "[" * 400_000),
        ("a.yaml", "a: " + "{a: " * 200_000),
        ("a.json", '{"a": ' + "[" * 200_000 + "]" * 200_000 + "}"),
        ("a.toml", "a = " + "[" * 200_000 + "]" * 200_000),
    ],
    ids=["yaml lists", "yaml mappings", "json", "toml"],
)
def test_a_file_that_nests_endlessly_is_refused(tmp_path: Path, name: str, text: str) -> None:
    assert "nested too deeply" in trouble(tmp_path, name, text)


def test_an_anchor_inside_itself_is_refused(tmp_path: Path) -> None:
    assert "no value is anchored as &x" in trouble(tmp_path, "a.yaml", "a: &x [*x]\n")


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet="ab.:[]{}#\"'\\\n é", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc\"'é:#[", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@bounded
@given(
    st.dictionaries(st.text("abcé", min_size=1, max_size=4), _plain, max_size=4), st.sampled_from([None, 2])
)
def test_the_lines_of_any_json_are_those_that_yaml_finds(
    tmp_path_factory: pytest.TempPathFactory, value: object, indent: int | None
) -> None:
    text = json.dumps(value, indent=indent)
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(text)
    document = read_document(str(path))
    values, lines = parse_yaml(text)
    assert document.values == value == values
    assert document.lines == lines


@bounded
@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@,? \n\t.", max_size=60))
def test_any_yaml_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("yaml") / "a.yaml"
    path.write_text(text)
    with contextlib.suppress(SettingsError):
        assert isinstance(read_document(str(path)).values, dict)
