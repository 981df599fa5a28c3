"""Whether a series of samples rises, in spite of noise, steps and outliers. Pure arithmetic.

The slope is that of Theil and Sen (the median of the slopes of all pairs), which nearly a third
of the samples may falsify without moving it. A step is not a trend: the medians of the four
quarters must rise one after the other, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

MIN_SAMPLES = 12
_MAX_SAMPLES = 400  # pairs grow with the square; a longer series is thinned evenly


class Trend(NamedTuple):
    """What a series does.

    Attributes:
        growth: slope times length: what it has grown by from one end to the other, without the noise.
        allowed: how much growth is taken for none.
    """

    growth: float
    allowed: float
    is_rising: bool


def theil_sen(times: Sequence[float], values: Sequence[float]) -> float:
    """Return the median slope of all pairs, in units of `values` a unit of `times`.

    Raises:
        ValueError: fewer than two different times.
    """
    slopes = [
        (values[j] - values[i]) / (times[j] - times[i])
        for i in range(len(times))
        for j in range(i + 1, len(times))
        if times[j] != times[i]
    ]
    if not slopes:
        raise ValueError("a slope needs two different times")
    return median(slopes)


def judge(times: Sequence[float], values: Sequence[float], allowed: float) -> Trend:
    """Return whether `values` rise by more than `allowed` over the whole of `times`.

    Raises:
        ValueError: there are fewer than `MIN_SAMPLES`.
    """
    if len(times) < MIN_SAMPLES:
        raise ValueError(f"{len(times)} samples are too few for a trend; {MIN_SAMPLES} are needed")
    step = -(-len(times) // _MAX_SAMPLES)
    times, values = times[::step], values[::step]
    growth = theil_sen(times, values) * (times[-1] - times[0])
    return Trend(growth, allowed, growth > allowed and _rises_by_quarters(values, allowed / 8))


def second_half(times: Sequence[float]) -> slice:
    """Return which samples are judged: those after the middle, when caches are full."""
    middle = (times[0] + times[-1]) / 2
    return slice(next(index for index, at in enumerate(times) if at >= middle), None)


def _rises_by_quarters(values: Sequence[float], least: float) -> bool:
    count = len(values)
    medians = [median(values[count * part // 4 : count * (part + 1) // 4]) for part in range(4)]
    return all(after - before > least for before, after in pairwise(medians))
