"""RFC 9111 as a table: what may be stored, how long it is fresh, how old it is, what a request changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.fill.cache_control import MAX_DELTA_S, request_directives, response_directives
from edge_server.fill.fields import Field
from edge_server.fill.freshness import (
    HEURISTIC_MAX_S,
    Verdict,
    current_age_s,
    initial_age_s,
    lifetime_s,
    may_store,
    verdict,
)
from edge_server.http.dates import http_date

NOW_S = 1_800_000_000
NOW_MS = NOW_S * 1000
DATE = ("Date", http_date(NOW_S))


def at(seconds: int) -> str:
    return http_date(NOW_S + seconds)


def cc(value: str) -> list[Field]:
    return [DATE, ("Cache-Control", value)]


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        pytest.param(cc("max-age=60"), 60, id="4.2.1 max-age"),
        pytest.param(cc("max-age=60, s-maxage=10"), 10, id="4.2.1 s-maxage wins in a shared cache"),
        pytest.param([*cc("max-age=60"), ("Expires", at(900))], 60, id="5.3 max-age wins over Expires"),
        pytest.param([DATE, ("Expires", at(90))], 90, id="4.2.1 Expires minus Date"),
        pytest.param([("Expires", at(90))], 90, id="4.2.1 Expires without Date"),
        pytest.param([DATE, ("Expires", at(-90))], 0, id="4.2.1 Expires in the past"),
        pytest.param([DATE, ("Expires", "0")], 0, id="5.3 an invalid date is the past"),
        pytest.param([DATE, ("Expires", at(9)), ("Expires", at(99))], 0, id="4.2.1 two that differ"),
        pytest.param(cc("max-age=60, max-age=10"), 10, id="4.2.1 twice: the stricter"),
        pytest.param(cc("max-age=sixty"), 0, id="4.2.1 unreadable is stale"),
        pytest.param(cc("max-age=-1"), 0, id="1.2.2 no negative numbers"),
        pytest.param(cc("max-age=1.5"), 0, id="1.2.2 no fractions"),
        pytest.param(cc('max-age="60"'), 60, id="5.2 the quoted form is taken"),
        pytest.param(cc("MAX-AGE=60"), 60, id="5.2 names in any case"),
        pytest.param(cc("max-age=99999999999999999999"), MAX_DELTA_S, id="1.2.2 too large a number"),
        pytest.param(cc(',, a="x, max-age=5", max-age=60'), 60, id="5.2 a comma within quotes"),
        pytest.param([DATE, ("Last-Modified", at(-1000))], 100, id="4.2.2 a tenth of its age"),
        pytest.param([DATE, ("Last-Modified", at(-(10**8)))], HEURISTIC_MAX_S, id="4.2.2 bounded"),
        pytest.param([DATE, ("Last-Modified", at(60))], 0, id="4.2.2 modified in the future"),
        pytest.param([DATE], 0, id="4.2.2 nothing to guess from"),
        pytest.param(cc("immutable"), HEURISTIC_MAX_S, id="RFC 8246 immutable without a time"),
        pytest.param(cc("immutable, max-age=5"), 5, id="RFC 8246 a time given counts"),
        pytest.param([("Date", "yesterday"), ("Expires", at(90))], 90, id="RFC 9110 6.6.1 an invalid Date"),
    ],
)
def test_how_long_a_response_is_fresh(fields: list[Field], seconds: int) -> None:
    assert lifetime_s(fields, NOW_MS) == seconds


def test_nothing_is_guessed_where_that_is_off() -> None:
    assert lifetime_s([DATE, ("Last-Modified", at(-1000))], NOW_MS, heuristic=False) == 0


@pytest.mark.parametrize(
    ("status", "fields", "is_allowed"),
    [
        pytest.param(200, cc("max-age=60"), True, id="3"),
        pytest.param(200, [DATE], True, id="3 nothing forbids it"),
        pytest.param(200, cc("no-store"), False, id="5.2.2.5 no-store"),
        pytest.param(200, cc("max-age=60, No-Store"), False, id="5.2.2.5 in any case"),
        pytest.param(200, cc("private"), False, id="5.2.2.7 private"),
        pytest.param(200, cc('private="x-user"'), False, id="5.2.2.7 private with fields"),
        pytest.param(200, cc("no-cache"), True, id="5.2.2.4 no-cache is stored, and revalidated"),
        pytest.param(200, cc("must-understand, no-store"), True, id="5.2.2.3 must-understand, understood"),
        pytest.param(206, cc("must-understand, no-store"), False, id="5.2.2.3 not understood"),
        pytest.param(206, cc("max-age=60"), False, id="3.3 incomplete"),
        pytest.param(500, cc("max-age=60"), False, id="3 a status not understood"),
        pytest.param(404, [DATE], True, id="RFC 9110 15.1 404"),
        pytest.param(200, [*cc("max-age=60"), ("Vary", "Accept, *")], False, id="4.1 Vary: *"),
        pytest.param(
            200, [("Cache-Control", "max-age=9"), ("Cache-Control", "no-store")], False, id="5.2 twice"
        ),
    ],
)
def test_what_may_be_stored(status: int, fields: list[Field], is_allowed: bool) -> None:
    assert may_store(status, fields) is is_allowed


@pytest.mark.parametrize("value", ["max-age=60", "public, max-age=60", "s-maxage=60", "must-revalidate"])
def test_an_answer_to_credentials_is_never_stored(value: str) -> None:
    assert not may_store(200, cc(value), has_authorization=True)


def test_a_request_can_forbid_storing() -> None:
    assert not may_store(200, cc("max-age=60"), request_cache_control="no-store")


@pytest.mark.parametrize(
    ("fields", "delay_ms", "seconds"),
    [
        pytest.param([DATE], 0, 0, id="made now"),
        pytest.param([("Date", at(-7))], 0, 7, id="4.2.3 apparent age"),
        pytest.param([("Date", at(7))], 0, 0, id="4.2.3 a clock ahead"),
        pytest.param([DATE, ("Age", "30")], 0, 30, id="4.2.3 Age"),
        pytest.param([DATE, ("Age", "30")], 1500, 32, id="4.2.3 response delay, rounded up"),
        pytest.param([DATE, ("Age", "-3")], 0, 0, id="5.1 an invalid Age"),
        pytest.param([DATE, ("Age", "abc")], 0, 0, id="5.1 an Age that is no number"),
        pytest.param([DATE, ("Age", "5, 9")], 0, 5, id="5.1 of a list the first"),
        pytest.param([DATE, ("Age", "5"), ("Age", "9")], 0, 5, id="5.1 of several fields the first"),
        pytest.param([], 0, 0, id="RFC 9110 6.6.1 no Date"),
    ],
)
def test_how_old_a_response_is_when_it_comes(fields: list[Field], delay_ms: int, seconds: int) -> None:
    assert initial_age_s(fields, NOW_MS - delay_ms, NOW_MS) == seconds


def test_a_stored_response_ages_and_never_grows_younger() -> None:
    assert current_age_s(5, NOW_MS, NOW_MS + 2999) == 7
    assert current_age_s(5, NOW_MS, NOW_MS - 60_000) == 5


FRESH, STALE = Verdict.FRESH, Verdict.STALE_REVALIDATE_IN_BACKGROUND
AGAIN, MISS = Verdict.MUST_REVALIDATE, Verdict.MISS


@pytest.mark.parametrize(
    ("age", "request_cc", "facts", "expected"),
    [
        pytest.param(59, "", {}, FRESH, id="4.2 fresh"),
        pytest.param(60, "", {}, STALE, id="RFC 5861 3 stale while it is revalidated"),
        pytest.param(89, "", {}, STALE, id="RFC 5861 3 the window's end"),
        pytest.param(90, "", {}, AGAIN, id="4.2.4 past the window"),
        pytest.param(90, "", {"has_validator": False}, MISS, id="4.3.1 nothing to revalidate with"),
        pytest.param(60, "", {"must_revalidate": True}, AGAIN, id="5.2.2.2 must-revalidate"),
        pytest.param(59, "", {"must_revalidate": True}, FRESH, id="5.2.2.2 while it is fresh"),
        pytest.param(0, "", {"no_cache": True}, AGAIN, id="5.2.2.4 no-cache of the response"),
        pytest.param(0, "no-cache", {}, AGAIN, id="5.2.1.4 no-cache of the request"),
        pytest.param(10, "max-age=10", {}, FRESH, id="5.2.1.1 not older than wanted"),
        pytest.param(11, "max-age=10", {}, AGAIN, id="5.2.1.1 older than wanted"),
        pytest.param(0, "max-age=0", {}, FRESH, id="5.2.1.1 max-age=0 and age 0"),
        pytest.param(70, "max-age=100", {}, AGAIN, id="5.2.1.1 not stale either"),
        pytest.param(70, "max-age=100, max-stale=20", {}, STALE, id="5.2.1.2 unless max-stale too"),
        pytest.param(40, "min-fresh=19", {}, FRESH, id="5.2.1.3 fresh for long enough"),
        pytest.param(40, "min-fresh=20", {}, AGAIN, id="5.2.1.3 not for long enough"),
        pytest.param(500, "max-stale", {}, STALE, id="5.2.1.2 of any staleness"),
        pytest.param(70, "max-stale=10", {}, STALE, id="5.2.1.2 stale within what is taken"),
        pytest.param(500, "max-stale=10", {}, AGAIN, id="5.2.1.2 too stale"),
        pytest.param(70, "max-stale", {"must_revalidate": True}, AGAIN, id="5.2.2.2 wins over max-stale"),
        pytest.param(0, "no-store", {}, FRESH, id="5.2.1.5 no-store does not forbid reading"),
        pytest.param(0, "unknown=1", {}, FRESH, id="5.2.3 unknown directives"),
    ],
)
def test_what_is_done_with_a_stored_response(
    age: int, request_cc: str, facts: dict[str, bool], expected: Verdict
) -> None:
    found = verdict(
        stored_ms=NOW_MS,
        age_s=0,
        fresh_ms=NOW_MS + 60_000,
        swr_ms=NOW_MS + 90_000,
        now_ms=NOW_MS + 1000 * age,
        request_cache_control=request_cc,
        **facts,
    )
    assert found is expected


def test_only_if_cached_is_read() -> None:
    assert request_directives("max-stale, only-if-cached").only_if_cached


@given(st.text(max_size=80))
def test_any_text_is_read_as_directives_in_no_time(value: str) -> None:
    told = response_directives(value)
    assert told.max_age_s is None or 0 <= told.max_age_s <= MAX_DELTA_S
    assert request_directives(value).max_age_s == told.max_age_s


@given(
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.sampled_from(["", "max-age=5", "min-fresh=5", "no-cache"]),
)
def test_what_is_served_without_asking_the_origin_is_fresh(age: int, lifetime: int, request_cc: str) -> None:
    found = verdict(
        stored_ms=NOW_MS,
        age_s=0,
        fresh_ms=NOW_MS + 1000 * lifetime,
        swr_ms=NOW_MS + 1000 * lifetime,
        now_ms=NOW_MS + 1000 * age,
        request_cache_control=request_cc,
    )
    assert found is not Verdict.FRESH or age < lifetime
    assert found is not STALE
