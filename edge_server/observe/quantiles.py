"""Quantiles of a histogram: an estimate from how many observations each bucket has.

The estimate is that of PromQL's ``histogram_quantile``: linear inside a bucket, whose lower bound
is that of the one before, or 0; what lies beyond the last bound is that bound. So an answer of up
to the first bound says no more than that, and one of the last bound says "or more". Pure arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence


def quantile(share: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """Return the value that `share` of the observations do not exceed; None without observations.

    Args:
        share: 0 to 1, e.g. 0.95.
        bounds: upper bounds of the buckets, ascending; that of the last one, infinity, left out.
        counts: observations of each bucket alone, one more than there are bounds.
    """
    assert len(counts) == len(bounds) + 1
    rank = share * sum(counts)
    if rank <= 0:
        return None
    below, seen = 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if seen + count >= rank:
            return below + (bound - below) * (rank - seen) / count
        below, seen = bound, seen + count
    return bounds[-1]
