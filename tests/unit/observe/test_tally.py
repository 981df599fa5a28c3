from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_server.observe.metrics import ASSETS, LATENCY_BUCKETS_S, METHODS, OTHER, READYZ, ROUTES, metrics
from edge_server.observe.tally import FAST_S, Tally

Totals = Callable[[], dict[Any, float]]

GET_ASSETS = (("method", "GET"), ("route", ASSETS))

LATENCIES = st.one_of(
    st.floats(0, 20, allow_nan=False), st.sampled_from([0.0, FAST_S, *LATENCY_BUCKETS_S, 5.1200001, 60.0])
)


def test_nothing_is_written_before_the_fold(totals: Totals) -> None:
    Tally().record(ASSETS, "GET", 200, 0.001)
    assert totals() == {}


def test_one_request_reaches_every_metric_that_it_concerns(totals: Totals) -> None:
    tally = Tally()
    tally.record(ASSETS, "GET", 206, 0.003, 100, bytes_in=7, hit="pack")
    tally.fold()
    read = totals()
    assert read["http_requests_total", (*GET_ASSETS, ("status", "206"))] == 1
    assert read["edge_cache_hits_total", (("kind", "pack"), ("range", "true"))] == 1
    assert read["edge_range_requests_total", (("result", "206"),)] == 1
    assert read["edge_bytes_out_total", (("route", ASSETS),)] == 100
    assert read["edge_bytes_in_total", (("route", ASSETS),)] == 7
    assert read["request_latency_seconds_count", GET_ASSETS] == 1
    assert read["request_latency_seconds_sum", GET_ASSETS] == pytest.approx(0.003)
    assert read["request_latency_seconds_bucket", (("le", "0.0025"), *GET_ASSETS)] == 0
    assert read["request_latency_seconds_bucket", (("le", "0.005"), *GET_ASSETS)] == 1


@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(latencies=st.lists(LATENCIES, min_size=1, max_size=30), folds=st.integers(1, 5))
def test_the_histogram_is_the_one_that_observe_would_have_made(
    metrics_dir: Path, totals: Totals, latencies: list[float], folds: int
) -> None:
    def folded(before: dict[str, float]) -> dict[str, float]:
        read = totals()
        return {
            name + str(dict(labels).get("le", "")): value
            - before.get(name + str(dict(labels).get("le", "")), 0)
            for (name, labels), value in read.items()
            if name.startswith("request_latency_seconds") and dict(labels)["route"] == READYZ
        }

    child = metrics().request_latency_seconds.labels(READYZ, "GET")
    before = folded({})
    for latency in latencies:
        child.observe(latency)
    expected = folded(before)

    tally = Tally()
    before = folded({})
    for number, latency in enumerate(latencies):
        tally.record(READYZ, "GET", 200, latency)
        if number % folds == 0:
            tally.fold()
    tally.fold()
    assert folded(before) == pytest.approx(expected)


def test_folding_twice_adds_nothing(totals: Totals) -> None:
    tally = Tally()
    tally.record(ASSETS, "GET", 404, 0.001, reason="not_found")
    tally.fold()
    once = totals()
    tally.fold()
    assert totals() == once
    assert once["rejected_total", (("reason", "not_found"),)] == 1


def test_inline_counting_is_the_same_as_record(totals: Totals) -> None:
    tally = Tally()
    outcome = tally.outcome(ASSETS, "GET", 200, "pack")
    for latency in (0.0001, FAST_S, 0.3):
        if latency <= FAST_S:
            outcome.fast += 1
        else:
            outcome.slow(latency)
        outcome.latency_s += latency
        outcome.bytes_out += 10
    tally.fold()
    assert (outcome.requests, tally.requests, tally.bytes_out) == (3, 3, 30)
    read = totals()
    assert read["http_requests_total", (*GET_ASSETS, ("status", "200"))] == 3
    assert read["request_latency_seconds_count", GET_ASSETS] == 3
    assert read["edge_cache_hits_total", (("kind", "pack"), ("range", "false"))] == 3


def test_unknown_routes_and_methods_share_one_series(totals: Totals) -> None:
    tally = Tally()
    for number in range(50):
        tally.record(f"/path/{number}", f"VERB{number}", 405, 0.001, reason="method")
    tally.fold()
    requests = {labels: value for (name, labels), value in totals().items() if name == "http_requests_total"}
    assert requests == {(("method", OTHER), ("route", OTHER), ("status", "405")): 50}


def test_the_known_labels_are_kept() -> None:
    tally = Tally()
    kept = {tally.outcome(route, method, 200).key[:2] for route in ROUTES for method in METHODS}
    assert kept == {(route, method) for route in ROUTES for method in METHODS}


def test_a_fold_that_interrupts_counting_loses_and_doubles_nothing(totals: Totals) -> None:
    tally = Tally()
    outcome = tally.outcome(ASSETS, "GET", 200)
    outcome.fast += 1
    read_before_the_fold = outcome.fast  # what an interrupted `+= 1` has loaded
    tally.fold()
    outcome.fast = read_before_the_fold + 1
    tally.fold()
    assert totals()["http_requests_total", (*GET_ASSETS, ("status", "200"))] == 2
