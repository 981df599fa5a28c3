from __future__ import annotations

from pathlib import Path

import pytest

from edge_server.observe.metrics import ASSETS, metrics
from edge_server.shm.scoreboard import Field, Scoreboard
from edge_server.sidecar.traffic import HISTORY_POINTS, SERIES, WINDOW_S, Traffic


@pytest.fixture
def traffic(metrics_dir: Path, scoreboard: Scoreboard) -> Traffic:
    made = Traffic(str(metrics_dir), scoreboard)
    made.sample(100.0)
    return made


def serve(count: int, latency_s: float, reason: str = "") -> None:
    """Count what a worker counts for that many requests."""
    declared = metrics()
    declared.http_requests_total.labels(ASSETS, "GET", "404" if reason else "200").inc(count)
    for _ in range(count):
        declared.request_latency_seconds.labels(ASSETS, "GET").observe(latency_s)
    if reason:
        declared.rejected_total.labels(reason).inc(count)
    else:
        declared.edge_cache_hits_total.labels("pack", "false").inc(count)
        declared.edge_bytes_out_total.labels(ASSETS).inc(1000 * count)


def test_without_a_second_sample_nothing_is_told_of_rates(traffic: Traffic) -> None:
    told = traffic.now().traffic()
    assert (told["requests_per_s"], told["hit_ratio"], told["latency_ms"]["p50"]) == (None, None, None)
    assert traffic.history(0)["series"] == dict.fromkeys(SERIES, ())


def test_rates_are_differences_over_the_time_between(traffic: Traffic) -> None:
    serve(30, 0.0001)
    serve(10, 0.0001, "not_found")
    traffic.sample(104.0)
    told = traffic.now().traffic()
    assert (told["window_s"], told["requests"], told["requests_per_s"]) == (4.0, 40, 10.0)
    assert (told["bytes_out"], told["bytes_out_per_s"]) == (30_000, 7500.0)
    assert told["rejected_per_s"] == 2.5
    assert told["rejected"] == [{"reason": "not_found", "total": 10, "per_s": 2.5}]
    assert (told["hit_ratio"], told["hits"]["pack"]) == (1.0, 30)


def test_percentiles_are_of_the_window_and_not_of_all_time(traffic: Traffic) -> None:
    serve(1000, 0.3)
    traffic.sample(101.0)
    assert traffic.now().traffic()["latency_ms"]["p50"] == pytest.approx(240)
    for second in range(102, 102 + WINDOW_S + 1):
        serve(10, 0.003)
        traffic.sample(second)
    latency = traffic.now().traffic()["latency_ms"]
    assert latency == {"p50": pytest.approx(3.75), "p95": pytest.approx(4.875), "p99": pytest.approx(4.975)}


def test_misses_lower_the_hit_ratio(traffic: Traffic) -> None:
    serve(3, 0.0001)
    metrics().edge_cache_misses_total.labels("cold").inc()
    traffic.sample(101.0)
    assert traffic.now().traffic()["hit_ratio"] == 0.75


def test_fills_and_the_store_are_told(traffic: Traffic) -> None:
    declared = metrics()
    declared.edge_live_fill_attempts_total.labels("other").inc(5)
    declared.edge_live_fill_success_total.labels("other").inc(4)
    declared.edge_fill_coalesced_total.inc(7)
    declared.edge_cas_writes_total.labels("ok").inc(4)
    traffic.sample(102.0)
    told = traffic.now().fills()
    assert (told["attempts"], told["succeeded"], told["per_s"], told["success_ratio"]) == (5, 4, 2.0, 0.8)
    assert told["coalesced"] == 7
    assert traffic.now().writes() == {"ok": 4}


def test_a_process_has_a_rate_once_it_was_seen_twice(traffic: Traffic, scoreboard: Scoreboard) -> None:
    row = scoreboard.row(scoreboard.row_index(1, "a"))
    row.begin(4242, 7, None)
    traffic.sample(101.0)
    assert traffic.now().process_rate(4242) is None
    for second in range(102, 112):
        row.set(Field.REQUESTS, row.get(Field.REQUESTS) + 20)
        traffic.sample(second)
    assert traffic.now().process_rate(4242) == 20.0


def test_a_reader_of_the_history_gets_only_what_is_new(traffic: Traffic) -> None:
    for second in range(101, 106):
        serve(second - 100, 0.0001)
        traffic.sample(second)
    whole = traffic.history(0)
    assert (whole["last"], list(whole["series"]["requests_per_s"])) == (5, [1.0, 2.0, 3.0, 4.0, 5.0])
    assert list(traffic.history(3)["series"]["requests_per_s"]) == [4.0, 5.0]
    assert traffic.history(5)["series"]["requests_per_s"] == ()
    assert traffic.history(99)["series"]["requests_per_s"] == ()


def test_the_history_is_bounded(traffic: Traffic) -> None:
    for second in range(101, 101 + HISTORY_POINTS + 20):
        traffic.sample(second)
    told = traffic.history(0)
    assert (told["last"], len(told["series"]["p99_ms"])) == (HISTORY_POINTS + 20, HISTORY_POINTS)
    assert len(traffic.history(HISTORY_POINTS)["series"]["p99_ms"]) == 20


def test_ticks_take_a_sample_a_second(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [200.0]
    monkeypatch.setattr("edge_server.sidecar.traffic.time.monotonic", lambda: now_s[0])
    for _ in range(51):
        traffic.tick()
        now_s[0] += 0.1
    assert traffic.history(0)["last"] in (5, 6)
