from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_server.observe import metrics
from edge_server.observe.declarations import COUNTER, DECLARED, GAUGE, HISTOGRAM
from tests.contract_metrics import BESIDES, CONTRACT, shown

Totals = Callable[[], dict[Any, float]]


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


def test_what_is_declared_is_what_the_contract_promises_and_what_is_listed_besides() -> None:
    declared = [shown(name, [label for label, _ in labels]) for name, _, _, _, labels, _ in DECLARED]
    assert set(declared) == CONTRACT | BESIDES


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
