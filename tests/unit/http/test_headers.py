"""Fields that are echoed, and the Host field that is believed or not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.http import headers
from edge_server.http.headers import base_url, no_transform, sane_corr_id

bounded = settings(max_examples=200, deadline=None, derandomize=True)


@pytest.mark.parametrize(
    "value",
    ["a", "0", "A.b_c:d-e", "01J9ZQ3K8R7T6V5X4Y3Z2W1V0T", "a" * 128, "...", "-"],
    ids=lambda v: v[:20],
)
def test_a_sane_correlation_id_is_echoed(value: str) -> None:
    assert sane_corr_id(value) == value


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "a" * 129,
        "a b",
        "a\n",
        "a\r\nX: y",
        "a,b",
        'a"',
        "<script>",
        "{}",
        "a/b",
        "\xe4",
        "\u0661",
        "a\0",
    ],
    ids=lambda value: repr(value)[:20],
)
def test_any_other_correlation_id_is_not(value: str | None) -> None:
    assert sane_corr_id(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("public, max-age=60", "public, max-age=60, no-transform"),
        ("no-transform", "no-transform"),
        ("public, No-Transform", "public, No-Transform"),
        ("x-no-transform", "x-no-transform, no-transform"),
        ("", "no-transform"),
    ],
)
def test_no_transform_is_added_once(value: str, expected: str) -> None:
    assert no_transform(value) == expected
    assert no_transform(no_transform(value)) == expected


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "example.org:8080",
        "example.org.",
        "localhost",
        "localhost:1",
        "a-b.c_d.example",
        "xn--strae-oqa.example",
        "127.0.0.1",
        "127.0.0.1:65535",
        "[::1]",
        "[::1]:8080",
        "[2001:db8::7]",
        "[::ffff:192.0.2.1]:80",
        "1.example",
        "a" * 63 + ".example",
    ],
    ids=lambda host: host[:30],
)
def test_a_host_that_names_one_place_is_believed(host: str) -> None:
    assert base_url(None, "http", host, "http://fallback:1/") == f"http://{host}"
    assert base_url(None, "https", host.upper(), "http://fallback:1/") == f"https://{host}"


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        ":80",
        "example.org:",
        "example.org:0",
        "example.org:65536",
        "example.org:99999",
        "example.org:123456",
        "example.org:8_0",
        "example.org:+80",
        "example.org:80:80",
        "user@example.org",
        "user:pass@example.org",
        "example.org/path",
        "example.org?x",
        "example.org#x",
        "example.org\\x",
        "example.org, other.example",
        "example.org other.example",
        " example.org",
        "example.org\n",
        "example.org\r\nX: y",
        "example.org\0",
        "ex%61mple.org",
        "example!.org",
        "<script>",
        "stra\xdfe.example",
        "..",
        ".",
        ".example.org",
        "example..org",
        "example.org..",
        "-a.example",
        "a-.example",
        "a" * 64 + ".example",
        ".".join(["a" * 63] * 5),
        "a" * 100_000,
        "256.0.0.1",
        "1.2.3",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "1.2.3.4.5",
        "127.0.0.01",
        "127.0.0.1.",
        "::1",
        "[::1",
        "::1]",
        "[]",
        "[:]",
        "[::1]x",
        "[::1]:",
        "[::1%25eth0]",
        "[fe80::1%eth0]",
        "[v1.a]",
        "[127.0.0.1]",
        "[1:2:3:4:5:6:7:8:9]",
        "[example.org]",
    ],
    ids=lambda host: repr(host)[:30],
)
def test_any_other_host_is_not(host: str | None) -> None:
    assert base_url(None, "http", host, "http://fallback:1/") == "http://fallback:1"


def test_the_public_url_wins() -> None:
    assert (
        base_url("https://maps.example/base/", "http", "example.org", "http://f")
        == "https://maps.example/base"
    )
    assert base_url("", "http", "example.org", "http://f") == "http://example.org"


def test_a_scheme_that_is_not_http_is_not_believed() -> None:
    assert base_url(None, "javascript", "example.org", "http://f") == "http://f"


SAFE_URL = re.compile(r"http://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


@bounded
@given(
    st.one_of(
        st.text(alphabet=st.characters(max_codepoint=255), max_size=30),
        st.text(alphabet="ab1.:[]-_%@/x", max_size=20),
    )
)
def test_no_host_leads_to_anything_but_a_plain_url(host: str) -> None:
    assert SAFE_URL.fullmatch(base_url(None, "http", host, "http://fallback"))


def test_constant_fields_are_fit_to_be_sent() -> None:
    constants = [
        value for name, value in vars(headers).items() if name.isupper() and not name.startswith("_")
    ]
    fields = [value for value in constants if isinstance(value, tuple) and isinstance(value[0], str)]
    fields += headers.SECURITY_FIELDS
    assert len(fields) >= 7
    for name, value in fields:
        assert re.fullmatch(r"[A-Za-z-]+", name)
        assert re.fullmatch(r"[\x21-\x7e]+(?: [\x21-\x7e]+)*", value)
