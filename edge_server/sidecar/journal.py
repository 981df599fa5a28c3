"""The journal of fills: a log line, an audit record and a span for each, and what an origin is told of it.

Process      the sidecar; called from any of its threads.
Memory       a few words for each Ask under way, and only where tracing is on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import time_ns
from typing import NamedTuple

from edge_server.errors import Rejection
from edge_server.fill.fields import Field
from edge_server.fill.messages import Ask, Done, Kind, Outcome
from edge_server.fill.request import NO_DIGEST, Fetched
from edge_server.http.reasons import REASONS
from edge_server.observe.audit_log import AuditLog
from edge_server.observe.logs import log
from edge_server.observe.spans import CLIENT, FILL, Context, Share, Span, new_span_id, parse

Answer = Callable[[Done], None]
TakeSpan = Callable[[Span], None]


class _Under(NamedTuple):
    """A fill under way."""

    parent: Context
    span_id: str
    start_ns: int


class Journal:
    """See above.

    Args:
        audit: None where nothing is audited.
        span: takes spans; None where nothing is traced.
        sample: share of good fills that are logged at level info; the others are at debug.
    """

    def __init__(
        self, audit: AuditLog | None = None, span: TakeSpan | None = None, sample: float = 0.0
    ) -> None:
        self._audit = audit
        self._span = span
        self._share = Share(sample)
        self._lock = threading.Lock()
        self._under: dict[int, _Under] = {}  # by ticket

    def begin(self, ask: Ask, answer: Answer) -> Answer:
        """Return what is to be called with the answer, instead of `answer`: its span ends then."""
        parent = parse(ask.trace) if self._span is not None else None
        if parent is None:
            return answer
        under = _Under(parent, new_span_id(), time_ns())
        self._under[ask.ticket] = under

        def ended(done: Done) -> None:
            if self._under.pop(ask.ticket, None) is not None:
                self._end(ask, under, done)
            answer(done)

        return ended

    def tags(self, ask: Ask) -> tuple[Field, ...]:
        """Return the fields that let an origin's own log be followed: of ours, nothing that a client wrote
        but a correlation id that was found sane."""
        under = self._under.get(ask.ticket)
        found: list[Field] = [("X-Corr-ID", ask.corr_id)] if ask.corr_id else []
        if under is not None:
            context = under.parent._replace(span_id=under.span_id)
            found.append(("traceparent", context.traceparent))
        return tuple(found)

    def filled(self, ask: Ask, fetched: Fetched) -> None:
        """Tell of what an origin has answered, once for all who wait for it."""
        with self._lock:
            is_sampled = self._share.takes()
        digest = "" if fetched.digest == NO_DIGEST else fetched.digest.hex()
        status = 304 if fetched.not_modified else fetched.status
        log(
            "live_fill",
            "info" if is_sampled else "debug",
            host=fetched.url_host,
            status=status,
            hash=digest,
            size=fetched.size,
            attempt=fetched.attempts,
            latency_ms=max(0, fetched.response_ms - fetched.request_ms),
            corr_id=ask.corr_id,
            revalidates=ask.kind is Kind.REVALIDATE,
        )
        if self._audit is not None:
            told = {"origin_host": fetched.url_host, "hash": digest, "size": fetched.size, "status": status}
            self._audit.add("fill", corr_id=ask.corr_id, **told)

    def failed(self, host: str, corr_id: str, rejection: Rejection) -> None:
        """Tell of a fill that brought nothing; `host` is what on the allow-list allows the origin."""
        told = {"status": rejection.status, "reason": rejection.reason, "corr_id": corr_id}
        log("live_fill", "warning", host=host, detail=str(rejection), **told)
        if self._audit is not None:
            self._audit.add("fill_failed", origin_host=host, **told)

    def _end(self, ask: Ask, under: _Under, done: Done) -> None:
        has_failed = done.outcome in (Outcome.REFUSED, Outcome.STALE)
        if self._span is None or not (has_failed or under.parent.is_sampled):
            return
        attributes: dict[str, str | int | float | bool] = {
            "svc_edge.fill": done.outcome.value,
            "svc_edge.corr_id": ask.corr_id,
        }
        if done.reason:
            attributes["svc_edge.reason"] = done.reason
        self._span(
            Span(
                FILL,
                under.parent.trace_id,
                under.span_id,
                under.parent.span_id,
                under.start_ns,
                time_ns(),
                attributes,
                done.reason if done.reason and REASONS[done.reason].status >= 500 else "",
                CLIENT,
            )
        )
