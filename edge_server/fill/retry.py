"""Retries: which failures are worth another attempt, and how long to wait before it.

Specification: contract section 4, `retry.live_fill`. Does no I/O, looks at no clock and knows no
process; randomness comes as an argument.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_server.config.schema import LiveFillRetry
from edge_server.errors import FillTimeout, FillUnavailable, StoreUnavailable
from edge_server.fill.fetch import StatusFailure
from edge_server.fill.wire import Cut


def wait_ms(attempt: int, retry: LiveFillRetry, uniform: Callable[[float, float], float]) -> float:
    """Return the wait before an attempt: ``min(max_ms, base_ms * 2**n) + U[0, base_ms]``.

    Args:
        attempt: n, 0 for the first retry.
        retry: the settings; without `jitter` the second term is 0.
        uniform: as `random.uniform`.
    """
    wait: float = min(retry.max_ms, retry.base_ms * 2**attempt)
    return wait + (uniform(0, retry.base_ms) if retry.jitter else 0)


def is_transient(failure: Exception, retry: LiveFillRetry) -> bool:
    """Return whether a failed attempt is worth another: a listed status, or with ``timeout`` any
    answer that did not come, or not to its end. An answer that could not be stored is not."""
    if isinstance(failure, StatusFailure):
        return failure.status in retry.retry_on
    if isinstance(failure, StoreUnavailable):
        return False
    return "timeout" in retry.retry_on and isinstance(failure, (FillTimeout, FillUnavailable, Cut))
