"""Addresses, hosts, networks, origins and URLs as settings give them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.config import addresses
from edge_server.config.addresses import Address

bounded = settings(max_examples=200, deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        ("[::1]:8080", Address("::1", 8080)),
        ("[2001:DB8:0:0::1]:443", Address("2001:db8::1", 443)),
        ("localhost:65535", Address("localhost", 65535)),
        (" edge.Example.org:80 ", Address("edge.example.org", 80)),
    ],
    ids=str,
)
def test_an_address_is_host_and_port(text: str, address: Address) -> None:
    assert addresses.parse_address(text) == address
    assert addresses.parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        ":8080",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:http",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:8_0",
        "::1:8080",
        "[::1]",
        "[::g]:80",
        "256.0.0.1:80",
        "1.2.3:80",
        "a b:80",
        "-x:80",
        "x..y:80",
        "127.0.0.1:٨٠",
    ],
    ids=repr,
)
def test_what_is_not_an_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        addresses.parse_address(text)


@pytest.mark.parametrize(
    ("address", "is_loopback", "is_wildcard"),
    [
        ("127.0.0.1:1", True, False),
        ("127.9.9.9:1", True, False),
        ("[::1]:1", True, False),
        ("localhost:1", True, False),
        ("0.0.0.0:1", False, True),
        ("[::]:1", False, True),
        ("10.0.0.1:1", False, False),
        ("edge.example.org:1", False, False),
    ],
)
def test_an_address_knows_who_can_reach_it(address: str, is_loopback: bool, is_wildcard: bool) -> None:
    parsed = addresses.parse_address(address)
    assert (parsed.is_loopback, parsed.is_wildcard) == (is_loopback, is_wildcard)


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("[::]:8080", "[::1]:8080"),
        ("192.0.2.7:8080", "192.0.2.7:8080"),
        ("edge.example:8080", "edge.example:8080"),
    ],
)
def test_a_wildcard_is_reached_over_the_loopback(address: str, reached: str) -> None:
    assert str(addresses.parse_address(address).from_here) == reached


@pytest.mark.parametrize(
    ("given_name", "name"),
    [
        ("Tiles.Example.ORG", "tiles.example.org"),
        ("tiles.example.org.", "tiles.example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("*.example.org", "*.example.org"),
        ("*.Bücher.example", "*.xn--bcher-kva.example"),
        ("A.org:8443", "a.org:8443"),
        ("*.a.org:0443", "*.a.org:443"),
    ],
)
def test_a_host_is_compared_as_a_labels(given_name: str, name: str) -> None:
    assert addresses.normalize_host_pattern(given_name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "*",
        "*.",
        "a.*.org",
        "*example.org",
        "https://a.org",
        "a.org:",
        "a.org:0",
        "a.org:65536",
        "a.org:x",
        "[::1]:443",
        "a.org/x",
        "a b.org",
        "-a.org",
        "a" * 64 + ".org",
        "a..org",
        "⒈.example",
        "user@a.org",
    ],
    ids=repr,
)
def test_what_is_not_a_host_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        addresses.normalize_host_pattern(name)


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("tiles.example.org", True),
        ("a.cdn.example.org", True),
        ("a.b.cdn.example.org", True),
        ("cdn.example.org", False),
        ("evilcdn.example.org", False),
        ("tiles.example.org.evil.net", False),
        ("x.tiles.example.org", False),
    ],
)
def test_an_asterisk_matches_subdomains_only(host: str, is_allowed: bool) -> None:
    pattern = addresses.allowing_pattern(host, 443, ("tiles.example.org", "*.cdn.example.org"))
    assert (pattern is not None) is is_allowed


@pytest.mark.parametrize(
    ("port", "own_port", "pattern"),
    [
        (443, 443, "a.org"),
        (80, 80, "a.org"),
        (80, 443, None),
        (443, 80, "a.org:443"),
        (8443, 443, "a.org:8443"),
        (8444, 443, None),
    ],
)
def test_a_port_other_than_the_schemes_own_must_be_named(
    port: int, own_port: int, pattern: str | None
) -> None:
    patterns = ("a.org", "a.org:8443", "a.org:443")
    assert addresses.allowing_pattern("a.org", port, patterns, own_port) == pattern


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Maps.Example.org", "https://maps.example.org"),
        ("https://maps.example.org:443", "https://maps.example.org"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("*", "*"),
    ],
)
def test_an_origin_is_written_as_browsers_send_it(text: str, origin: str) -> None:
    assert addresses.normalize_cors_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "maps.example.org",
        "https://",
        "https://a.org/",
        "https://a.org/x",
        "https://u@a.org",
        "ftp://a.org",
        "https://*.a.org",
        "https://a.org:x",
        "https://a.org\r\nX: y",
    ],
    ids=repr,
)
def test_what_is_not_an_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        addresses.normalize_cors_origin(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://Fonts.gstatic.com/s/", "https://fonts.gstatic.com/s"),
        ("http://a.org:8080", "http://a.org:8080"),
        ("https://bücher.example/A", "https://xn--bcher-kva.example/A"),
    ],
)
def test_a_url_is_normalised(text: str, url: str) -> None:
    assert addresses.normalize_http_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.org",
        "file:///etc",
        "https://a.org/?x",
        "https://a.org/#x",
        "https://u:p@a.org/",
        "https://a.org/a b",
    ],
)
def test_what_is_not_an_http_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        addresses.normalize_http_url(text)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "x", "fd00::/129", ""])
def test_a_network_with_bits_outside_its_prefix_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        addresses.normalize_cidr(text)


@bounded
@given(st.text(max_size=30))
def test_any_text_is_read_or_is_a_value_error(text: str) -> None:
    for read in (
        addresses.parse_address,
        addresses.normalize_host_pattern,
        addresses.normalize_cors_origin,
        addresses.normalize_http_url,
        addresses.normalize_cidr,
    ):
        try:
            read(text)
        except ValueError:
            pass
