"""Reporting: rejects and spans on their way from a worker to the sidecar.

Process      a worker: `reject` and `span` while it answers, `flush` at each tick.
Memory       QUEUE_MAX reports; what comes beyond that is counted, and the number is sent.
Consistency  nothing waits: what the channel does not take now goes with a later flush. A worker that is
             killed takes at most one tick of reports with it.
"""

from __future__ import annotations

import json
import socket
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import Any

from edge_server.observe.logs import timestamp
from edge_server.observe.spans import Span
from edge_server.shm.reports import PACKET_BYTES

QUEUE_MAX = 4096
REJECT, SPAN, LOST = "reject", "span", "lost"
REJECT_FIELDS = ("status", "reason", "corr_id", "count")

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


class Reporter:
    """What one worker reports.

    Args:
        sending: the worker's end of the channel.
    """

    def __init__(self, sending: socket.socket) -> None:
        self._sending = sending
        self._queue: deque[tuple[str, bytes]] = deque()
        self._unsent = b""
        self._unsent_kinds: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()

    def reject(self, fields: Mapping[str, object]) -> None:
        """Report a reject by the fields of its log line."""
        told = {name: fields[name] for name in REJECT_FIELDS if name in fields}
        self._add(REJECT, {"ts": timestamp(), **told})

    def span(self, span: Span) -> None:
        """Report a span that has ended."""
        self._add(SPAN, span)

    def flush(self) -> None:
        """Send what the channel takes."""
        while self._unsent or self._queue or self._lost:
            if not self._unsent:
                self._pack()
            try:
                self._sending.send(self._unsent)
            except BlockingIOError:
                return
            except OSError:  # nobody will ever read it
                self._lost += self._unsent_kinds
                self._unsent = b""
                return
            self._unsent = b""

    def _add(self, kind: str, told: Any) -> None:
        line = _encode([kind, told]).encode("ascii")
        if len(self._queue) >= QUEUE_MAX or len(line) > PACKET_BYTES // 2:
            self._lost[kind] += 1
        else:
            self._queue.append((kind, line))

    def _pack(self) -> None:
        lines, size = [], 0
        self._unsent_kinds = Counter()
        if self._lost:
            lines.append(_encode([LOST, self._lost]).encode("ascii"))
            self._unsent_kinds, self._lost = self._lost, Counter()
            size = len(lines[0])
        while self._queue and size + len(self._queue[0][1]) < PACKET_BYTES:
            kind, line = self._queue.popleft()
            self._unsent_kinds[kind] += 1
            lines.append(line)
            size += len(line) + 1
        self._unsent = b"\n".join(lines)


def unpack(packet: bytes) -> Iterator[tuple[str, Any]]:
    """Yield what a packet tells: REJECT with fields, SPAN with a Span, LOST with counts by kind."""
    for line in packet.split(b"\n"):
        kind, told = json.loads(line)
        yield kind, Span(*told) if kind == SPAN else told
