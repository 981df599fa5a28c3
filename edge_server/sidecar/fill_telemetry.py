"""What the fill engine tells, as metrics and log lines.

Process      the sidecar; called from the engine's threads.
"""

from __future__ import annotations

from edge_server.errors import Rejection
from edge_server.fill.engine import Hooks
from edge_server.observe.logs import log
from edge_server.observe.metrics import metrics
from edge_server.sidecar.journal import Journal

OP = "live_fill"  # of backoff_retries_total


class Telemetry(Hooks):
    """Counts; the engine bounds the values of `host`.

    Args:
        journal: tells of what has failed.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def attempted(self, host: str) -> None:
        """See Hooks."""
        metrics().edge_live_fill_attempts_total.labels(host).inc()

    def succeeded(self, host: str, seconds: float) -> None:
        """See Hooks."""
        metrics().edge_live_fill_success_total.labels(host).inc()
        metrics().fill_latency_seconds.labels(host).observe(seconds)

    def failed(self, host: str, corr_id: str, rejection: Rejection) -> None:
        """See Hooks."""
        self._journal.failed(host, corr_id, rejection)

    def retried(self) -> None:
        """See Hooks."""
        metrics().backoff_retries_total.labels(OP).inc()

    def coalesced(self) -> None:
        """See Hooks."""
        metrics().edge_fill_coalesced_total.inc()

    def timed_out(self, op: str) -> None:
        """See Hooks."""
        metrics().io_timeouts_total.labels(op).inc()

    def broke(self, error: BaseException) -> None:
        """See Hooks."""
        log("defect", "error", detail=repr(error))
