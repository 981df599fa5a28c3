"""The wire: heads and bodies of an origin's HTTP/1 answers, read strictly.

Specification: RFC 9112 sections 2.2, 4, 5, 6.3, 7.1 and 8. Stricter than the RFC asks for, as what is
read is stored for everybody: an answer that two recipients could read in two ways is refused.
Does no I/O: bytes come from a `receive` that is given, empty ones at the end of the connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from edge_server.errors import IntegrityError
from edge_server.fill.fields import Fields, value_of, values_of

MAX_HEAD_BYTES = 64 * 1024
MAX_FIELDS = 256
_MAX_CHUNK_LINE = 1024

# RFC 9112 section 4: status-line = HTTP-version SP status-code SP [ reason-phrase ]. A missing last
# space is common and harmless.
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
# Section 5: field-line = field-name ":" OWS field-value OWS; no obs-fold, no bare CR, no NUL.
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
# Section 7.1: chunk-size = 1*HEXDIG; extensions are passed over.
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)

CHUNKED, UNTIL_CLOSE = -1, -2
Receive = Callable[[], bytes]


class Cut(IntegrityError):
    """The connection ended, or was reset, before the answer was complete.

    Args:
        detail: for the log.
        is_before_answer: not a byte of the answer had come.
    """

    def __init__(self, detail: str, *, is_before_answer: bool = False) -> None:
        super().__init__(detail)
        self.is_before_answer = is_before_answer


class Head(NamedTuple):
    """Status line and fields of an answer; values without the white space around them."""

    minor: int
    status: int
    fields: Fields


class Reader:
    """One answer after the other from a connection; what was received too early stays for the next.

    Args:
        receive: returns what has come, at least one byte, or nothing at the end.
    """

    __slots__ = ("_receive", "buffer")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.buffer = b""

    def head(self) -> Head:
        """Read the head of an answer.

        Raises:
            Cut: the connection ended.
            IntegrityError: it is malformed or too large.
        """
        end = self.buffer.find(b"\r\n\r\n")
        while end < 0:
            if len(self.buffer) > MAX_HEAD_BYTES:
                raise IntegrityError("a head that is too large")
            received = self._receive()
            if not received:
                raise Cut("a head that breaks off", is_before_answer=not self.buffer)
            searched = max(0, len(self.buffer) - 3)
            self.buffer += received
            end = self.buffer.find(b"\r\n\r\n", searched)
        if end > MAX_HEAD_BYTES:
            raise IntegrityError("a head that is too large")
        raw, self.buffer = self.buffer[:end], self.buffer[end + 4 :]
        return parse_head(raw)

    def body(self, framing: int) -> Iterator[bytes]:
        """Yield the pieces of a body as they come.

        Args:
            framing: a length in bytes, CHUNKED or UNTIL_CLOSE.

        Raises:
            Cut: it breaks off.
            IntegrityError: a chunk is malformed.
        """
        if framing == CHUNKED:
            yield from self._chunks()
        elif framing == UNTIL_CLOSE:
            piece = self._take()
            while piece or (piece := self._receive()):
                yield piece
                piece = b""
        else:
            yield from self._exactly(framing)

    def _take(self) -> bytes:
        piece, self.buffer = self.buffer, b""
        return piece

    def _exactly(self, count: int) -> Iterator[bytes]:
        while count:
            piece = self._take() or self._receive()
            if not piece:
                raise Cut("a body that breaks off")
            if len(piece) > count:
                piece, self.buffer = piece[:count], piece[count:]
            count -= len(piece)
            yield piece

    def _line(self) -> bytes:
        while (end := self.buffer.find(b"\r\n")) < 0:
            if len(self.buffer) > _MAX_CHUNK_LINE:
                raise IntegrityError("a line of a chunked body that is too long")
            received = self._receive()
            if not received:
                raise Cut("a chunked body that breaks off")
            self.buffer += received
        line, self.buffer = self.buffer[:end], self.buffer[end + 2 :]
        return line

    def _chunks(self) -> Iterator[bytes]:
        while True:
            match = _CHUNK_SIZE.fullmatch(self._line())
            if match is None:
                raise IntegrityError("a malformed chunk")
            size = int(match[1], 16)
            if size == 0:
                break
            yield from self._exactly(size)
            if self._line():
                raise IntegrityError("a chunk longer than it says")
        for _ in range(MAX_FIELDS):
            line = self._line()  # trailers are no part of what is stored (RFC 9110 section 6.5.1)
            if not line:
                return
            if _FIELD.fullmatch(line) is None:
                raise IntegrityError("a malformed trailer")
        raise IntegrityError("too many trailers")


def parse_head(raw: bytes) -> Head:
    """Return a head without its final empty line, parsed.

    Raises:
        IntegrityError: it is malformed.
    """
    first, *lines = raw.split(b"\r\n")
    status = _STATUS_LINE.fullmatch(first)
    if status is None or len(lines) > MAX_FIELDS:
        raise IntegrityError("a malformed status line, or too many fields")
    fields = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise IntegrityError("a malformed field")
        name, value = match.groups()
        fields.append((name.decode("ascii"), value.decode("latin-1").rstrip(" \t")))
    return Head(int(status[1]), int(status[2]), Fields(fields))


def framing_of(head: Head) -> int:
    """Return how the body of an answer to a GET ends: its length, CHUNKED or UNTIL_CLOSE.

    Raises:
        IntegrityError: two lengths, a length beside a transfer coding, or another coding.

    Source: RFC 9112 section 6.3.
    """
    codings = [value.lower() for value in values_of(head.fields, "transfer-encoding")]
    lengths = set(values_of(head.fields, "content-length"))
    if head.status in (204, 304):
        return 0
    if codings:
        if codings != ["chunked"] or lengths or head.minor == 0:
            raise IntegrityError("a transfer coding beside a length, or another one than chunked")
        return CHUNKED
    if not lengths:
        return UNTIL_CLOSE
    length = lengths.pop()
    if lengths or _LENGTH.fullmatch(length) is None:
        raise IntegrityError("lengths that differ, or that are none")
    return int(length)


def is_persistent(head: Head) -> bool:
    """Return whether the connection may be used again. Source: RFC 9112 section 9.3."""
    value = value_of(head.fields, "connection")
    options = set() if value is None else {option.strip(" \t").lower() for option in value.split(",")}
    return "close" not in options and (head.minor == 1 or "keep-alive" in options)
