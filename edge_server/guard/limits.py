"""The guard's limits as a configuration asks for them. Pure."""

from __future__ import annotations

from edge_server.config.schema import Ingress
from edge_server.guard import Limits

# Not settings: no client of tiles and assets comes near them.
MAX_TARGET_BYTES = 8 << 10
MAX_FIELDS = 100


def limits_of(ingress: Ingress, processes: int = 1) -> Limits:
    """Return what ``ingress.*`` says, for one of so many processes that share its connections."""
    return Limits(
        header_timeout_s=ingress.header_timeout,
        body_timeout_s=ingress.timeout_secs,
        idle_timeout_s=ingress.idle_timeout,
        parked_timeout_s=2 * ingress.timeout_secs,
        min_send_rate=ingress.min_send_rate,
        max_connections=max(1, ingress.max_connections // processes),
        max_head_bytes=ingress.max_header_bytes,
        max_target_bytes=MAX_TARGET_BYTES,
        max_fields=MAX_FIELDS,
        max_body_bytes=ingress.max_body_bytes,
    )
