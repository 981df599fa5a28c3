"""Fetch: one attempt to get one object, redirects followed, every byte checked before it counts.

Process      whichever runs the engine; called by its threads.
Lifetime     an attempt; connections and addresses are kept between attempts.

Specification: RFC 9110 sections 7.6, 8.6, 13.1, 15; RFC 9112 section 6.3; contract sections 1 and 4. Nothing
of a client reaches an origin but the fields that were forwarded; no cookies, no credentials. Redirects
are followed by hand, at most MAX_REDIRECTS, and each is checked like the first URL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from blake3 import blake3

import edge_server
from edge_server.config.schema import Config
from edge_server.errors import (
    EtagInvalid,
    FillTimeout,
    IntegrityError,
    NotAllowed,
    Rejection,
    TooLarge,
    UpstreamClientError,
    UpstreamServerError,
)
from edge_server.fill.address_guard import AddressGuard
from edge_server.fill.blocks import Block, check_part, range_of
from edge_server.fill.connections import Cancellation, Connection, Connections, Deadline
from edge_server.fill.fields import Field, single, value_of
from edge_server.fill.inflating import Inflater, coding_of
from edge_server.fill.integrity import Claims, claimed_hash
from edge_server.fill.origins import Origins, Target
from edge_server.fill.storing import NEGATIVE, Known
from edge_server.fill.vary import ACCEPT_ENCODING, coding_asked
from edge_server.fill.wire import UNTIL_CLOSE, Cut, Head, framing_of, is_persistent

MAX_REDIRECTS = 3
MIN_BYTES_PER_S = 1024  # an origin that is slower, after GRACE_S of body, is given up
GRACE_S = 2.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WHOLE = frozenset({200, 203})
_MAX_DISCARDED = 64 * 1024
_USER_AGENT = f"svc-edge/{edge_server.__version__}"


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


class StatusFailure(Exception):
    """An answer that is a failure by its status.

    Args:
        status: of the answer.
        rejection: what it is for a client.
    """

    def __init__(self, status: int, rejection: Rejection) -> None:
        super().__init__(status)
        self.status = status
        self.rejection = rejection


class Wanted(NamedTuple):
    """What is asked of an origin.

    Attributes:
        forwarded: request fields for it, as `fields.forwarded` returns them.
        known: validators of a stored response, to get a 304 if it is still right; with a
            `block`, its tag names the version that the block must be of.
        block: bytes of the object, half-open; None for all of it.
    """

    forwarded: Mapping[str, str]
    known: Known | None = None
    block: Block | None = None

    @property
    def coding(self) -> str:
        """The content coding that is asked for; a part of an object is never coded."""
        return "identity" if self.block is not None else coding_asked(self.forwarded)


class Answer(NamedTuple):
    """What an attempt got: an object or a block in `sink`, or a 304, 404 or 410 without one.

    `request_ms` and `response_ms` are wall clock, for the age of the response.
    """

    status: int
    fields: list[Field]
    sink: Sink | None
    request_ms: int
    response_ms: int
    target: Target


class Fetcher:
    """Makes attempts.

    Args:
        config: sections `fill` and `ingress`.
        origins: checks where redirects lead.
        guard: resolves names to addresses that may be connected to.
        connections: makes and keeps connections.
        open_sink: makes a sink, given the length if it is known; raises a Rejection.
    """

    def __init__(
        self,
        config: Config,
        origins: Origins,
        guard: AddressGuard,
        connections: Connections,
        open_sink: OpenSink,
    ) -> None:
        self._fill = config.fill
        self._ingress = config.ingress
        self._origins = origins
        self._guard = guard
        self._connections = connections
        self._open_sink = open_sink

    def fetch(
        self,
        target: Target,
        wanted: Wanted,
        deadline: Deadline,
        cancellation: Cancellation,
    ) -> Answer:
        """Make one attempt.

        Args:
            target: where the object is.
            wanted: what is asked of it.
            deadline: for all of it.
            cancellation: ends it from another thread.

        Raises:
            StatusFailure: the origin answered with a failure.
            Rejection: anything else that keeps its answer from being used; nothing is left of it.
        """
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._exchange(target, wanted, deadline, cancellation)
            if isinstance(answer, Answer):
                return answer
            target = self._origins.redirected(target, answer)
        raise NotAllowed("too many redirects")

    def _exchange(
        self,
        target: Target,
        wanted: Wanted,
        deadline: Deadline,
        cancellation: Cancellation,
    ) -> Answer | str:
        """Return an answer, or where a redirect leads."""
        request = _request(target, wanted)
        while True:
            addresses = self._guard.resolve(target.host, target.port)
            connection = self._connections.open(target, addresses, deadline, cancellation)
            request_ms = _now_ms()
            try:
                connection.send(request, deadline)
                head = connection.reader.head()
            except Cut as cut:
                connection.close()
                # RFC 9112 section 9.3.1: an idle connection may end at any time; GET is safe to repeat.
                if connection.is_used and cut.is_before_answer:
                    continue
                raise
            except BaseException:
                connection.close()
                raise
            break
        return self._answer(connection, head, target, wanted, request_ms, cancellation)

    def _answer(
        self,
        connection: Connection,
        head: Head,
        target: Target,
        wanted: Wanted,
        request_ms: int,
        cancellation: Cancellation,
    ) -> Answer | str:
        response_ms = _now_ms()
        is_reusable = False
        try:
            status, fields = head.status, head.fields
            result: Answer | str
            if status in _WHOLE:
                sink = self._receive(connection, head, wanted)
                fields = _as_stored(fields, wanted.coding)
                result = Answer(200, fields, sink, request_ms, response_ms, target)
                is_reusable = not connection.reader.buffer
            elif status == 206 and wanted.block is not None:
                sink = self._receive(connection, head, wanted)
                result = Answer(206, fields, sink, request_ms, response_ms, target)
                is_reusable = not connection.reader.buffer
            elif status in _REDIRECTS:
                location = single(fields, "location")
                if location is None:
                    raise IntegrityError("a redirect that leads nowhere")
                result = location
                is_reusable = _discard(connection, head)
            elif status in NEGATIVE or (status == 304 and _is_conditional(wanted)):
                result = Answer(status, fields, None, request_ms, response_ms, target)
                is_reusable = _discard(connection, head)
            else:
                is_reusable = _discard(connection, head)
                raise _failure(status)
            return result
        finally:
            cancellation.unwatch()
            if is_reusable and is_persistent(head):
                self._connections.keep(target, connection)
            else:
                connection.close()

    def _receive(self, connection: Connection, head: Head, wanted: Wanted) -> Sink:
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


def _is_conditional(wanted: Wanted) -> bool:
    return wanted.block is None and wanted.known is not None and not wanted.known.is_empty


def _request(target: Target, wanted: Wanted) -> bytes:
    """Return a request: a GET in HTTP/1.1 with what selects content, and with conditions if any."""
    forwarded, known = wanted.forwarded, wanted.known
    lines = [
        f"GET {target.request_target} HTTP/1.1",
        f"Host: {target.authority}",
        f"User-Agent: {_USER_AGENT}",
        f"Accept-Encoding: {wanted.coding}",
        f"Accept: {forwarded.get('accept', '*/*')}",
    ]
    lines += [
        f"{name}: {value}" for name, value in forwarded.items() if name not in (ACCEPT_ENCODING, "accept")
    ]
    if wanted.block is not None:
        lines.append(f"Range: {range_of(wanted.block)}")
    elif known is not None:
        lines += [f"If-None-Match: {known.etag}"] if known.etag is not None else []
        lines += [f"If-Modified-Since: {known.modified}"] if known.modified is not None else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _as_stored(fields: list[Field], asked: str) -> list[Field]:
    """Return the fields of what is in the sink: without Content-Encoding where that was undone."""
    coding = coding_of(value_of(fields, "content-encoding"))
    if coding == asked and coding != "identity":
        return fields
    return [(name, value) for name, value in fields if name.lower() != "content-encoding"]


def _discard(connection: Connection, head: Head) -> bool:
    """Read a body that nobody wants if it is short; return whether the connection is then free."""
    framing = framing_of(head)
    if framing == UNTIL_CLOSE or framing > _MAX_DISCARDED:
        return False
    discarded = 0
    for piece in connection.reader.body(framing):
        discarded += len(piece)
        if discarded > _MAX_DISCARDED:
            return False
    return not connection.reader.buffer


def _failure(status: int) -> Exception:
    if 400 <= status < 500:
        return StatusFailure(status, UpstreamClientError(f"the origin said {status}"))
    if status >= 500:
        return StatusFailure(status, UpstreamServerError(f"the origin said {status}"))
    return IntegrityError(f"a status that was not asked for: {status}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
