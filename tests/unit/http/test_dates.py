"""HTTP dates against RFC 9110 section 5.6.7 and werkzeug."""

from __future__ import annotations

import calendar
import locale

import pytest
import werkzeug.http
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.http.dates import DateClock, http_date, parse_http_date

bounded = settings(max_examples=200, deadline=None, derandomize=True)

NOV_1994 = 784111777
IN_2026 = calendar.timegm((2026, 11, 23, 0, 0, 0))
LAST_SECOND = calendar.timegm((9999, 12, 31, 23, 59, 59))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("Sun, 06 Nov 1994 08:49:37 GMT", id="IMF-fixdate"),
        pytest.param("Sunday, 06-Nov-94 08:49:37 GMT", id="rfc850-date"),
        pytest.param("Sun Nov  6 08:49:37 1994", id="asctime-date"),
        pytest.param(" Sun, 06 Nov 1994 08:49:37 GMT\t", id="space around the field"),
        pytest.param("Mon, 06 Nov 1994 08:49:37 GMT", id="another day of the week"),
    ],
)
def test_all_three_forms_are_read(value: str) -> None:
    assert parse_http_date(value, IN_2026) == NOV_1994


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0",
        "784111777",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 09:49:37 CET",
        "sun, 06 nov 1994 08:49:37 gmt",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06  Nov 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Foo, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 1994 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, \u0660\u0666 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
        "9" * 10_000,
    ],
    ids=lambda value: value[:40] or "empty",
)
def test_what_is_no_http_date_is_none(value: str) -> None:
    assert parse_http_date(value, IN_2026) is None


def test_a_leap_second_is_the_next_minute() -> None:
    assert parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT") == calendar.timegm((2017, 1, 1, 0, 0, 0))


@pytest.mark.parametrize(
    ("digits", "year"),
    [("26", 2026), ("76", 2076), ("77", 1977), ("99", 1999), ("00", 2000)],
)
def test_two_digits_mean_at_most_fifty_years_ahead(digits: str, year: int) -> None:
    assert parse_http_date(f"Sunday, 06-Nov-{digits} 00:00:00 GMT", IN_2026) == calendar.timegm(
        (year, 11, 6, 0, 0, 0)
    )
    assert parse_http_date(f"Sunday, 06-Nov-{digits} 00:00:00 GMT") is not None


@bounded
@given(st.integers(0, LAST_SECOND))
def test_a_written_date_is_werkzeugs_and_reads_back(epoch_s: int) -> None:
    text = http_date(epoch_s)
    assert text == werkzeug.http.http_date(epoch_s)
    assert parse_http_date(text) == epoch_s


@bounded
@given(st.integers(calendar.timegm((1977, 1, 1, 0, 0, 0)), calendar.timegm((2076, 12, 31, 0, 0, 0))))
def test_the_obsolete_forms_read_as_werkzeug_reads_the_new_one(epoch_s: int) -> None:
    moment = werkzeug.http.parse_date(http_date(epoch_s))
    assert moment is not None
    assert parse_http_date(moment.strftime("%A, %d-%b-%y %H:%M:%S GMT"), IN_2026) == epoch_s
    assert (
        parse_http_date(moment.strftime("%a %b ") + f"{moment.day:2}" + moment.strftime(" %H:%M:%S %Y"))
        == epoch_s
    )


@bounded
@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=40))
def test_no_text_makes_it_raise(value: str) -> None:
    parse_http_date(value)


def test_the_locale_does_not_matter() -> None:
    before = locale.setlocale(locale.LC_TIME)
    try:
        for name in ("de_DE.UTF-8", "C.UTF-8", "C"):
            try:
                locale.setlocale(locale.LC_TIME, name)
            except locale.Error:
                continue
            assert http_date(NOV_1994) == "Sun, 06 Nov 1994 08:49:37 GMT"
    finally:
        locale.setlocale(locale.LC_TIME, before)


def test_the_clock_formats_once_a_second() -> None:
    moments = iter([NOV_1994 + 0.0, NOV_1994 + 0.9, NOV_1994 + 1.0, NOV_1994 + 0.5])
    clock = DateClock(lambda: next(moments))
    first, same, later, back = clock.now(), clock.now(), clock.now(), clock.now()
    assert first == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert same is first
    assert later == "Sun, 06 Nov 1994 08:49:38 GMT"
    assert back == first
