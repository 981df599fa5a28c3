"""Storing: what becomes of a fetched response, as the numbers and flags that a record keeps.

Specification: RFC 9111 sections 3, 4.2, 4.3.4 and 5.2.2, RFC 5861, with the settings `fill.negative_ttl`,
`fill.stale_while_revalidate` and `fill.stale_if_error` where the origin says nothing. Does no I/O,
looks at no clock and knows no process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edge_server.config.schema import Fill
from edge_server.errors import Rejection, UpstreamClientError
from edge_server.fill.cache_control import ResponseDirectives
from edge_server.fill.fields import Field, end_to_end, single, updated, value_of
from edge_server.fill.freshness import (
    cache_control_of,
    initial_age_s,
    lifetime_s,
    may_store,
    modified_at_s,
)
from edge_server.fill.vary import variant_of, varying

NEGATIVE = frozenset({404, 410})

# RFC 9110 section 8.8.3, without obs-text, which a field of a request could not carry back safely.
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')


class Known(NamedTuple):
    """The validators of a stored response: the origin's own tag, and its Last-Modified as it was sent."""

    etag: str | None
    modified: str | None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to revalidate with."""
        return self.etag is None and self.modified is None


class Plan(NamedTuple):
    """What is to be stored. Times are Unix milliseconds.

    Attributes:
        may_store: whether it may be stored at all; if not, it is for those who wait now.
        names: the request fields that it varies by; nothing if it is for everybody.
        variant: of the request that fetched it, as `vary.variant_of` tells; "" without names.
        is_negative: a 404 or 410, remembered without its body.
        stored_ms, age_s: when it was received, and how old it was then.
        fresh_ms, swr_ms, sie_ms: until when it is fresh, may be served stale while it is
            revalidated, and may stand in for a failing origin.
        must_revalidate, no_cache: never to be served stale; to be revalidated each time.
        known: its validators.
        fields: its end-to-end fields.
    """

    may_store: bool
    names: tuple[str, ...]
    variant: str
    is_negative: bool
    stored_ms: int
    age_s: int
    fresh_ms: int
    swr_ms: int
    sie_ms: int
    must_revalidate: bool
    no_cache: bool
    known: Known
    fields: list[Field]


def plan(
    status: int,
    fields: Sequence[Field],
    *,
    request_ms: int,
    response_ms: int,
    fill: Fill,
    variant_fields: Mapping[str, str],
    has_authorization: bool = False,
    request_cache_control: str = "",
) -> Plan:
    """Return what is to be stored of a response.

    Args:
        status: of the response: 200, or 404 or 410.
        fields: all of them; for a 304 those that `merged` returns.
        request_ms, response_ms: wall clock when the request was made and the response received.
        fill: the settings.
        variant_fields: what was forwarded of the client's request.
        has_authorization, request_cache_control: of the client's request.
    """
    told = cache_control_of(fields)
    names = varying(fields)
    is_negative = status in NEGATIVE
    age_s = initial_age_s(fields, request_ms, response_ms)
    fresh_s = _negative_s(fields, response_ms, fill) if is_negative else lifetime_s(fields, response_ms)
    fresh_ms = response_ms + 1000 * (fresh_s - age_s)
    # Section 5.2.2.10: s-maxage implies proxy-revalidate, which says must-revalidate to shared caches.
    is_strict = told.must_revalidate or told.proxy_revalidate or told.s_maxage_s is not None
    swr_s, sie_s = (0, 0) if is_strict or told.no_cache or is_negative else _stale_windows(told, fill)
    return Plan(
        may_store=names is not None
        and may_store(
            status, fields, has_authorization=has_authorization, request_cache_control=request_cache_control
        ),
        names=names or (),
        variant=variant_of(names, variant_fields) if names else "",
        is_negative=is_negative,
        stored_ms=response_ms,
        age_s=age_s,
        fresh_ms=fresh_ms,
        swr_ms=fresh_ms + 1000 * swr_s,
        sie_ms=fresh_ms + 1000 * sie_s,
        must_revalidate=is_strict,
        no_cache=told.no_cache,
        known=validators(fields, response_ms),
        fields=end_to_end(fields),
    )


def merged(stored: Sequence[Field], known: Known, fresh: Sequence[Field]) -> list[Field]:
    """Return the fields of a stored response after a 304, to be planned like those of a new one.

    Args:
        stored: its end-to-end fields.
        known: the validators that were sent; they stay unless the 304 has others.
        fresh: all fields of the 304.

    Source: RFC 9111 section 4.3.4.
    """
    fields = updated(stored, fresh)
    has_tag = single(fresh, "etag") is not None
    return fields if has_tag or known.etag is None else [*fields, ("ETag", known.etag)]


def validators(fields: Sequence[Field], response_ms: int) -> Known:
    """Return what a response can be revalidated with; a tag or date that is invalid is none.

    Source: RFC 9110 sections 8.8.2 and 8.8.3.
    """
    etag = single(fields, "etag")
    is_tag = etag is not None and _ENTITY_TAG.fullmatch(etag) is not None
    has_date = modified_at_s(fields, response_ms) is not None
    return Known(etag if is_tag else None, single(fields, "last-modified") if has_date else None)


def may_stand_in(failure: Rejection) -> bool:
    """Return whether a stale response may be served instead of this failure, within its `sie_ms`.

    Source: RFC 5861 section 4: 500, 502, 503, 504, and whatever else keeps an answer from coming. An
    answer that does not hold what it says is no better than none.
    """
    return failure.status in (500, 502, 503) and not isinstance(failure, UpstreamClientError)


def _stale_windows(told: ResponseDirectives, fill: Fill) -> tuple[int, int]:
    """Return for how long after it went stale it may be served: while revalidating, and on errors."""
    swr_s, sie_s = told.stale_while_revalidate_s, told.stale_if_error_s
    return (
        int(fill.stale_while_revalidate) if swr_s is None else swr_s,
        int(fill.stale_if_error) if sie_s is None else sie_s,
    )


def _negative_s(fields: Sequence[Field], response_ms: int, fill: Fill) -> int:
    """Return for how long a 404 is believed: `fill.negative_ttl`, or less if the origin says so."""
    told = cache_control_of(fields)
    says = (
        told.s_maxage_s is not None or told.max_age_s is not None or value_of(fields, "expires") is not None
    )
    ttl_s = int(fill.negative_ttl)
    return min(ttl_s, lifetime_s(fields, response_ms, heuristic=False)) if says else ttl_s
