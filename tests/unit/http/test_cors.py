"""CORS against the Fetch standard: denied by default, granted by name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.http.cors import DEFAULT_ALLOW_HEADERS, EXPOSED_FIELDS, CorsPolicy

MAPS = "https://maps.example"
LOCAL = "http://localhost:3000"
EXPOSED = ("Access-Control-Expose-Headers", "ETag, Content-Range, Content-Length, Accept-Ranges, X-Corr-ID")
VARY = ("Vary", "Origin")


@pytest.mark.parametrize("origin", [None, "", "null", "*", MAPS])
def test_without_origins_nothing_is_granted_and_nothing_varies(origin: str | None) -> None:
    policy = CorsPolicy([], [], [], 600)
    assert policy.headers_for(origin) == []
    assert policy.preflight(origin, "GET", "range") is None


@pytest.mark.parametrize("origin", [MAPS, LOCAL])
def test_a_listed_origin_is_echoed(origin: str) -> None:
    policy = CorsPolicy([MAPS, LOCAL])
    assert policy.headers_for(origin) == [("Access-Control-Allow-Origin", origin), VARY, EXPOSED]


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "",
        "null",
        "*",
        "http://maps.example",
        "https://maps.example:443",
        "https://maps.example/",
        "https://MAPS.example",
        "https://maps.example.evil.example",
        "https://evil-maps.example",
        "https://sub.maps.example",
        "https://maps.example, https://maps.example",
        "https://maps.example\r\nX: y",
        " https://maps.example",
    ],
    ids=repr,
)
def test_any_other_origin_gets_nothing_but_vary(origin: str | None) -> None:
    policy = CorsPolicy([MAPS, "null"])
    assert policy.headers_for(origin) == [VARY]
    assert policy.preflight(origin, "GET", None) is None


def test_origins_are_configured_in_any_case_and_with_a_slash() -> None:
    assert CorsPolicy(["HTTPS://Maps.Example/"]).headers_for(MAPS)[0] == ("Access-Control-Allow-Origin", MAPS)


@pytest.mark.parametrize("origin", [None, "null", MAPS])
def test_a_star_grants_everyone_alike_so_nothing_varies(origin: str | None) -> None:
    policy = CorsPolicy(["*"])
    assert policy.headers_for(origin) == [("Access-Control-Allow-Origin", "*"), EXPOSED]


def test_a_preflight_for_a_range_is_granted_by_default() -> None:
    policy = CorsPolicy([MAPS], max_age_s=600.5)
    assert policy.preflight(MAPS, "GET", "if-none-match,range") == [
        ("Access-Control-Allow-Origin", MAPS),
        VARY,
        EXPOSED,
        ("Access-Control-Allow-Methods", "GET, HEAD"),
        ("Access-Control-Allow-Headers", ", ".join(DEFAULT_ALLOW_HEADERS)),
        ("Access-Control-Max-Age", "600"),
    ]


def test_without_an_age_the_browser_decides() -> None:
    granted = CorsPolicy([MAPS]).preflight(MAPS, "HEAD", None)
    assert granted is not None
    assert "Access-Control-Max-Age" not in dict(granted)


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        pytest.param(None, "range", id="no preflight at all"),
        pytest.param("", "range", id="an empty method"),
        pytest.param("POST", "range", id="a method not granted"),
        pytest.param("get", "range", id="methods are case-sensitive"),
        pytest.param("GET", "authorization", id="a field not granted"),
        pytest.param("GET", "range,authorization", id="one field not granted"),
        pytest.param("GET", "range,", id="an empty name"),
        pytest.param("GET", "ra nge", id="no name"),
        pytest.param("GET", "range\r\nx", id="a line break"),
        pytest.param("GET", ",".join(["range"] * 66), id="too many names"),
    ],
)
def test_what_is_not_granted_gets_no_cors_field(method: str | None, fields: str) -> None:
    assert CorsPolicy([MAPS]).preflight(MAPS, method, fields) is None
    assert CorsPolicy(["*"]).preflight(MAPS, method, fields) is None


def test_configured_methods_and_fields_replace_the_defaults() -> None:
    policy = CorsPolicy([MAPS], ["GET"], ["X-Map-Key"])
    granted = policy.preflight(MAPS, "GET", "X-MAP-KEY")
    assert granted is not None
    assert dict(granted)["Access-Control-Allow-Methods"] == "GET"
    assert dict(granted)["Access-Control-Allow-Headers"] == "X-Map-Key"
    assert policy.preflight(MAPS, "HEAD", None) is None
    assert policy.preflight(MAPS, "GET", "range") is None


def test_any_field_is_granted_by_its_name() -> None:
    policy = CorsPolicy([MAPS], [], ["*"])
    granted = policy.preflight(MAPS, "GET", "authorization, X-Anything")
    assert granted is not None
    assert dict(granted)["Access-Control-Allow-Headers"] == "authorization, x-anything"
    without = policy.preflight(MAPS, "GET", None)
    assert without is not None
    assert "Access-Control-Allow-Headers" not in dict(without)


def test_a_caller_may_add_to_what_it_gets() -> None:
    for policy in (CorsPolicy([MAPS]), CorsPolicy(["*"]), CorsPolicy()):
        for origin in (MAPS, LOCAL, None):
            before = tuple(policy.headers_for(origin))
            policy.headers_for(origin).append(("X-Other", "1"))
            assert tuple(policy.headers_for(origin)) == before


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=30), st.text(max_size=30))
def test_no_origin_but_a_listed_one_is_ever_echoed(origin: str, fields: str) -> None:
    policy = CorsPolicy([MAPS], allow_headers=["*"])
    if origin != MAPS:
        assert policy.headers_for(origin) == [VARY]
    for _, value in policy.preflight(MAPS, "GET", fields) or []:
        assert value.isascii()
        assert value.isprintable()


def test_the_exposed_fields_are_those_that_map_clients_read() -> None:
    assert EXPOSED[1] == EXPOSED_FIELDS
