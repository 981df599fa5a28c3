"""multipart/byteranges: how several ranges of one representation are framed.

Specification: RFC 9110 sections 14.6 and 15.3.7.2, RFC 2046 section 5.1. The plan
names spans instead of carrying bytes, so a body of any length is sent piece by
piece. Does no I/O and knows no process.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from edge_server.http.ranges import content_range

# RFC 2046 section 5.1.1: boundary = 0*69<bchars> bcharsnospace; here those that need no quotes.
_BOUNDARY = re.compile(r"[0-9A-Za-z_.+-]{1,70}", re.ASCII)


class Multipart(NamedTuple):
    """A body as it goes out: for each piece its head and then its bytes, and `closing` at the end.

    A piece is ``(head, start, stop)`` with a half-open span of the representation.
    `length` is the Content-Length of the whole body.
    """

    content_type: str
    length: int
    pieces: list[tuple[bytes, int, int]]
    closing: bytes


def plan(parts: Sequence[tuple[int, int]], size: int, media_type: str, boundary: str) -> Multipart:
    """Return the framing of `parts` as one multipart/byteranges body.

    Args:
        parts: half-open spans inside the representation, in the order of sending.
        size: bytes in the whole representation.
        media_type: its Content-Type, repeated in each part.
        boundary: 1 to 70 letters, digits and ``_.+-`` that do not occur in the
            bytes; an unpredictable one cannot be planted there.

    Raises:
        ValueError: `boundary` or `parts` is not fit for use.

    Source: RFC 9110 section 14.6.
    """
    if _BOUNDARY.fullmatch(boundary) is None:
        raise ValueError("not a boundary of RFC 2046 section 5.1.1")
    if not parts or not all(0 <= start < stop <= size for start, stop in parts):
        raise ValueError("parts are non-empty spans inside the representation")
    pieces = []
    length = 0
    delimiter = f"--{boundary}"
    for start, stop in parts:
        fields = f"Content-Type: {media_type}\r\nContent-Range: {content_range(start, stop, size)}"
        head = f"{delimiter}\r\n{fields}\r\n\r\n".encode("latin-1")
        pieces.append((head, start, stop))
        length += len(head) + stop - start
        delimiter = f"\r\n--{boundary}"
    closing = f"\r\n--{boundary}--\r\n".encode("latin-1")
    return Multipart(f"multipart/byteranges; boundary={boundary}", length + len(closing), pieces, closing)
