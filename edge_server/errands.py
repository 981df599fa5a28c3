"""Errands: what a worker has the sidecar do, so as not to wait for a disk itself.

Process      an errand is sent by a worker and read by the sidecar, an ErrandDone the other way, over a pair
             of sockets for each identity of a worker (supervisor/channels.py).
Memory       compact JSON, at most ERRAND_BYTES a packet; a ReadAhead comes with the file's descriptor, so
             nothing is looked up and no path is told.
Consistency  a ticket is unique over all workers that ever had a channel, so an answer to a worker that has
             died says nothing to its successor. Nothing depends on an errand being run: who is not
             answered reads and hashes by himself.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from edge_server.errors import MessageInvalid

ERRAND_BYTES = 512
NOBODY = 0  # ticket of what nobody waits for, and nobody is to be told of

_encode = json.JSONEncoder(separators=(",", ":")).encode


class ReadAhead(NamedTuple):
    """Bytes of a file that are wanted in the page cache.

    Attributes:
        ticket: names it in the answer, or NOBODY.
        offset, length: what somebody waits for, in bytes.
        more: bytes behind it that will be wanted soon.
        device: that the file is on, st_dev of fstat(2).
    """

    ticket: int
    offset: int
    length: int
    more: int
    device: int

    def pack(self) -> bytes:
        """Return the packet."""
        return _encode(["read", *self]).encode()


class HashEntry(NamedTuple):
    """An entry of a catalog whose digest somebody waits for.

    Attributes:
        ticket: names it in the answer.
        generation: of the catalog.
        entry: its number there.
    """

    ticket: int
    generation: int
    entry: int

    def pack(self) -> bytes:
        """Return the packet."""
        return _encode(["hash", *self]).encode()


class ErrandDone(NamedTuple):
    """What came of an errand: `is_done`, or it could not be, and whoever waits does it himself."""

    ticket: int
    is_done: bool

    def pack(self) -> bytes:
        """Return the packet."""
        return _encode(["done", *self]).encode()


def unpack(packet: bytes) -> ReadAhead | HashEntry | ErrandDone:
    """Return what `pack` made a packet of.

    Raises:
        MessageInvalid: it is no such packet.
    """
    try:
        message: Any = json.loads(packet)
        kind, *values = message
        if kind == "done":
            ticket, is_done = values
            return ErrandDone(int(ticket), bool(is_done))
        numbers = [int(value) for value in values]
        return ReadAhead(*numbers) if kind == "read" else HashEntry(*numbers)
    except (ValueError, TypeError) as error:
        raise MessageInvalid(f"no errand: {error}") from error
