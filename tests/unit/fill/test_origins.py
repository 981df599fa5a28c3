"""Origins: the mapping, the allow-list, and what a key becomes in a URL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.config.schema import Edge, Fill, OriginMapping
from edge_server.errors import NotAllowed, NotFound, Rejection
from edge_server.fill.origins import UNLISTED, Origins, Target

ALLOW = ("fonts.example.org", "*.cdn.example.org", "xn--bcher-kva.example", "maps.example.org:8443")
MAPPED = (
    OriginMapping(prefix="fonts/", url="https://fonts.example.org/s"),
    OriginMapping(prefix="fonts/big/", url="https://a.cdn.example.org"),
    OriginMapping(prefix="maps/", url="https://maps.example.org:8443/v1"),
)
MAPPINGS = Origins(Edge(allow=ALLOW, origins=MAPPED), Fill())


def single(*allow: str, insecure_http: bool = False) -> Origins:
    return Origins(Edge(allow=allow), Fill(insecure_http=insecure_http))


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("fonts/a.woff2", "https://fonts.example.org/s/a.woff2"),
        ("fonts/big/a.woff2", "https://a.cdn.example.org/a.woff2"),
        ("fonts/bigger", "https://fonts.example.org/s/bigger"),
        ("maps/0/0/0.mvt", "https://maps.example.org:8443/v1/0/0/0.mvt"),
        ("fonts/ü b?c#d%2e", "https://fonts.example.org/s/%C3%BC%20b%3Fc%23d%252e"),
        ("@fonts.example.org/x/y", "https://fonts.example.org/x/y"),
        ("@FONTS.Example.ORG/x", "https://fonts.example.org/x"),
        ("@fonts.example.org./x", "https://fonts.example.org/x"),
        ("@bücher.example/x", "https://xn--bcher-kva.example/x"),
        ("@BÜCHER.example/x", "https://xn--bcher-kva.example/x"),
        ("@a.b.cdn.example.org/x", "https://a.b.cdn.example.org/x"),
        ("@maps.example.org:8443/x", "https://maps.example.org:8443/x"),
        ("@fonts.example.org:443/x", "https://fonts.example.org/x"),
    ],
)
def test_a_key_becomes_one_url(key: str, url: str) -> None:
    assert MAPPINGS.target(key).url == url


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("other/a", NotFound),
        ("font", NotFound),
        ("@fonts.example.org", NotFound),
        ("@evil.net/x", NotAllowed),
        ("@cdn.example.org/x", NotAllowed),
        ("@evilcdn.example.org/x", NotAllowed),
        ("@fonts.example.org.evil.net/x", NotAllowed),
        ("@fonts.example.org:8443/x", NotAllowed),
        ("@maps.example.org/x", NotAllowed),
        ("@fonts.example.org:80/x", NotAllowed),
        ("@user@fonts.example.org/x", NotAllowed),
        ("@fonts.example.org:443@evil.net/x", NotAllowed),
        ("@fonts.example.org:/x", NotAllowed),
        ("@[::1]/x", NotAllowed),
        ("@127.0.0.1/x", NotAllowed),
        ("@2130706433/x", NotAllowed),
        ("@fonts.example.org\u3002evil.net/x", NotAllowed),
        ("@/x", NotAllowed),
    ],
)
def test_what_is_not_mapped_or_not_allowed_is_refused(key: str, error: type[Rejection]) -> None:
    with pytest.raises(error):
        MAPPINGS.target(key)


def test_one_allowed_host_is_the_origin_of_everything() -> None:
    assert single("a.org").target("x/y").url == "https://a.org/x/y"
    assert single("a.org:8443").target("x/y").url == "https://a.org:8443/x/y"


@pytest.mark.parametrize("allow", [(), ("a.org", "b.org"), ("*.a.org",)])
def test_no_host_is_the_origin_of_everything_if_there_is_not_just_one(allow: tuple[str, ...]) -> None:
    with pytest.raises(NotFound):
        single(*allow).target("x/y")


def test_without_tls_only_if_it_is_allowed() -> None:
    assert single("a.org:80", insecure_http=True).target("@a.org:80/x").url == "http://a.org/x"
    with pytest.raises(NotAllowed):
        single("a.org:80").target("@a.org:80/x")


FIRST = MAPPINGS.target("fonts/dir/a")


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("b", "https://fonts.example.org/s/dir/b"),
        ("/b?v=1%2F2#top", "https://fonts.example.org/b?v=1%2F2"),
        ("//x.cdn.example.org/b", "https://x.cdn.example.org/b"),
        ("https://maps.example.org:8443", "https://maps.example.org:8443/"),
        ("../../../b c", "https://fonts.example.org/b%20c"),
    ],
)
def test_a_redirect_is_resolved_against_where_it_came_from(location: str, url: str) -> None:
    assert MAPPINGS.redirected(FIRST, location).url == url


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.net/b",
        "http://fonts.example.org/b",
        "file:///etc/passwd",
        "ftp://fonts.example.org/b",
        "https://fonts.example.org:8080/b",
        "https://u:p@fonts.example.org/b",
        "https://fonts.example.org\\@evil.net/b",
        "https://[::1/",
        "/" + "a" * 5000,
    ],
)
def test_a_redirect_is_checked_like_the_first_url(location: str) -> None:
    with pytest.raises(NotAllowed):
        MAPPINGS.redirected(FIRST, location)


def test_the_label_of_a_target_is_what_allows_it() -> None:
    assert MAPPINGS.label(MAPPINGS.target("@a.b.cdn.example.org/x")) == "*.cdn.example.org"
    assert MAPPINGS.label(Target("https://evil.net/", "evil.net", 443, True)) == UNLISTED


def test_the_host_field_names_a_port_that_is_not_the_schemes_own() -> None:
    assert MAPPINGS.target("maps/x").authority == "maps.example.org:8443"
    assert MAPPINGS.target("fonts/x").authority == "fonts.example.org"


@given(st.text(max_size=40))
def test_whatever_follows_a_prefix_stays_below_the_origins_url(rest: str) -> None:
    target = MAPPINGS.target("fonts/x" + rest.encode("utf-8", "replace").decode())
    assert target.host in ("fonts.example.org",)
    assert target.request_target.startswith("/s/x")
    assert target.request_target.isascii()
    assert not set(target.request_target) & set(" \r\n?#")


@given(st.text(max_size=40))
def test_a_redirect_never_leaves_the_allow_list(location: str) -> None:
    try:
        target = MAPPINGS.redirected(FIRST, location)
    except NotAllowed:
        return
    assert MAPPINGS.label(target) != UNLISTED
    assert target.is_https
    assert not set(target.request_target) & set(" \r\n#")
