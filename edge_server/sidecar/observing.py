"""What this sidecar makes of reports, as its configuration wants it: an audit chain, traces, both or nothing.

Process      the sidecar.
"""

from __future__ import annotations

from functools import partial

from edge_server.config.checks import audit_path
from edge_server.observe.audit_log import AuditLog
from edge_server.observe.metrics import AUDIT_KINDS, SPAN_RESULTS, metrics
from edge_server.roles import Brief
from edge_server.sidecar.intake import Intake, Traces


def observing(brief: Brief) -> tuple[AuditLog | None, Intake]:
    """Return the audit log, if there is to be one, and the intake, not started yet."""
    config = brief.config
    audit = None
    if config.audit.enabled:
        counters = {kind: metrics().audit_records_total.labels(kind) for kind in AUDIT_KINDS}
        path, mode = audit_path(config), config.edge.mode
        audit = AuditLog(path, brief.reports, mode, lambda kind: counters[kind].inc())
    is_traced = config.otel.endpoint is not None
    return audit, Intake(brief.reports, audit, partial(_traces, brief) if is_traced else None)


def _traces(brief: Brief) -> Traces:
    """Load the SDK: it takes a third of a second, and nobody waits for it here."""
    from edge_server.sidecar.traces import Traces as Delivering

    endpoint = brief.config.otel.endpoint
    assert endpoint is not None
    counters = {result: metrics().edge_spans_total.labels(result) for result in SPAN_RESULTS}
    return Delivering(
        endpoint,
        lambda result, count: counters[result].inc(count),
        **{"svc_edge.mode": brief.config.edge.mode, "svc_edge.bind_addr": brief.addresses[0]},
    )
