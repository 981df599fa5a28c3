"""Freshness: what a shared cache may store, for how long it is fresh, and what a stale one is good for.

Specification: RFC 9111 sections 3, 3.5, 4.2 to 4.2.4, 5.2; RFC 5861; RFC 8246. Wall-clock times are
Unix milliseconds, as a record is read by other processes and after restarts; durations are whole
seconds as in the fields. Does no I/O, looks at no clock and knows no process.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import lru_cache

from edge_server.fill.cache_control import (
    MAX_DELTA_S,
    ResponseDirectives,
    delta_seconds,
    request_directives,
    response_directives,
)
from edge_server.fill.fields import Field, single, value_of, values_of
from edge_server.http.dates import parse_http_date

# The statuses whose meaning for a cache is implemented here (RFC 9111 section 5.2.2.3).
UNDERSTOOD = frozenset({200, 203, 404, 410})
# Section 4.2.2: a typical setting is a tenth of the time since the last modification.
HEURISTIC_SHARE = 10
HEURISTIC_MAX_S = 86_400


class Verdict(Enum):
    """What is to be done with a stored response."""

    FRESH = "fresh"
    STALE_REVALIDATE_IN_BACKGROUND = "stale while it is revalidated"
    MUST_REVALIDATE = "to be revalidated first"
    MISS = "not usable, and nothing to revalidate with"


def cache_control_of(fields: Sequence[Field]) -> ResponseDirectives:
    """Return the directives of a response, its Cache-Control fields joined."""
    return response_directives(value_of(fields, "cache-control") or "")


def may_store(
    status: int,
    fields: Sequence[Field],
    *,
    has_authorization: bool = False,
    request_cache_control: str = "",
) -> bool:
    """Return whether a shared cache may store a response to a GET.

    Stricter than section 3.5: a response to a request with Authorization is never stored.

    Args:
        status: of the response.
        fields: of the response.
        has_authorization: whether the client's request had such a field.
        request_cache_control: value of the client's Cache-Control, or nothing.

    Source: RFC 9111 sections 3, 3.5, 4.1, 5.2.1.5, 5.2.2.3, 5.2.2.5 and 5.2.2.7.
    """
    told = cache_control_of(fields)
    if status not in UNDERSTOOD or has_authorization:
        return False
    vary = value_of(fields, "vary")
    if told.private or (vary is not None and "*" in [name.strip(" \t") for name in vary.split(",")]):
        return False
    # Section 5.2.2.3: where must-understand is and the status is understood, no-store is ignored.
    if told.no_store and not told.must_understand:
        return False
    return not request_directives(request_cache_control).no_store


def lifetime_s(fields: Sequence[Field], response_ms: int, *, heuristic: bool = True) -> int:
    """Return for how long after it was made a response is fresh, in seconds.

    Args:
        response_ms: when it was received; stands in for a Date that is missing or invalid.
        heuristic: guess, from Last-Modified, where the response says nothing.

    Returns:
        0 or more; 0 for a response that was stale when it was made, and for unreadable times.

    Source: RFC 9111 sections 4.2.1, 4.2.2, 5.2.2.1, 5.2.2.10 and 5.3.
    """
    told = cache_control_of(fields)
    for seconds in (told.s_maxage_s, told.max_age_s):
        if seconds is not None:
            return seconds
    made_s = date_s(fields, response_ms)
    if value_of(fields, "expires") is not None:
        # Section 5.3: an invalid date, such as "0", is a time in the past; so are two that differ.
        expires = single(fields, "expires")
        expires_s = None if expires is None else _parsed(expires, response_ms // 1000)
        return 0 if expires_s is None else min(max(0, expires_s - made_s), MAX_DELTA_S)
    modified_s = modified_at_s(fields, response_ms)
    if told.immutable and not told.no_cache:
        return HEURISTIC_MAX_S  # RFC 8246 gives no time of its own
    if not heuristic or modified_s is None:
        return 0
    return min(max(0, (made_s - modified_s) // HEURISTIC_SHARE), HEURISTIC_MAX_S)


def initial_age_s(fields: Sequence[Field], request_ms: int, response_ms: int) -> int:
    """Return how old a response was when it was received: corrected_initial_age.

    An invalid Age is ignored; of several the first counts (section 5.1).

    Args:
        request_ms, response_ms: when the request was made and the response received.

    Source: RFC 9111 sections 4.2.3 and 5.1.
    """
    apparent_s = max(0, response_ms // 1000 - date_s(fields, response_ms))
    ages = values_of(fields, "age")
    age_s = delta_seconds(ages[0].split(",")[0].strip(" \t")) if ages else None
    delay_s = max(0, -((request_ms - response_ms) // 1000))
    return min(max(apparent_s, (age_s or 0) + delay_s), MAX_DELTA_S)


def current_age_s(age_s: int, stored_ms: int, now_ms: int) -> int:
    """Return how old a stored response is: the value of its Age field. Source: RFC 9111 section 4.2.3.

    A wall clock that was set back does not make it younger than it was when it was stored.
    """
    return age_s + max(0, now_ms - stored_ms) // 1000


def verdict(
    *,
    stored_ms: int,
    age_s: int,
    fresh_ms: int,
    swr_ms: int,
    now_ms: int,
    must_revalidate: bool = False,
    no_cache: bool = False,
    has_validator: bool = True,
    request_cache_control: str = "",
) -> Verdict:
    """Return what is to be done with a stored response when a request for it comes.

    Args:
        stored_ms: when the response was received.
        age_s: how old it was then.
        fresh_ms: until when it is fresh.
        swr_ms: until when it may be served stale while it is revalidated.
        now_ms: the present.
        must_revalidate: it is never served stale (must-revalidate, proxy-revalidate, s-maxage).
        no_cache: it is revalidated for each request.
        has_validator: there is a tag or a date to revalidate it with.
        request_cache_control: value of the request's Cache-Control, or nothing.

    Source: RFC 9111 sections 4, 4.2, 4.2.4 and 5.2.1; RFC 5861 section 3.
    """
    stale = Verdict.MUST_REVALIDATE if has_validator else Verdict.MISS
    if no_cache:
        return stale
    if not request_cache_control:
        if now_ms < fresh_ms:
            return Verdict.FRESH
        may_serve_stale = now_ms < swr_ms and not must_revalidate
        return Verdict.STALE_REVALIDATE_IN_BACKGROUND if may_serve_stale else stale
    asked = request_directives(request_cache_control)
    if asked.no_cache:
        return stale
    if asked.max_age_s is not None and current_age_s(age_s, stored_ms, now_ms) > asked.max_age_s:
        return stale
    if now_ms + 1000 * (asked.min_fresh_s or 0) < fresh_ms:
        return Verdict.FRESH
    if must_revalidate or asked.min_fresh_s:
        return stale
    if asked.max_stale_s is not None and now_ms - fresh_ms <= 1000 * asked.max_stale_s:
        return Verdict.STALE_REVALIDATE_IN_BACKGROUND
    # RFC 9111 section 5.2.1.1: a max-age without max-stale does not want stale responses.
    if asked.max_age_s is not None:
        return stale
    return Verdict.STALE_REVALIDATE_IN_BACKGROUND if now_ms < swr_ms else stale


def date_s(fields: Sequence[Field], response_ms: int) -> int:
    """Return when a response was made, Unix seconds; when it was received if it does not say.

    Source: RFC 9110 section 6.6.1.
    """
    date = single(fields, "date")
    parsed = None if date is None else _parsed(date, response_ms // 1000)
    return response_ms // 1000 if parsed is None else parsed


def modified_at_s(fields: Sequence[Field], response_ms: int) -> int | None:
    """Return a response's Last-Modified, Unix seconds, or None. Source: RFC 9110 section 8.8.2."""
    modified = single(fields, "last-modified")
    return None if modified is None else _parsed(modified, response_ms // 1000)


@lru_cache(maxsize=256)
def _parsed(value: str, now_s: int) -> int | None:
    # PERF: tests/perf/bench_fill.py; a fill asks four times, for two dates.
    return parse_http_date(value, now_s)
