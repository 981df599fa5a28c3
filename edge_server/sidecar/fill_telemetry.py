"""What the fill engine tells, as metrics and log lines.

Process      the sidecar; called from the engine's threads.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_server.errors import Rejection
from edge_server.fill.engine import Hooks
from edge_server.observe.logs import log
from edge_server.observe.metrics import MAX_HOSTS, OTHER, metrics

OP = "live_fill"  # of backoff_retries_total


def hosts_shown(allow: Sequence[str]) -> tuple[str, ...]:
    """Return the values of the label `host`: of a long allow-list its begin, and what is left together."""
    return (*allow[:MAX_HOSTS], OTHER)


class Telemetry(Hooks):
    """Counts.

    Args:
        allow: the allow-list.
    """

    def __init__(self, allow: Sequence[str]) -> None:
        self._hosts = frozenset(hosts_shown(allow))

    def attempted(self, host: str) -> None:
        """See Hooks."""
        metrics().edge_live_fill_attempts_total.labels(self._label(host)).inc()

    def succeeded(self, host: str, seconds: float) -> None:
        """See Hooks."""
        label = self._label(host)
        metrics().edge_live_fill_success_total.labels(label).inc()
        metrics().fill_latency_seconds.labels(label).observe(seconds)

    def failed(self, host: str, corr_id: str, rejection: Rejection) -> None:
        """See Hooks."""
        log(
            "live_fill",
            "warning",
            host=host,
            status=rejection.status,
            reason=rejection.reason,
            detail=str(rejection),
            corr_id=corr_id,
        )

    def retried(self) -> None:
        """See Hooks."""
        metrics().backoff_retries_total.labels(OP).inc()

    def coalesced(self) -> None:
        """See Hooks."""
        metrics().edge_fill_coalesced_total.inc()

    def timed_out(self, op: str) -> None:
        """See Hooks."""
        metrics().io_timeouts_total.labels(op).inc()

    def handshake_failed(self) -> None:
        """See Hooks."""
        metrics().tls_handshake_failures_total.inc()

    def broke(self, error: BaseException) -> None:
        """See Hooks."""
        log("defect", "error", detail=repr(error))

    def _label(self, host: str) -> str:
        return host if host in self._hosts else OTHER
