"""Byte ranges: which bytes of a representation a Range field asks for.

Specification: RFC 9110 section 14. A server may ignore or reject what does not
parse (section 14.2): here a set in the unit ``bytes`` is rejected, and any other
unit is ignored. Does no I/O and knows no process.
"""

from __future__ import annotations

import re

from edge_server.errors import RangeNotSatisfiable

DEFAULT_MAX_PARTS = 16

# Section 14.2 allows rejecting "many small ranges"; counted before coalescing.
_MAX_RANGE_SPECS = 128

# RFC 9110 section 14.1.1: int-range = first-pos "-" [ last-pos ]; suffix-range = "-" suffix-length
# Digits only: int() would also take "1_0", "+5" and non-ASCII digits.
_RANGE_SPEC = re.compile(r"(?:([0-9]+)-([0-9]*)|-([0-9]+))", re.ASCII)
_ONE_BYTE_RANGE = re.compile(r"bytes=" + _RANGE_SPEC.pattern, re.ASCII | re.IGNORECASE)

# 19 digits hold every 63-bit offset; a longer number lies beyond any file.
_MAX_DIGITS = 19
_BEYOND: int = 10**_MAX_DIGITS

_OWS = " \t"  # RFC 9110 section 5.6.3


def parse_range(value: str, size: int) -> tuple[int, int] | None:
    """Return the bytes that a Range field with one range asks for.

    Args:
        value: the field value, e.g. ``bytes=0-99``.
        size: bytes in the selected representation.

    Returns:
        ``(start, stop)``, half-open, ``0 <= start < stop <= size``; None where the
        field is ignored and the whole representation is sent: another unit, or a
        suffix of an empty representation, which is satisfiable and has no bytes.

    Raises:
        RangeNotSatisfiable: the bytes do not exist, the set does not parse, or it
            has several ranges.

    Source: RFC 9110 sections 14.1.1, 14.1.2 and 14.2.
    """
    match = _ONE_BYTE_RANGE.fullmatch(value)
    if match is None:
        specs = _range_specs(value, size)
        if specs is None:
            return None
        if len(specs) > 1:
            raise _refusal("several ranges", size)
        match = specs[0]
    first, last, suffix = match.groups()
    span = _resolve(first, last, suffix, size)
    if span is None:
        raise _refusal("no such bytes", size)
    return span if span[1] else None


def parse_ranges(value: str, size: int, max_parts: int = DEFAULT_MAX_PARTS) -> list[tuple[int, int]] | None:
    """Return the bytes that a Range field with any number of ranges asks for.

    Ranges that overlap or touch become one, which takes the place of the first of
    them, so that the parts stand in the order in which they were asked for.

    Args:
        value: the field value, e.g. ``bytes=0-99,500-``.
        size: bytes in the selected representation.
        max_parts: how many spans may remain after coalescing.

    Returns:
        Disjoint half-open spans, as in `parse_range`; one span is to be answered as
        a single range. None where the field is ignored.

    Raises:
        RangeNotSatisfiable: no range of it exists, the set does not parse, or it
            asks for too many parts.

    Source: RFC 9110 sections 14.1.2, 14.2 and 15.3.7.2.
    """
    specs = _range_specs(value, size)
    if specs is None:
        return None
    spans = []
    for match in specs:
        first, last, suffix = match.groups()
        span = _resolve(first, last, suffix, size)
        if span is not None:
            spans.append(span)
    if not spans:
        raise _refusal("no such bytes", size)
    if size == 0:
        return None
    parts = _coalesce(spans)
    if len(parts) > max_parts:
        raise _refusal("too many parts", size)
    return parts


def content_range(start: int, stop: int, size: int) -> str:
    """Return the Content-Range of bytes ``[start, stop)`` of `size`. Source: RFC 9110 section 14.4."""
    return f"bytes {start}-{stop - 1}/{size}"


def unsatisfied_range(size: int) -> str:
    """Return the Content-Range of a 416. Source: RFC 9110 sections 14.4 and 15.5.17."""
    return f"bytes */{size}"


def _refusal(detail: str, size: int) -> RangeNotSatisfiable:
    return RangeNotSatisfiable(detail, (("Content-Range", unsatisfied_range(size)),))


def _range_specs(value: str, size: int) -> list[re.Match[str]] | None:
    """Return one match per range of the set, at least one; None for a unit other than bytes.

    Raises:
        RangeNotSatisfiable: the unit is bytes and the set does not parse.
    """
    unit, _, members = value.partition("=")
    if unit.strip(_OWS).lower() != "bytes":
        return None
    # RFC 9110 section 14.1.1: ranges-specifier = range-unit "=" range-set, range-unit = token
    if unit[-1] in _OWS:
        raise _refusal("space after the unit", size)
    specs = []
    # Section 5.6.1.2: a recipient ignores a reasonable number of empty list members.
    for member in members.split(",", 2 * _MAX_RANGE_SPECS):
        text = member.strip(_OWS)
        if not text:
            continue
        match = _RANGE_SPEC.fullmatch(text)
        if match is None:
            raise _refusal("not a byte range", size)
        _check_order(match, size)
        specs.append(match)
    if not specs:
        raise _refusal("an empty set of ranges", size)
    if len(specs) > _MAX_RANGE_SPECS:
        raise _refusal("too many ranges", size)
    return specs


def _check_order(match: re.Match[str], size: int) -> None:
    """Refuse a last position before the first: the whole set is then invalid (section 14.1.1)."""
    first, last, _ = match.groups()
    if last:
        first, last = first.lstrip("0"), last.lstrip("0")
        if (len(last), last) < (len(first), first):
            raise _refusal("a range that ends before it starts", size)


def _resolve(first: str | None, last: str | None, suffix: str | None, size: int) -> tuple[int, int] | None:
    """Return the span of one range; ``(0, 0)`` for a suffix of nothing; None if it is not satisfiable."""
    if suffix is not None:
        length = _number(suffix)
        return (max(0, size - length), size) if length else None
    assert first is not None
    start = _number(first)
    stop = _number(last) + 1 if last else size
    if start >= size or stop <= start:
        return None
    return start, min(stop, size)


def _number(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        digits = digits.lstrip("0")
        if len(digits) > _MAX_DIGITS:
            return _BEYOND
    return int(digits or "0")


def _coalesce(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int, int]] = []  # place asked for, start, stop
    for start, stop, place in sorted((start, stop, place) for place, (start, stop) in enumerate(spans)):
        if merged and start <= merged[-1][2]:
            earlier_place, earlier_start, earlier_stop = merged[-1]
            merged[-1] = (min(place, earlier_place), earlier_start, max(stop, earlier_stop))
        else:
            merged.append((place, start, stop))
    return [(start, stop) for _, start, stop in sorted(merged)]
