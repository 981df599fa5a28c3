"""Percentiles and their timeline, against values that can be counted by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.drill.percentiles import percentile, timeline


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100), (0.001, 1), (0.951, 96)]
)
def test_a_percentile_of_a_hundred_values_is_the_one_of_that_rank(share: float, expected: int) -> None:
    assert percentile(range(1, 101), share) == expected


def test_one_value_is_every_percentile() -> None:
    assert [percentile([7.0], share) for share in (0.01, 0.5, 1.0)] == [7.0] * 3


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.001, 1))
def test_at_least_that_share_is_not_above_a_percentile(values: list[float], share: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= share * len(ordered) - 1e-9
    assert sum(value < found for value in ordered) < share * len(ordered) + 1e-9


def test_a_timeline_has_a_bucket_for_each_span_even_without_requests() -> None:
    samples = [(0.1, 0.010), (0.9, 0.030), (2.0, None), (2.5, 0.001), (3.0, 9.9), (-0.1, 9.9)]
    buckets = timeline(samples, 3.0, 1.0)
    assert [bucket.start_s for bucket in buckets] == [0.0, 1.0, 2.0]
    assert [(bucket.answered, bucket.lost) for bucket in buckets] == [(2, 0), (0, 0), (1, 1)]
    assert buckets[0][3:] == (0.010, 0.030, 0.030)
    assert buckets[1].p95_s is None
