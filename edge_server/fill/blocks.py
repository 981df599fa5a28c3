"""Blocks: part of an object that is too large to be fetched whole, and the proof that it is that part.

Specification: RFC 9110 sections 8.6, 13.1.5, 14.2, 14.4 and 15.3.7. Does no I/O and knows no process.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from edge_server.errors import IntegrityError
from edge_server.fill.fields import Field, single, value_of

Block = tuple[int, int]

# RFC 9110 section 14.4: Content-Range = range-unit SP ( first-pos "-" last-pos "/" complete-length )
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE | re.ASCII)


class Part(NamedTuple):
    """What a partial answer holds: bytes ``start`` to ``stop``, half-open, of ``total``."""

    start: int
    stop: int
    total: int


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
        IntegrityError: it is another part, of another object, of another length, or coded.
    """
    part = part_of(fields)
    start, stop = block
    if (part.start, part.stop) != (start, min(stop, part.total)):
        raise IntegrityError("a partial answer with another part")
    if length is not None and length != part.stop - part.start:
        raise IntegrityError("a partial answer longer or shorter than its part")
    if (value_of(fields, "content-encoding") or "identity").lower() != "identity":
        raise IntegrityError("a partial answer with a content coding")
    if etag is not None and single(fields, "etag") != etag:
        raise IntegrityError("a part of another version")
    return part
