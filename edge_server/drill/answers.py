"""HTTP/1.1 as the drill speaks it: one request, one whole answer, over asyncio streams.

Specification: RFC 9112, as far as this service uses it: every answer has a Content-Length or no
body. What breaks that is an error, since a drill must not be lenient.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from edge_server.config.addresses import Address
from edge_server.errors import EdgeError

MAX_HEAD_BYTES = 64 << 10
_BODILESS = (204, 304)


class BadAnswer(EdgeError):
    """What came is no answer of HTTP/1.1 that this service may give."""


class Answer(NamedTuple):
    """One answer; names of fields are in lower case."""

    status: int
    fields: Mapping[str, str]
    body: bytes

    @property
    def is_last(self) -> bool:
        """Whether the server closes the connection after it."""
        return self.fields.get("connection", "").lower() == "close"


def request(host: str, target: str, fields: Mapping[str, str]) -> bytes:
    """Return the bytes of a GET; `host` is the Host field."""
    lines = [f"GET {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {fields[name]}" for name in fields)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def read(reader: asyncio.StreamReader) -> Answer:
    """Read one whole answer to a GET.

    Raises:
        OSError, EOFError: the connection ended before its last byte.
        BadAnswer: it is malformed.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise BadAnswer("a head without an end") from error
    status, fields = parse_head(head)
    length = 0
    if status not in _BODILESS:
        text = fields.get("content-length", "")
        if not (text.isascii() and text.isdigit()):
            raise BadAnswer(f"Content-Length is {text!r}")
        length = int(text)
    return Answer(status, fields, await reader.readexactly(length) if length else b"")


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Return status and fields of a head with its final blank line.

    Raises:
        BadAnswer: no status line of HTTP/1.1, or a line that is no field.
    """
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if version != "HTTP/1.1" or not (rest[:3].isascii() and rest[:3].isdigit()):
        raise BadAnswer(f"no status line: {first[:80]!r}")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadAnswer(f"no field: {line[:80]!r}")
        fields[name.lower()] = value.strip(" \t")
    return int(rest[:3]), fields


async def fetch(
    place: Address, target: str, fields: Mapping[str, str] | None = None, within_s: float = 5.0
) -> Answer:
    """Return the answer to a GET on a connection of its own.

    Raises:
        OSError, EOFError, asyncio.TimeoutError, BadAnswer: there was none.
    """
    return await asyncio.wait_for(_fetch(place, target, fields or {}), within_s)


async def _fetch(place: Address, target: str, fields: Mapping[str, str]) -> Answer:
    reader, writer = await asyncio.open_connection(place.host, place.port, limit=MAX_HEAD_BYTES)
    try:
        writer.write(request(str(place), target, {"Connection": "close", **fields}))
        return await read(reader)
    finally:
        writer.close()
