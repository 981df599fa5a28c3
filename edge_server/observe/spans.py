"""Spans: what a trace is made of, before any library knows of it.

Specification: W3C Trace Context (traceparent), OpenTelemetry semantic conventions for HTTP. Knows no process
and does no I/O; imports nothing of OpenTelemetry.

Sampling: a hundredth of the requests that succeed, and every one that is refused or fails. The decision is
our own: the flag in a client's traceparent is not obeyed, as anybody could have every request traced; its
trace id and parent are taken over.
"""

from __future__ import annotations

import re
import secrets
from typing import NamedTuple

HTTP, CACHE, FILL, RANGE = "svc.edge.http", "svc.edge.cache", "svc.edge.fill", "svc.edge.range"
SERVER, INTERNAL, CLIENT = "server", "internal", "client"
SHARE = 0.01  # of successes

# W3C Trace Context section 3.2: version "-" trace-id "-" parent-id "-" trace-flags; later versions may go on.
_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII
)


class Context(NamedTuple):
    """Who the parent is."""

    trace_id: str
    span_id: str
    is_sampled: bool

    @property
    def traceparent(self) -> str:
        """The field value that passes it on."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.is_sampled):02x}"


class Span(NamedTuple):
    """A span that has ended.

    Attributes:
        trace_id, span_id, parent_id: hex; a parent is nothing where there is none.
        start_ns, end_ns: Unix time.
        error: why it failed; nothing if it did not.
        kind: ``server``, ``internal`` or ``client``.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, str | int | float | bool]
    error: str = ""
    kind: str = INTERNAL


class Share:
    """A share of many things, evenly: 0.01 is every hundredth."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._credit = 0.0

    def takes(self) -> bool:
        """Whether the next one is of it."""
        self._credit += self._share
        if self._credit < 1:
            return False
        self._credit -= 1
        return True


def parse(value: str | None) -> Context | None:
    """Return the context of a traceparent field, or None if it has none that is valid."""
    match = _TRACEPARENT.fullmatch(value) if value is not None and len(value) <= 512 else None
    if match is None or (match[1] == "00" and match[5] is not None):
        return None
    return Context(match[2], match[3], bool(int(match[4], 16) & 1))


def new_trace_id() -> str:
    """Return a trace id."""
    return secrets.token_hex(16)


def new_span_id() -> str:
    """Return a span id."""
    return secrets.token_hex(8)
