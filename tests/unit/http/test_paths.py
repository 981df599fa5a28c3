"""Paths against RFC 3986, and against what a file system would make of them."""

from __future__ import annotations

import posixpath
import time
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.errors import BadRequest, NotFound
from edge_server.http.paths import TileAddress, asset_key, parse_tile

bounded = settings(max_examples=200, deadline=None, derandomize=True)


def path_info(request_path: str) -> str:
    """What a WSGI server makes of a request path: percent-decoded once, latin-1."""
    return unquote_to_bytes(request_path).decode("latin-1")


@pytest.mark.parametrize(
    ("request_path", "key"),
    [
        ("a", "a"),
        ("a/b/c.txt", "a/b/c.txt"),
        ("fonts/Noto%20Sans/0-255.pbf", "fonts/Noto Sans/0-255.pbf"),
        ("Stra%C3%9Fe.png", "Straße.png"),
        ("%E2%82%AC/%F0%9F%97%BA.svg", "€/🗺.svg"),
        ("a%2Fb", "a/b"),
        ("a%252e", "a%2e"),
        ("%252e%252e/a", "%2e%2e/a"),
        ("...", "..."),
        ("a/.../b", "a/.../b"),
        ("..a/b..", "..a/b.."),
        (".hidden", ".hidden"),
        ("a%3Fb%23c", "a?b#c"),
        ("a;v=1/b", "a;v=1/b"),
        ("a:b", "a:b"),
        ("~user/$x", "~user/$x"),
        ("x" * 1024, "x" * 1024),
    ],
    ids=lambda value: value[:30],
)
def test_a_path_is_decoded_once(request_path: str, key: str) -> None:
    assert asset_key("/edge/assets/" + path_info(request_path)) == key


@pytest.mark.parametrize(
    "request_path",
    [
        pytest.param("", id="nothing"),
        pytest.param(".", id="dot"),
        pytest.param("..", id="dot dot"),
        pytest.param("../etc/passwd", id="up at the start"),
        pytest.param("a/../../etc/passwd", id="up in the middle"),
        pytest.param("a/..", id="up at the end"),
        pytest.param("a/./b", id="dot in the middle"),
        pytest.param("%2e%2e/a", id="encoded dots"),
        pytest.param("%2e%2E%2fa", id="encoded dots and slash"),
        pytest.param("a%2f..%2fb", id="encoded slashes"),
        pytest.param("/a", id="slash at the start"),
        pytest.param("%2Fetc/passwd", id="encoded slash at the start"),
        pytest.param("a/", id="slash at the end"),
        pytest.param("a//b", id="two slashes"),
        pytest.param("a/%2F/b", id="three slashes"),
        pytest.param("/", id="a slash"),
        pytest.param("a%00.png", id="NUL"),
        pytest.param("a%0Ab", id="line feed"),
        pytest.param("a%0D%0ASet-Cookie:x", id="CRLF"),
        pytest.param("..%0A", id="dots and a line feed"),
        pytest.param("a%09b", id="tab"),
        pytest.param("a%1Fb", id="unit separator"),
        pytest.param("a%7Fb", id="DEL"),
        pytest.param("a%C2%85b", id="C1 next line"),
        pytest.param("a%5Cb", id="backslash"),
        pytest.param("..%5C..%5Ca", id="backslashes and dots"),
        pytest.param("%FF", id="no UTF-8"),
        pytest.param("%C3", id="cut UTF-8"),
        pytest.param("%C0%AE%C0%AE/a", id="overlong dots"),
        pytest.param("%C0%AF", id="overlong slash"),
        pytest.param("%E0%80%AF", id="overlong slash in three bytes"),
        pytest.param("%ED%A0%80", id="surrogate"),
        pytest.param("%F4%90%80%80", id="beyond Unicode"),
        pytest.param("x" * 1025, id="1025 bytes"),
        pytest.param("%C3%9F" * 513, id="1026 bytes of 513 letters"),
    ],
)
def test_what_could_mean_something_else_is_refused(request_path: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        asset_key("/edge/assets/" + path_info(request_path))
    assert (refusal.value.status, refusal.value.reason) == (400, "bad_request")


@pytest.mark.parametrize(
    "path", ["", "/", "/edge/assets", "/edge/assetsx/a", "/healthz", "edge/assets/a", "/EDGE/assets/a"]
)
def test_what_is_not_under_the_assets_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        asset_key(path)


def test_text_that_no_wsgi_server_passes_is_refused_too() -> None:
    with pytest.raises(BadRequest):
        asset_key("/edge/assets/\u20ac")


pieces = st.sampled_from(
    ["..", ".", "/", "\\", "a", "%2e", "\xc3\xa9", "\xc0\xae", "\xff", "\0", "~", "...", " ", "\xe2\x80\xa8"]
)


@bounded
@given(
    st.one_of(st.lists(pieces, max_size=12).map("".join), st.text(alphabet=st.characters(max_codepoint=255)))
)
def test_no_path_leaves_its_folder_or_has_two_spellings(text: str) -> None:
    try:
        key = asset_key("/edge/assets/" + text)
    except BadRequest:
        return
    root = "/srv/pack"
    assert posixpath.join(root, key) == root + "/" + key
    assert posixpath.normpath(root + "/" + key) == root + "/" + key
    assert key.encode("utf-8").decode("latin-1") == text
    assert not set(key) & {chr(number) for number in (*range(32), *range(127, 160), ord("\\"))}


@bounded
@given(
    st.lists(
        st.text(alphabet="abcé€🗺 .-_%", min_size=1, max_size=8).filter(lambda s: s.strip(".")),
        min_size=1,
        max_size=6,
    )
)
def test_every_plain_path_passes_unchanged(segments: list[str]) -> None:
    key = "/".join(segments)
    assert asset_key("/edge/assets/" + key.encode("utf-8").decode("latin-1")) == key


@pytest.mark.parametrize(
    ("rest", "address"),
    [
        ("world/0/0/0.mvt", ("world", 0, 0, 0, "mvt")),
        ("world/14/8529/5975.pbf", ("world", 14, 8529, 5975, "pbf")),
        ("maps/europe/3/7/7.png", ("maps/europe", 3, 7, 7, "png")),
        ("1/2/3/4/2/1/3.jpg", ("1/2/3/4", 2, 1, 3, "jpg")),
        ("w.x-y z/1/0/1.webp", ("w.x-y z", 1, 0, 1, "webp")),
        ("welt-€/1/0/1.webp", ("welt-€", 1, 0, 1, "webp")),
        ("w/31/2147483647/2147483647.mvt", ("w", 31, 2**31 - 1, 2**31 - 1, "mvt")),
        ("w/31/2147483648/0.mvt", None),
        ("w/31/0/2147483648.mvt", None),
        ("w/32/0/0.mvt", None),
        ("w/99/0/0.mvt", None),
        ("w/0/1/0.mvt", None),
        ("w/3/8/0.mvt", None),
        ("w/3/0/8.mvt", None),
        ("w/03/0/0.mvt", None),
        ("w/3/00/0.mvt", None),
        ("w/3/0/01.mvt", None),
        ("w/3/+1/0.mvt", None),
        ("w/3/-1/0.mvt", None),
        ("w/3/1_0/0.mvt", None),
        ("w/3/ 1/0.mvt", None),
        ("w/3/1.0/0.mvt", None),
        ("w/3/\u0661/0.mvt", None),
        ("w/3/\xb2/0.mvt", None),
        ("w/3/0/0", None),
        ("w/3/0/0.", None),
        ("w/3/0/.mvt", None),
        ("w/3/0/0.mvt.gz", None),
        ("w/3/0/0@2x.png", None),
        ("w/3/0/0.mvt/", None),
        ("w/3/0.mvt", None),
        ("3/0/0.mvt", None),
        ("/3/0/0.mvt", None),
        ("w/3/0/0.mvt\n", None),
        ("", None),
        ("w/3/" + "9" * 1000 + "/0.mvt", None),
    ],
    ids=lambda value: value[:24] or "empty" if isinstance(value, str) else None,
)
def test_tiles_are_addressed_in_one_way(rest: str, address: tuple[str, int, int, int, str] | None) -> None:
    assert parse_tile(rest) == address


@bounded
@given(st.integers(0, 31), st.data(), st.sampled_from(["mvt", "pbf", "png"]))
def test_every_tile_of_the_grid_has_its_address(z: int, data: st.DataObject, extension: str) -> None:
    x, y = data.draw(st.integers(0, 2**z - 1)), data.draw(st.integers(0, 2**z - 1))
    assert parse_tile(f"world/{z}/{x}/{y}.{extension}") == TileAddress("world", z, x, y, extension)
    assert parse_tile(f"world/{z}/{x + 2**z}/{y}.{extension}") is None
    assert parse_tile(f"world/{z}/{x}/{y + 2**z}.{extension}") is None


@pytest.mark.parametrize(
    "rest", ["1/" * 511 + "1.", "/" * 1024, "1" * 1024, "a/1/1/" * 170], ids=lambda rest: rest[:8]
)
def test_the_longest_paths_are_judged_at_once(rest: str) -> None:
    before = time.process_time()
    for _ in range(100):
        parse_tile(rest)
    assert time.process_time() - before < 1
