"""Percentiles of latencies, whole and second by second. Pure arithmetic on what was measured.

A percentile is the least value that at least that share of all values does not exceed
(nearest rank, no interpolation), so that it is always a value that was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Bucket(NamedTuple):
    """What was measured in one span of time.

    Attributes:
        start_s: seconds since the start of the drill.
        answered: requests that were due in the span and got an answer; `lost` got none.
        p50_s, p95_s, p99_s: None where there was no answer.
    """

    start_s: float
    answered: int
    lost: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile of values in ascending order.

    Args:
        share: ``0 < share <= 1``; 0.95 is the 95th percentile.

    Raises:
        ValueError: there are no values.
    """
    if not ordered:
        raise ValueError("nothing has a percentile where there are no values")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def timeline(samples: Iterable[tuple[float, float | None]], stop_s: float, width_s: float) -> list[Bucket]:
    """Return one bucket for each `width_s` of ``[0, stop_s)``, in order; none is left out.

    Args:
        samples: when a request was due, and its latency, both seconds; None for a lost one.
    """
    buckets: list[list[float | None]] = [[] for _ in range(max(1, math.ceil(stop_s / width_s - 1e-9)))]
    for due_s, latency_s in samples:
        index = math.floor(due_s / width_s)
        if 0 <= index < len(buckets):
            buckets[index].append(latency_s)
    return [_bucket(index * width_s, values) for index, values in enumerate(buckets)]


def _bucket(start_s: float, values: list[float | None]) -> Bucket:
    ordered = sorted(value for value in values if value is not None)
    lost = len(values) - len(ordered)
    if not ordered:
        return Bucket(start_s, 0, lost, None, None, None)
    return Bucket(start_s, len(ordered), lost, *(percentile(ordered, share) for share in (0.5, 0.95, 0.99)))
