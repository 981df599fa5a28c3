"""Intake: what workers report, and what this process adds, becomes audit records and spans.

Process      the sidecar, in a thread of its own: a slow disk or collector holds up nobody else. One sidecar
             at a time, by the lock of the channel; a successor begins once this one has let go of it.
Memory       SPANS_MAX spans that nobody has taken yet; what comes beyond that is counted.
Lifetime     until `stop`; what was reported before that is written out.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from traceback import format_exc
from typing import Any, Protocol

from edge_server.observe.audit_log import AuditLog
from edge_server.observe.logs import flush, log
from edge_server.observe.reporting import LOST, REJECT, SPAN, unpack
from edge_server.observe.spans import Span
from edge_server.shm.reports import PACKET_BYTES, Reports

SPANS_MAX = 2048
_PERIOD_S = 0.05
_RETRY_S = 0.02
_PACKETS_A_TURN = 64


class Traces(Protocol):
    """What takes spans: sidecar/traces.py."""

    def take(self, span: Span) -> None: ...
    def drop(self, count: int) -> None: ...
    def close(self) -> None: ...


class Intake:
    """See above.

    Args:
        audit: None where nothing is audited.
        make_traces: makes what takes spans, in the thread; None where nothing is traced.
    """

    def __init__(
        self, reports: Reports, audit: AuditLog | None, make_traces: Callable[[], Traces] | None
    ) -> None:
        self._reports = reports
        self._audit = audit
        self._make_traces = make_traces
        self._traces: Traces | None = None
        self._spans: deque[Span] = deque()
        self._lost_spans = 0
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        """Begin in the background, if there is anything to do."""
        if self._audit is not None or self._make_traces is not None:
            self._thread.start()

    def stop(self, within_s: float) -> None:
        """Write out what is there, and let go; waits so long for it at most."""
        self._is_stopping = True
        if self._thread.ident is not None:
            self._thread.join(within_s)

    def span(self, span: Span) -> None:
        """Take a span of this process; from any thread."""
        if len(self._spans) < SPANS_MAX:
            self._spans.append(span)
        else:
            self._lost_spans += 1

    def _run(self) -> None:
        try:
            while not self._reports.lock():
                if self._is_stopping:
                    return
                time.sleep(_RETRY_S)
            self._traces = self._begin_traces()
            self._serve()
        except BaseException as error:
            log("defect", "error", detail=f"the intake of reports: {error!r}", traceback=format_exc())
            flush()
            os._exit(1)  # a chain with nobody who writes it is of no use: the successor goes on with it

    def _begin_traces(self) -> Traces | None:
        """Make what takes spans; without it the audit goes on."""
        try:
            return None if self._make_traces is None else self._make_traces()
        except Exception as error:  # what a library makes of the variables of its own
            log("trace_export", "error", reason=f"nothing is traced: {error!r}")
            return None

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._reports.receiving, select.POLLIN)
        while not self._is_stopping:
            poll.poll(_PERIOD_S * 1000)
            self._turn()
        while self._turn():
            pass
        if self._audit is not None:
            self._audit.close()
        self._reports.unlock()
        if self._traces is not None:
            self._traces.close()

    def _turn(self) -> bool:
        """Pass on what there is; return whether there was a report."""
        packets = 0
        for _ in range(_PACKETS_A_TURN):
            try:
                packet = self._reports.receiving.recv(PACKET_BYTES)
            except BlockingIOError:
                break
            packets += 1
            self._take(packet)
        if self._traces is not None:
            while self._spans:
                self._traces.take(self._spans.popleft())
            if self._lost_spans:
                self._traces.drop(self._lost_spans)
                self._lost_spans = 0
        if self._audit is not None:
            self._audit.advance()
        return packets > 0

    def _take(self, packet: bytes) -> None:
        try:
            for kind, told in unpack(packet):
                self._pass_on(kind, told)
        except (ValueError, TypeError, KeyError) as error:
            log("defect", "error", detail=f"no report: {error!r}")

    def _pass_on(self, kind: str, told: Any) -> None:
        audit, traces = self._audit, self._traces
        if kind == REJECT and audit is not None:
            audit.add(REJECT, **told)
        elif kind == SPAN and traces is not None:
            traces.take(told)
        elif kind == LOST:
            if audit is not None:
                audit.drop(told.get(REJECT, 0))
            if traces is not None:
                traces.drop(told.get(SPAN, 0))
