"""Traces: spans on their way to a collector, by the OpenTelemetry SDK.

Process      the sidecar, in the thread of the intake; made there, after the fork, since the SDK's batch
             processor has a thread of its own. Workers never import it.
Memory       at most QUEUE_MAX spans that the collector has not taken; what comes beyond that is dropped.
Consistency  a collector that is down or slow holds up nobody. It is told once, and once when it is back.

Specification: OTLP over HTTP, protobuf: ``<endpoint>/v1/traces``. The SDK's own variables
(``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_RESOURCE_ATTRIBUTES`` ...) hold.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from edge_server import __version__
from edge_server.observe.logs import log
from edge_server.observe.metrics import SPAN_RESULTS
from edge_server.observe.spans import CLIENT, INTERNAL, SERVER, Span

QUEUE_MAX = 4096
BATCH = 512
PERIOD_MS = 1000
TIMEOUT_S = 5.0
CLOSING_S = 2.0

_KINDS = {SERVER: SpanKind.SERVER, INTERNAL: SpanKind.INTERNAL, CLIENT: SpanKind.CLIENT}
_PATH = "/v1/traces"
EXPORTED, FAILED, DROPPED = SPAN_RESULTS

Count = Callable[[str, int], None]


class _Exporter(SpanExporter):
    """The SDK's exporter, with what became of each batch."""

    def __init__(self, url: str, ended: Callable[[int, bool], None]) -> None:
        self._exporter = OTLPSpanExporter(endpoint=url, timeout=TIMEOUT_S)
        self._ended = ended

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See SpanExporter."""
        try:
            result = self._exporter.export(spans)
        except Exception:  # the processor would end its thread
            result = SpanExportResult.FAILURE
        self._ended(len(spans), result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        """See SpanExporter."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class Traces:
    """Delivers spans.

    Args:
        endpoint: as in `otel.endpoint`.
        count: called with a result of SPAN_RESULTS and how many spans had it.
        attributes: of the resource, besides the service's name and version.
    """

    def __init__(self, endpoint: str, count: Count, **attributes: str) -> None:
        for name in ("opentelemetry", "urllib3"):  # what they say is told by `trace_export`
            logging.getLogger(name).addHandler(logging.NullHandler())
            logging.getLogger(name).propagate = False
        self._count = count
        self._lock = threading.Lock()
        self._pending = 0
        self._is_failing = False
        told = {"service.name": "svc-edge", "service.version": __version__, **attributes}
        self._resource = Resource.create(told)
        self._scope = InstrumentationScope("svc-edge", __version__)
        self._processor = BatchSpanProcessor(
            _Exporter(url_of(endpoint), self._ended),
            max_queue_size=QUEUE_MAX,
            schedule_delay_millis=PERIOD_MS,
            max_export_batch_size=BATCH,
        )

    def take(self, span: Span) -> None:
        """Have a span delivered soon, if there is room."""
        with self._lock:
            has_room = self._pending < QUEUE_MAX
            self._pending += has_room
        if has_room:
            self._processor.on_end(self._made(span))
        else:
            self.drop(1)

    def drop(self, count: int) -> None:
        """Count spans that were lost."""
        if count:
            self._count(DROPPED, count)

    def close(self) -> None:
        """Deliver what is there, as far as that is possible soon."""
        closing = threading.Thread(target=self._processor.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSING_S)

    def _ended(self, count: int, is_delivered: bool) -> None:
        with self._lock:
            self._pending -= count
        self._count(EXPORTED if is_delivered else FAILED, count)
        if is_delivered == self._is_failing:
            self._is_failing = not is_delivered
            if is_delivered:
                log("trace_export", reason="otel.endpoint takes spans again")
            else:
                log("trace_export", "warning", reason="otel.endpoint does not take spans; they are dropped")

    def _made(self, span: Span) -> ReadableSpan:
        trace_id = int(span.trace_id, 16)
        attributes: dict[str, Any] = dict(span.attributes)
        if span.error:
            attributes["error.type"] = span.error
        return ReadableSpan(
            name=span.name,
            context=_context(trace_id, span.span_id, is_remote=False),
            parent=_context(trace_id, span.parent_id, is_remote=True) if span.parent_id else None,
            resource=self._resource,
            attributes=attributes,
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )


def url_of(endpoint: str) -> str:
    """Return where spans are posted."""
    base = endpoint.rstrip("/")
    return base if base.endswith(_PATH) else base + _PATH


def _context(trace_id: int, span_id: str, *, is_remote: bool) -> SpanContext:
    return SpanContext(trace_id, int(span_id, 16), is_remote, TraceFlags(TraceFlags.SAMPLED))
