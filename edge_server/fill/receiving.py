"""Receiving: the body of an answer, into a sink, every claim about it held against it.

Process      whichever runs the engine; called by its threads.
Lifetime     a body; what fails leaves an aborted sink.

Specification: RFC 9110 sections 8.4 to 8.6 and 15.3.7; RFC 9112 section 6.3; RFC 9530; contract section 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from blake3 import blake3

from edge_server.config.schema import Config
from edge_server.errors import EtagInvalid, FillTimeout, IntegrityError, TooLarge
from edge_server.fill.blocks import Block, check_part
from edge_server.fill.connections import Connection
from edge_server.fill.fields import Field, value_of
from edge_server.fill.inflating import Inflater, coding_of
from edge_server.fill.integrity import Claims, claimed_hash
from edge_server.fill.storing import Known
from edge_server.fill.vary import coding_asked
from edge_server.fill.wire import UNTIL_CLOSE, Head, framing_of

MIN_BYTES_PER_S = 1024  # an origin that is slower, after GRACE_S of body, is given up
GRACE_S = 2.0


class Wanted(NamedTuple):
    """What is asked of an origin.

    Attributes:
        forwarded: request fields for it, as `fields.forwarded` returns them.
        known: validators of a stored response, to get a 304 if it is still right; with a
            `block`, its tag names the version that the block must be of.
        block: bytes of the object, half-open; None for all of it.
        tags: fields of our own, which stand before those of the client.
    """

    forwarded: Mapping[str, str]
    known: Known | None = None
    block: Block | None = None
    tags: tuple[Field, ...] = ()

    @property
    def coding(self) -> str:
        """The content coding that is asked for; a part of an object is never coded."""
        return "identity" if self.block is not None else coding_asked(self.forwarded)


class Sink(Protocol):
    """Where a body goes. What is not committed by whoever gets it in the end must be aborted."""

    @property
    def size(self) -> int:
        """Bytes written."""

    def write(self, data: bytes) -> object:
        """Take the next bytes."""

    def digest(self) -> bytes:
        """Return the BLAKE3-256 of what was written."""

    def abort(self) -> None:
        """Forget what was written; may be called twice."""


OpenSink = Callable[[int | None], Sink]


class Receiver:
    """Takes bodies.

    Args:
        config: `fill.max_object_bytes`, and the caps of `ingress` on inflating.
        open_sink: makes a sink, given the length if it is known; raises a Rejection.
    """

    def __init__(self, config: Config, open_sink: OpenSink) -> None:
        self._fill = config.fill
        self._ingress = config.ingress
        self._open_sink = open_sink

    def receive(self, connection: Connection, head: Head, wanted: Wanted) -> Sink:
        """Return the body in a sink, after every claim about it held."""
        framing = framing_of(head)
        length = framing if framing >= 0 else None
        if length is not None and length > self._fill.max_object_bytes:
            raise TooLarge(f"{length} bytes")
        part = None
        if head.status == 206 and wanted.block is not None:
            etag = None if wanted.known is None else wanted.known.etag
            part = check_part(head.fields, wanted.block, length, etag)
        sink: Sink | None = None
        try:
            sink = self._open_sink(length)
            self._copy(connection, head, framing, wanted.coding, sink)
            if part is not None and sink.size != part.stop - part.start:
                raise IntegrityError("a partial answer longer or shorter than its part")
        except BaseException:
            if sink is not None:
                sink.abort()
            raise
        return sink

    def _copy(self, connection: Connection, head: Head, framing: int, asked: str, sink: Sink) -> None:
        fields = head.fields
        coding = coding_of(value_of(fields, "content-encoding"))
        is_decoded = coding not in ("identity", asked)
        is_part = head.status == 206
        claims, claimed = Claims(fields, is_part=is_part), None if is_part else claimed_hash(fields)
        hasher = blake3() if claimed is not None and is_decoded else None
        inflater = None if coding == "identity" else self._inflater(coding, framing)
        for piece in self._pieces(connection, framing):
            claims.update(piece)
            if hasher is not None:
                hasher.update(piece)
            for chunk in () if inflater is None else inflater.feed(piece):
                if is_decoded and chunk:
                    sink.write(chunk)
            if not is_decoded:
                sink.write(piece)
        if inflater is not None:
            inflater.finish()
        if framing >= 0 and connection.reader.buffer:
            raise IntegrityError("more bytes than were announced")
        is_vouched_for = not claims.is_empty or claimed is not None
        if framing == UNTIL_CLOSE and not connection.is_tls and not is_vouched_for:
            raise IntegrityError("nothing tells whether the body is whole")
        claims.verify()
        if claimed is not None and claimed != (sink.digest() if hasher is None else hasher.digest()):
            raise EtagInvalid("the b3 tag is not the hash of the bytes")

    def _pieces(self, connection: Connection, framing: int) -> Iterator[bytes]:
        """Yield the body, as long as it is not too large and comes fast enough."""
        received, began_s = 0, time.monotonic()
        for piece in connection.reader.body(framing):
            received += len(piece)
            if received > self._fill.max_object_bytes:
                raise TooLarge("an endless body")
            passed_s = time.monotonic() - began_s
            if passed_s > GRACE_S and received < MIN_BYTES_PER_S * passed_s:
                raise FillTimeout("the origin trickles")
            yield piece

    def _inflater(self, coding: str, framing: int) -> Inflater:
        return Inflater(
            coding,
            max_bytes=self._ingress.decompress_abs_bytes,
            max_ratio=self._ingress.max_decompress_ratio,
            length=framing if framing >= 0 else None,
        )
