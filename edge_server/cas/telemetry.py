"""What the store tells, as metrics and log lines.

Process      the sidecar; called with the store's lock held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_server.observe.logs import log
from edge_server.observe.metrics import Metrics, metrics
from edge_server.shm.fill_index import TIERS

WRITE_STATUSES = ("ok", "dedup", "error")


def teller() -> Callable[[str, dict[str, object]], None]:
    """Return what a Store is to call with its events."""
    declared: Metrics = metrics()
    writes = {status: declared.edge_cas_writes_total.labels(status) for status in WRITE_STATUSES}
    evictions = {tier: declared.edge_cas_evictions_total.labels(tier) for tier in TIERS}

    def tell(event: str, fields: dict[str, Any]) -> None:
        if event == "cas_write":
            writes[fields["status"]].inc()
        elif event == "cas_eviction":
            evictions[fields["tier"]].inc()
        else:
            log(event, **fields)

    return tell
