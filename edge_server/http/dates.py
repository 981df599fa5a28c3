"""HTTP dates: written in one form, read in three.

Specification: RFC 9110 section 5.6.7. Independent of the locale. Does no I/O; only
`DateClock` looks at the wall clock, through what it is given.
"""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name: number for number, name in enumerate(_MONTHS, 1)}

_EPOCH_ORDINAL = datetime.date(1970, 1, 1).toordinal()
_DAY_S = 86400

_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"

# RFC 9110 section 5.6.7: HTTP-date = IMF-fixdate / obs-date; obs-date = rfc850-date / asctime-date.
# Case-sensitive, in GMT, with exactly these spaces.
_FORMS = (
    re.compile(rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT", re.ASCII),
    re.compile(rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT", re.ASCII),
    re.compile(rf"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})", re.ASCII),
)


def http_date(epoch_s: int) -> str:
    """Return a Unix time as an IMF-fixdate, e.g. ``Sun, 06 Nov 1994 08:49:37 GMT``."""
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(epoch_s)
    name = _MONTHS[month - 1]
    return f"{_DAYS[weekday]}, {day:02} {name} {year:04} {hour:02}:{minute:02}:{second:02} GMT"


def parse_http_date(value: str, now_s: float | None = None) -> int | None:
    """Return the Unix time that a date field names, or None if it is not an HTTP-date.

    The day of the week is not compared with the date. A leap second counts as the
    first second of the next minute.

    Args:
        value: the field value.
        now_s: the present, for the century of a two-digit year; the wall clock if None.
    """
    text = value.strip(" \t")
    for form in _FORMS:
        match = form.fullmatch(text)
        if match is not None:
            return _epoch(match, now_s)
    return None


def _epoch(match: re.Match[str], now_s: float | None) -> int | None:
    year, month = int(match["year"]), _MONTH_NUMBERS[match["month"]]
    day, hour, minute, second = (int(match[name]) for name in ("day", "hour", "minute", "second"))
    if hour > 23 or minute > 59 or second > 60:
        return None
    if len(match["year"]) == 2:
        year = _full_year(year, time.time() if now_s is None else now_s)
    try:
        days = datetime.date(year, month, day).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        return None
    return days * _DAY_S + hour * 3600 + minute * 60 + second


def _full_year(year: int, now_s: float) -> int:
    """Return the year that two digits mean.

    Section 5.6.7: what appears to be more than 50 years in the future is the most
    recent past year with the same digits.
    """
    this_year = time.gmtime(now_s).tm_year
    year += this_year - this_year % 100
    return year - 100 if year > this_year + 50 else year


class DateClock:
    """The Date field of the moment, formatted once a second.

    Args:
        clock: the wall clock, in seconds since 1970.
    """

    __slots__ = ("_clock", "_second", "_text")

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._second: int | None = None
        self._text = ""

    def now(self) -> str:
        """Return the present as an IMF-fixdate. Source: RFC 9110 section 6.6.1."""
        second = int(self._clock())
        if second != self._second:
            self._text = http_date(second)
            self._second = second
        return self._text
