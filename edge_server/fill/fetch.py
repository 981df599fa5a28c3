"""Fetch: one attempt to get one object, redirects followed, every byte checked before it counts.

Process      whichever runs the engine; called by its threads.
Lifetime     an attempt; connections and addresses are kept between attempts.

Specification: RFC 9110 sections 7.6, 8.6, 13.1, 15; RFC 9112 section 6.3; contract sections 1 and 4. Nothing
of a client reaches an origin but the fields that were forwarded; no cookies, no credentials. Redirects
are followed by hand, at most MAX_REDIRECTS, and each is checked like the first URL.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import edge_server
from edge_server.config.schema import Config
from edge_server.errors import (
    IntegrityError,
    NotAllowed,
    Rejection,
    UpstreamClientError,
    UpstreamServerError,
)
from edge_server.fill.address_guard import AddressGuard
from edge_server.fill.blocks import range_of
from edge_server.fill.connections import Connection, Connections
from edge_server.fill.deadline import Cancellation, Deadline
from edge_server.fill.fields import Field, single, value_of
from edge_server.fill.inflating import coding_of
from edge_server.fill.origins import Origins, Target
from edge_server.fill.receiving import OpenSink, Receiver, Sink, Wanted
from edge_server.fill.storing import NEGATIVE
from edge_server.fill.vary import ACCEPT_ENCODING
from edge_server.fill.wire import UNTIL_CLOSE, Cut, Head, framing_of, is_persistent

MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WHOLE = frozenset({200, 203})
_MAX_DISCARDED = 64 * 1024
_USER_AGENT = f"svc-edge/{edge_server.__version__}"


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
        self._receiver = Receiver(config, open_sink)
        self._origins = origins
        self._guard = guard
        self._connections = connections

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
                sink = self._receiver.receive(connection, head, wanted)
                fields = _as_stored(fields, wanted.coding)
                result = Answer(200, fields, sink, request_ms, response_ms, target)
                is_reusable = not connection.reader.buffer
            elif status == 206 and wanted.block is not None:
                sink = self._receiver.receive(connection, head, wanted)
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
    own = {ACCEPT_ENCODING, "accept", *(name.lower() for name, _ in wanted.tags)}
    lines += [f"{name}: {value}" for name, value in wanted.tags]
    lines += [f"{name}: {value}" for name, value in forwarded.items() if name not in own]
    if wanted.block is not None:
        lines.append(f"Range: {range_of(wanted.block)}")
        lines += [f"If-Range: {known.etag}"] if known is not None and known.etag is not None else []
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
