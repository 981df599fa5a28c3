"""Blocks: parts of an object that is too large to be fetched whole, and the proof that they are those parts.

What is known of the object stands in the store under LARGE, and each block under a variant of its own, which
names the version that it is of: blocks of two versions cannot meet in one answer.

Specification: RFC 9110 sections 8.6, 13.1.5, 14.2, 14.4 and 15.3.7. Does no I/O and knows no process.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from edge_server.errors import AnotherVersion, IntegrityError
from edge_server.fill.fields import Field, single, value_of
from edge_server.http.ranges import parse_range, parse_ranges

Block = tuple[int, int]

BLOCK_BYTES = 1 << 20
PROBE: Block = (0, 1)  # tells how large an object is, and of which version
LARGE = "\0large"  # no variant of `vary.variant_of` has a NUL

# RFC 9110 section 14.4: Content-Range = range-unit SP ( first-pos "-" last-pos "/" complete-length )
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE | re.ASCII)


class Part(NamedTuple):
    """What a partial answer holds: bytes ``start`` to ``stop``, half-open, of ``total``."""

    start: int
    stop: int
    total: int


def variant_of_block(etag: str, block: Block) -> str:
    """Return the variant under which a block of a version stands."""
    return f"\0block {block[0]} {etag}"


def spans_of(value: str, total: int, *, is_multi: bool) -> list[Block] | None:
    """Return the bytes that a Range field asks for; None where it is ignored.

    Args:
        total: bytes of the object.
        is_multi: whether it may name several ranges, as `http.enable_multi_range` says.

    Raises:
        RangeNotSatisfiable: as `http.ranges.parse_range`.
    """
    if is_multi:
        return parse_ranges(value, total)
    span = parse_range(value, total)
    return None if span is None else [span]


def blocks_of(spans: Sequence[Block], total: int, max_bytes: int) -> list[Block]:
    """Return the blocks that hold some spans, in order; none if those are over `max_bytes` together."""
    if sum(stop - start for start, stop in spans) > max_bytes:
        return []
    numbers = {
        number
        for start, stop in spans
        for number in range(start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES + 1)
    }
    return [(number * BLOCK_BYTES, min((number + 1) * BLOCK_BYTES, total)) for number in sorted(numbers)]


def range_of(block: Block) -> str:
    """Return the Range field that asks for a block, half-open. Source: RFC 9110 section 14.1.2."""
    start, stop = block
    assert 0 <= start < stop
    return f"bytes={start}-{stop - 1}"


def part_of(fields: Sequence[Field]) -> Part:
    """Return what a 206 says that it holds.

    Raises:
        IntegrityError: it says nothing, nothing that is so, or not how large the whole is.
    """
    match = _CONTENT_RANGE.fullmatch(single(fields, "content-range") or "")
    if match is None:
        raise IntegrityError("a partial answer that does not say which part it is")
    start, last, total = map(int, match.groups())
    if not start <= last < total:
        raise IntegrityError("a partial answer of bytes that do not exist")
    return Part(start, last + 1, total)


def check_part(fields: Sequence[Field], block: Block, length: int | None, etag: str | None) -> Part:
    """Return what a 206 holds, if it is the block that was asked for.

    Args:
        fields: of the answer.
        block: what was asked for; of the last one of an object less is there.
        length: of the body, if it was announced.
        etag: the tag of the object that the other blocks are of, if it is known.

    Raises:
        AnotherVersion: it is of another object.
        IntegrityError: it is another part, of another length, or coded.
    """
    if etag is not None and single(fields, "etag") != etag:
        raise AnotherVersion("a part of another version")
    part = part_of(fields)
    start, stop = block
    if (part.start, part.stop) != (start, min(stop, part.total)):
        raise IntegrityError("a partial answer with another part")
    if length is not None and length != part.stop - part.start:
        raise IntegrityError("a partial answer longer or shorter than its part")
    if (value_of(fields, "content-encoding") or "identity").lower() != "identity":
        raise IntegrityError("a partial answer with a content coding")
    return part
