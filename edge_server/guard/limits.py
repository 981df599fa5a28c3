"""The guard's limits, as a configuration asks for them and this process can have them."""

from __future__ import annotations

import resource

from edge_server.config.schema import Ingress
from edge_server.guard import Limits

# Not settings: no client of tiles and assets comes near them.
MAX_TARGET_BYTES = 8 << 10
MAX_FIELDS = 100


def limits_of(ingress: Ingress, processes: int = 1, warm_bytes: int = 0) -> Limits:
    """Return what ``ingress.*`` says, for one of so many processes that share its connections.

    Args:
        warm_bytes: what all of them may keep of files in memory.
    """
    return Limits(
        header_timeout_s=ingress.header_timeout,
        body_timeout_s=ingress.timeout_secs,
        idle_timeout_s=ingress.idle_timeout,
        parked_timeout_s=2 * ingress.timeout_secs,
        min_send_rate=ingress.min_send_rate,
        max_connections=max(1, min(ingress.max_connections // processes, _room_for_connections())),
        max_head_bytes=ingress.max_header_bytes,
        max_target_bytes=MAX_TARGET_BYTES,
        max_fields=MAX_FIELDS,
        max_body_bytes=ingress.max_body_bytes,
        warm_bytes=warm_bytes // processes,
    )


def _room_for_connections() -> int:
    """Return how many connections leave descriptors for what they ask for.

    Of all descriptors, prepared answers may keep half open, and warm blocks an eighth: a
    quarter is for connections.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else max(1, soft // 4)
