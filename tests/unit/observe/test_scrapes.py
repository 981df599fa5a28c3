"""Scrapes: parsing them, and rates and quantiles of the time between two, as PromQL has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.observe.scrapes import Interval, by_label, parse, sample, total

TEXT = """\
# TYPE http_requests_total counter
http_requests_total{route="/edge/assets",status="200"} 10.0
http_requests_total{route="/edge/assets",status="404"} 2.0
http_requests_total{route="/readyz",status="200"} 5.0
http_requests_created{route="/readyz",status="200"} 1700000000.0
# TYPE edge_ready gauge
edge_ready 1.0
"""
BOUNDS = (0.01, 0.1, 1.0)


def histogram(*cumulative: float) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the buckets of a histogram ``t`` with the bounds of BOUNDS and infinity."""
    names = [*map(str, BOUNDS), "+Inf"]
    return {sample("t_bucket", le=le): count for le, count in zip(names, cumulative, strict=True)}


def test_a_scrape_is_parsed_and_summed_by_label() -> None:
    found = parse(TEXT)
    assert found[sample("edge_ready")] == 1
    assert total(found, "http_requests_total") == 17
    assert total(found, "http_requests_total", route="/edge/assets") == 12
    assert by_label(found, "http_requests_total", "status") == {"200": 15, "404": 2}
    assert not [name for name, _ in found if name.endswith("_created")]


def test_what_is_no_scrape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        parse("<html>")


def test_a_counter_that_fell_began_anew() -> None:
    before, after = {sample("c", k="a"): 100.0, sample("c", k="b"): 5.0}, {sample("c", k="a"): 7.0}
    spent = Interval(before, {**after, sample("c", k="b"): 5.0, sample("c", k="new"): 3.0}, 2.0)
    assert spent.increases("c", "k") == {"a": 7.0, "new": 3.0}
    assert spent.rates("c", "k") == {"a": 3.5, "new": 1.5}
    assert spent.rate("c") == 5.0
    assert spent.rate("c", k="new") == 1.5
    assert spent.rate("unknown") == 0


@pytest.mark.parametrize(
    ("share", "counts", "expected"),
    [
        (0.5, (10, 10, 10, 10), 0.005),
        (1.0, (10, 10, 10, 10), 0.01),
        (0.5, (0, 10, 10, 10), 0.055),
        (0.75, (5, 10, 10, 10), 0.055),
        (0.95, (0, 0, 0, 10), 1.0),
        (0.95, (0, 0, 0, 0), None),
    ],
)
def test_a_quantile_is_interpolated_within_its_bucket(
    share: float, counts: tuple[float, ...], expected: float | None
) -> None:
    found = Interval(histogram(0, 0, 0, 0), histogram(*counts), 1.0).quantile(share, "t")
    assert found == (None if expected is None else pytest.approx(expected))


def test_a_quantile_is_of_what_came_in_between_only() -> None:
    before, after = histogram(1000, 1000, 1000, 1000), histogram(1000, 1000, 1010, 1010)
    assert Interval(before, after, 1.0).quantile(0.5, "t") == pytest.approx(0.55)


@given(st.lists(st.sampled_from([0.004, 0.05, 0.5]), min_size=1), st.sampled_from([0.01, 0.5, 0.95, 1.0]))
def test_a_quantile_lies_in_the_bucket_of_that_rank(values: list[float], share: float) -> None:
    counts = [sum(value <= bound for value in values) for bound in BOUNDS]
    found = Interval({}, histogram(*counts, len(values)), 1.0).quantile(share, "t")
    assert found is not None
    exact = sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]
    upper = next(bound for bound in BOUNDS if exact <= bound)
    assert 0 < found <= upper
