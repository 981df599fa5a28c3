"""What a record keeps of a response: times, flags, validators, fields; and what a 304 changes."""

from __future__ import annotations

import pytest

from edge_server.config.schema import Fill
from edge_server.errors import FillTimeout, NotFound, UpstreamServerError
from edge_server.fill.fields import Field, end_to_end, forwarded
from edge_server.fill.storing import Known, Plan, may_stand_in, merged, plan
from edge_server.fill.vary import coding_asked, variant_of, varying
from edge_server.http.dates import http_date

NOW_S = 1_800_000_000
NOW_MS = NOW_S * 1000
FILL = Fill(negative_ttl=10.0, stale_if_error=3600.0, stale_while_revalidate=30.0)


def planned(*fields: Field, status: int = 200, **more: object) -> Plan:
    dated = [("Date", http_date(NOW_S)), *fields]
    asked = {"request_ms": NOW_MS, "response_ms": NOW_MS, "fill": FILL, "variant_fields": {}} | more
    return plan(status, dated, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "fresh_s", "swr_s", "sie_s"),
    [
        pytest.param("max-age=60", 60, 90, 3660, id="the settings' windows"),
        pytest.param("max-age=60, stale-while-revalidate=5, stale-if-error=7", 60, 65, 67, id="RFC 5861"),
        pytest.param("max-age=60, must-revalidate", 60, 60, 60, id="5.2.2.2 must-revalidate"),
        pytest.param("max-age=60, proxy-revalidate", 60, 60, 60, id="5.2.2.8 proxy-revalidate"),
        pytest.param("s-maxage=60", 60, 60, 60, id="5.2.2.10 s-maxage implies it"),
        pytest.param("no-cache, max-age=60", 60, 60, 60, id="5.2.2.4 no-cache"),
    ],
)
def test_until_when_a_response_serves(value: str, fresh_s: int, swr_s: int, sie_s: int) -> None:
    made = planned(("Cache-Control", value))
    ends = (made.fresh_ms, made.swr_ms, made.sie_ms)
    assert ends == tuple(NOW_MS + 1000 * seconds for seconds in (fresh_s, swr_s, sie_s))


def test_the_time_spent_in_other_caches_counts() -> None:
    made = planned(("Cache-Control", "max-age=60"), ("Age", "50"))
    assert (made.age_s, made.fresh_ms) == (50, NOW_MS + 10_000)


@pytest.mark.parametrize(
    ("value", "seconds"), [(None, 10), ("max-age=3", 3), ("max-age=600", 10), ("no-cache, max-age=0", 0)]
)
def test_a_404_is_believed_for_the_setting_or_less(value: str | None, seconds: int) -> None:
    made = planned(*([] if value is None else [("Cache-Control", value)]), status=404)
    assert made.is_negative
    assert made.may_store
    assert made.fresh_ms == made.swr_ms == made.sie_ms == NOW_MS + 1000 * seconds


@pytest.mark.parametrize(
    ("tag", "kept"),
    [
        ('"abc"', '"abc"'),
        ('W/"abc"', 'W/"abc"'),
        ("abc", None),
        ('"a"b"', None),
        ('"a b"', None),
        ('w/"a"', None),
    ],
)
def test_a_tag_that_is_none_is_no_validator(tag: str, kept: str | None) -> None:
    assert planned(("ETag", tag)).known == Known(kept, None)


def test_a_date_of_modification_is_kept_as_it_was_sent() -> None:
    text = "Sunday, 06-Nov-94 08:49:37 GMT"
    assert planned(("Last-Modified", text)).known == Known(None, text)
    assert planned(("Last-Modified", "long ago")).known.is_empty


def test_a_304_brings_new_times_and_keeps_what_describes_the_bytes() -> None:
    stored = [
        ("Content-Type", "a/b"),
        ("Cache-Control", "max-age=1"),
        ("X-Own", "1"),
        ("Content-Encoding", "br"),
    ]
    fresh = [("Cache-Control", "max-age=60"), ("Content-Type", "x/y"), ("X-New", "2")]
    fields = merged(stored, Known('"t"', None), [("Date", http_date(NOW_S)), ("Age", "5"), *fresh])
    made = planned(*fields[1:] if fields[0][0] == "Date" else fields)
    assert made.known.etag == '"t"'
    assert dict(made.fields) == {
        "Content-Type": "a/b",
        "Cache-Control": "max-age=60",
        "X-Own": "1",
        "Content-Encoding": "br",
        "X-New": "2",
    }
    assert (made.age_s, made.fresh_ms) == (5, NOW_MS + 55_000)


def test_unknown_fields_are_kept_and_those_of_the_connection_and_of_others_are_not() -> None:
    fields = [
        *(
            ("Connection", "X-Hop, close"),
            ("X-Hop", "1"),
            ("Keep-Alive", "5"),
            ("Transfer-Encoding", "chunked"),
        ),
        *(("Set-Cookie", "a=b"), ("Content-Length", "3"), ("Access-Control-Allow-Origin", "*")),
        *(("X-Unknown", "kept"), ("Content-Language", "de"), ("x-unknown", "twice")),
    ]
    assert end_to_end(fields) == [("X-Unknown", "kept"), ("Content-Language", "de"), ("x-unknown", "twice")]


def test_of_a_request_only_what_selects_and_what_is_named_is_forwarded() -> None:
    request = {
        *(("accept", "a/b"), ("accept-encoding", "br"), ("cookie", "c"), ("authorization", "a")),
        *(("x-named", " v "), ("x-other", "o"), ("range", "bytes=0-1"), ("x-split", "a\r\nb: c")),
    }
    named = ("X-Named", "Cookie", "Authorization", "Range", "X-Split")
    assert forwarded(dict(request), named) == {"accept": "a/b", "accept-encoding": "br", "x-named": "v"}


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ([], ()),
        ([("Vary", "Accept-Language, accept")], ("accept", "accept-language")),
        ([("Vary", "b"), ("vary", "A, b")], ("a", "b")),
        ([("Vary", "*")], None),
        ([("Vary", "accept, *")], None),
        ([("Content-Encoding", "br")], ("accept-encoding",)),
        ([("Content-Encoding", "identity")], ()),
    ],
)
def test_by_what_a_response_varies(fields: list[Field], names: tuple[str, ...] | None) -> None:
    assert varying(fields) == names


@pytest.mark.parametrize(
    ("value", "coding"),
    [
        (None, "identity"),
        ("", "identity"),
        ("gzip, deflate, br, zstd", "br"),
        ("gzip, zstd", "zstd"),
        ("gzip;q=1, br;q=0.5", "gzip"),
        ("identity, gzip;q=0.5", "identity"),
        ("br;q=0, *", "zstd"),
        ("compress", "identity"),
    ],
)
def test_an_origin_is_asked_for_one_coding(value: str | None, coding: str) -> None:
    assert coding_asked({} if value is None else {"accept-encoding": value}) == coding


def test_spellings_of_one_wish_are_one_variant() -> None:
    names = ("accept-encoding", "accept-language")
    one = {"accept-encoding": "br, gzip", "accept-language": "de,  en"}
    other = {"accept-encoding": "gzip;q=0.8,br", "accept-language": "de, en "}
    assert variant_of(names, one) == variant_of(names, other)


def test_an_absent_field_matches_only_its_absence() -> None:
    assert variant_of(("accept",), {}) != variant_of(("accept",), {"accept": ""})


def test_the_order_of_names_makes_no_other_variant() -> None:
    assert variant_of(("b", "a"), {"a": "1"}) == variant_of(("a", "b"), {"a": "1"})


def test_credentials_make_a_plan_without_storing() -> None:
    assert not planned(("Cache-Control", "public, max-age=60"), has_authorization=True).may_store


def test_what_a_failing_origin_is_stood_in_for() -> None:
    assert may_stand_in(UpstreamServerError())
    assert may_stand_in(FillTimeout())
    assert not may_stand_in(NotFound())
