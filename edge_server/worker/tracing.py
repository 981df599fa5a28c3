"""Tracing: the spans of the requests that a worker answers.

Process      a worker, and only where tracing is on: otherwise nothing of this is in the path of a request.
Memory       a few words a request that is parked, until it is replayed or FORGOTTEN_S have passed.
Order        `wrap` stands around the hit path; the access log asks for each answer whether it is wanted, and
             `TracedAccessLog` has the answers that are to be traced besides those that are logged.

`svc.edge.http` is the whole request, `svc.edge.cache` from taking it up until its head was made,
`svc.edge.range` from there until a range was handed over for sending. `svc.edge.fill` is the sidecar's.
Answers that the guard repeats are sampled there; their time is known to a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic, time_ns
from typing import Any, Protocol

from edge_server import guard
from edge_server.observe.logs import AccessLog, OnReject
from edge_server.observe.metrics import ASSETS
from edge_server.observe.reporting import Reporter
from edge_server.observe.spans import (
    CACHE,
    HTTP,
    RANGE,
    SERVER,
    SHARE,
    Context,
    Share,
    Span,
    new_span_id,
    new_trace_id,
    parse,
)
from edge_server.worker.hitpath import Body, StartResponse, WsgiApp

FORGOTTEN_S = 120.0

Attributes = dict[str, str | int | float | bool]


class Parks(Protocol):
    """What parks requests: parking.py and errands.py. `last_token` is of the last one, 0 before the first."""

    last_token: int


class _Request:
    """What is known of a request while it is answered. It gets its ids when they are wanted."""

    __slots__ = ("_ids", "_traceparent", "began_ns", "head_ns", "is_sampled", "seen_s")

    def __init__(self, traceparent: str | None = None) -> None:
        self._traceparent = traceparent
        self._ids: tuple[str, str, str] | None = None
        self.is_sampled: bool | None = None  # not decided yet
        self.began_ns = self.head_ns = 0
        self.seen_s = 0.0  # when it was parked

    @property
    def ids(self) -> tuple[str, str, str]:
        """Of its trace, its span and its parent, if it has one."""
        if self._ids is None:
            parent = parse(self._traceparent)
            known = (new_trace_id(), "") if parent is None else (parent.trace_id, parent.span_id)
            self._ids = (known[0], new_span_id(), known[1])
        return self._ids


class Tracer:
    """Makes the spans of one worker.

    Args:
        reporter: takes them.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._share = Share(SHARE)
        self._now: _Request | None = None
        self._parked: dict[int, _Request] = {}

    def wrap(self, hit_path: WsgiApp, *parks: Parks) -> WsgiApp:
        """Return the callable that knows which request is being answered, however often it is parked.

        Args:
            parks: all that may park it.
        """

        def tokens() -> list[int]:
            return [each.last_token for each in parks]

        def traced(environ: dict[str, Any], start_response: StartResponse) -> Body:
            request = self._parked.pop(guard.replay_of(), None) or _Request(environ.get("HTTP_TRACEPARENT"))
            request.began_ns = request.began_ns or time_ns()
            self._now = request
            before = tokens()

            def begin(status: str, fields: list[tuple[str, str]], *more: Any) -> Any:
                request.head_ns = time_ns()
                return start_response(status, fields, *more)

            try:
                return hit_path(environ, begin)
            finally:
                self._now = None
                for token in {*tokens()} - {*before}:
                    request.seen_s = monotonic()
                    self._parked[token] = request

        return traced

    def outgoing(self) -> str:
        """Return the traceparent that a fill for the request being answered goes on with; or nothing."""
        request = self._now
        if request is None:
            return ""
        if request.is_sampled is None:
            request.is_sampled = self._share.takes()
        trace_id, span_id, _ = request.ids
        return Context(trace_id, span_id, request.is_sampled).traceparent

    def wants(self, status: int) -> bool:
        """Whether the answer with this status is traced; asked once a request."""
        if status >= 400:
            return True
        if self._now is not None and self._now.is_sampled is not None:
            return self._now.is_sampled
        return self._share.takes()

    def ended(self, fields: Mapping[str, Any]) -> None:
        """Report the spans of an answer, by the fields of its log line."""
        request = self._now or _Request()
        end_ns = time_ns()
        began_ns = min(end_ns - int(fields["latency_ms"] * 1e6), request.began_ns or end_ns)
        status, reason = fields["status"], fields.get("reason", "")
        error = reason if status >= 500 else ""
        self._reporter.span(Span(HTTP, *request.ids, began_ns, end_ns, _attributes(fields), error, SERVER))
        if fields["route"] == ASSETS and fields["method"] != "OPTIONS":
            head_ns = request.head_ns or end_ns
            cached = (min(request.began_ns or began_ns, head_ns), head_ns)
            self._part(request, CACHE, cached, {"svc_edge.cache": fields.get("cache", "miss")})
            if status in (206, 416):
                ranged = (head_ns, max(head_ns, end_ns))
                self._part(request, RANGE, ranged, {"http.response.body.size": fields["bytes_out"]})

    def _part(self, request: _Request, name: str, times: tuple[int, int], told: Attributes) -> None:
        trace_id, parent_id, _ = request.ids
        self._reporter.span(Span(name, trace_id, new_span_id(), parent_id, *times, told))

    def fold(self) -> None:
        """Send what was reported, and forget requests that were parked and never came back; at each tick."""
        self._reporter.flush()
        if self._parked:
            before_s = monotonic() - FORGOTTEN_S
            for token in [token for token, request in self._parked.items() if request.seen_s < before_s]:
                del self._parked[token]


class TracedAccessLog(AccessLog):
    """An access log whose answers are traced besides.

    Args:
        sample: of the log.
    """

    def __init__(self, sample: float, tracer: Tracer, on_reject: OnReject | None = None) -> None:
        super().__init__(sample, on_reject)
        self.share = max(sample, SHARE)
        self._tracer = tracer
        self._repeated_logged = Share(sample / self.share)
        self._repeated_traced = Share(SHARE / self.share)
        self._decided: tuple[bool, bool] | None = None  # of the answer that is told next: logged, traced

    def wants(self, status: int) -> bool:
        """See AccessLog."""
        return self._decide(super().wants(status), self._tracer.wants(status))

    def wants_repeated(self) -> bool:
        """See AccessLog."""
        return self._decide(self._repeated_logged.takes(), self._repeated_traced.takes())

    def tell(self, status: int, reason: str, fields: Mapping[str, object]) -> None:
        """See AccessLog."""
        is_logged, is_traced = self._decided or (True, status >= 400)
        self._decided = None
        if is_logged:
            super().tell(status, reason, fields)
        if is_traced:
            self._tracer.ended(fields)

    def _decide(self, is_logged: bool, is_traced: bool) -> bool:
        is_wanted = is_logged or is_traced
        self._decided = (is_logged, is_traced) if is_wanted else None
        return is_wanted


def _attributes(fields: Mapping[str, Any]) -> Attributes:
    """Return what the span of a request says: no path, no query, no field of the request."""
    told: Attributes = {
        "http.request.method": fields["method"],
        "http.route": fields["route"],
        "http.response.status_code": fields["status"],
        "http.response.body.size": fields["bytes_out"],
        "client.address": fields["peer_addr"],
        "svc_edge.corr_id": fields["corr_id"],
    }
    if fields.get("reason"):
        told["svc_edge.reason"] = fields["reason"]
    return told
