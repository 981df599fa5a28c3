from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_server.observe import metrics
from edge_server.observe.declarations import COUNTER, DECLARED, GAUGE, HISTOGRAM, Declared

Totals = Callable[[], dict[Any, float]]


def names(text: str) -> set[str]:
    return set(text.split())


# Section 6 of the service contract: names and labels.
CONTRACT = names("""
    http_requests_total{route,method,status} request_latency_seconds{route,method} fill_latency_seconds{host}
    inflight_requests{route} edge_inflight{endpoint} rejected_total{reason} busy_rejections_total{endpoint}
    edge_queue_depth{queue} edge_queue_dropped_total{queue} edge_cache_hits_total{kind,range}
    edge_cache_misses_total{cause} edge_range_requests_total{result} edge_live_fill_attempts_total{host}
    edge_live_fill_success_total{host} edge_fill_coalesced_total edge_parked{slot} edge_parks_total{result}
    backoff_retries_total{op} io_timeouts_total{op} edge_cas_writes_total{status} edge_cas_bytes{tier}
    edge_cas_evictions_total{tier} edge_bytes_out_total{route} edge_bytes_in_total{route}
    edge_connections{state} edge_slow_clients_total{kind} tls_handshake_failures_total
    audit_records_total{kind} service_restarts_total{component} edge_worker_up{slot}
    edge_worker_loop_lag_seconds{slot} edge_generation edge_ready
""")
# Of edge_build_info the contract leaves the labels open; the others are what operators expect besides.
BESIDES = names("""
    edge_build_info{version,python,mode} edge_inflight_limit{endpoint} edge_readiness_gate{gate}
    edge_config_last_reload_successful edge_config_last_reload_success_timestamp_seconds
""")


def run_child(work: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def restarts(totals: Totals) -> float:
    return totals()["service_restarts_total", (("component", "worker"),)]


def shown(declared: Declared) -> str:
    labels = ",".join(label for label, _ in declared.labels)
    return f"{declared.name}{{{labels}}}" if labels else declared.name


def test_what_is_declared_is_what_the_contract_promises_and_what_is_listed_besides() -> None:
    assert {shown(declared) for declared in DECLARED} == CONTRACT | BESIDES


def test_a_name_is_declared_once_with_a_sentence() -> None:
    found = [declared.name for declared in DECLARED]
    assert len(set(found)) == len(found)
    for declared in DECLARED:
        assert declared.help.endswith("."), declared.name
        assert declared.use.endswith("."), declared.name
        assert (declared.kind == COUNTER) == declared.name.endswith("_total"), declared.name
        assert (declared.kind == HISTOGRAM) == bool(declared.buckets), declared.name


def test_the_latency_buckets_hold_the_promised_bounds() -> None:
    promised = {0.0005, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12}
    assert promised <= set(metrics.LATENCY_BUCKETS_S)
    assert list(metrics.LATENCY_BUCKETS_S) == sorted(metrics.LATENCY_BUCKETS_S)


def test_what_is_declared_can_be_counted(metrics_dir: Path) -> None:
    made = {name for name in vars(metrics.metrics()) if not name.startswith("_")}
    assert made == {name for name, kind, *_ in DECLARED if kind != GAUGE}
    assert made == set(metrics.Metrics.__annotations__)


def test_the_manual_page_is_the_generated_one() -> None:
    page = Path(__file__).parents[3] / "docs" / "METRICS.md"
    assert page.read_text(encoding="utf-8") == metrics.document()


def test_identities_have_no_underscore(metrics_dir: Path) -> None:
    with pytest.raises(AssertionError):
        metrics.name_process("worker_1")


def test_a_child_writes_its_own_files_only(metrics_dir: Path, totals: Totals) -> None:
    parent = metrics.metrics().service_restarts_total.labels("worker")
    parent.inc(5)
    before = (metrics_dir / "counter_0a.db").read_bytes()

    def work() -> None:
        metrics.name_process("7b")
        parent.inc(2)
        metrics.metrics().request_latency_seconds.labels(metrics.ASSETS, "GET").observe(0.1)

    run_child(work)
    assert files(metrics_dir) == {"counter_0a.db", "counter_7b.db", "histogram_7b.db"}
    assert (metrics_dir / "counter_0a.db").read_bytes() == before
    assert restarts(totals) == 7


def test_the_next_owner_of_an_identity_continues_its_totals(metrics_dir: Path, totals: Totals) -> None:
    counter = metrics.metrics().service_restarts_total.labels("worker")

    def work(identity: str) -> None:
        metrics.name_process(identity)
        counter.inc()

    seen = []
    for identity in ("3a", "3b", "3a", "3b", "3a"):
        run_child(lambda identity=identity: work(identity))  # type: ignore[misc]
        seen.append(restarts(totals))
    assert seen == [1, 2, 3, 4, 5]
    assert {name for name in files(metrics_dir) if "3" in name} == {"counter_3a.db", "counter_3b.db"}


def test_a_killed_process_leaves_totals_that_its_successor_continues(
    metrics_dir: Path, totals: Totals
) -> None:
    counter = metrics.metrics().service_restarts_total.labels("worker")
    pid = os.fork()
    if pid == 0:
        metrics.name_process("4a")
        counter.inc(10)
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert restarts(totals) == 10

    def work() -> None:
        metrics.name_process("4a")
        counter.inc(1)

    run_child(work)
    assert restarts(totals) == 11
