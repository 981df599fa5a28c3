from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_server.cas.telemetry import teller
from edge_server.config.schema import Config
from edge_server.observe.metrics import ASSETS, DECLARED, metrics
from edge_server.observe.tally import Tally
from edge_server.shm.fill_index import FillIndex, Word
from edge_server.shm.scoreboard import Field, Gate, Scoreboard, WorkerState
from edge_server.sidecar.aggregate import Exposition, show_zeros
from tests.children import in_child


def scrape(
    metrics_dir: Path, scoreboard: Scoreboard, fill_index: FillIndex | None = None
) -> dict[str, dict[tuple[str, ...], float]]:
    """Sample name to label values (in the order of their names) to value."""
    text, media_type = Exposition(str(metrics_dir), scoreboard, Config(), fill_index).render("")
    assert media_type.startswith("text/plain; version=0.0.4")
    read: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            read.setdefault(sample.name, {})[labels] = sample.value
    return read


def count_in_child(identity: str, requests: int) -> None:
    def work() -> None:
        tally = Tally()
        for _ in range(requests):
            tally.record(ASSETS, "GET", 200, 0.0001, 10, hit="pack")
        tally.fold()

    in_child(identity, work)


def test_counts_of_all_processes_are_summed(metrics_dir: Path, scoreboard: Scoreboard) -> None:
    for identity, requests in (("0a", 3), ("1a", 4), ("0b", 5), ("0a", 1)):
        count_in_child(identity, requests)
    read = scrape(metrics_dir, scoreboard)
    assert read["http_requests_total"] == {("GET", ASSETS, "200"): 13}
    assert read["request_latency_seconds_count"] == {("GET", ASSETS): 13}
    assert read["edge_bytes_out_total"] == {(ASSETS,): 130}


def test_no_sample_names_a_process_id(metrics_dir: Path, scoreboard: Scoreboard) -> None:
    count_in_child("0a", 1)
    show_zeros()
    text, _ = Exposition(str(metrics_dir), scoreboard, Config()).render("")
    assert b"pid=" not in text


def test_gauges_are_those_of_the_scoreboard_now(metrics_dir: Path, scoreboard: Scoreboard) -> None:
    worker = scoreboard.row(scoreboard.row_index(0, "a"))
    worker.set(Field.INFLIGHT, 5)
    worker.set(Field.LOOP_LAG_NS, 2_500_000)
    draining = scoreboard.row(scoreboard.row_index(1, "b"))
    draining.begin(1234, 7, None)
    draining.set(Field.STATE, WorkerState.DRAINING)
    draining.set(Field.INFLIGHT, 2)
    read = scrape(metrics_dir, scoreboard)
    assert read["inflight_requests"] == {(ASSETS,): 7}
    assert read["edge_inflight"] == {("assets",): 7, ("admin",): 0}
    assert read["edge_worker_up"] == {("0",): 1, ("1",): 0, ("2",): 0}
    assert read["edge_worker_loop_lag_seconds"] == {("0",): 0.0025, ("1",): 0}
    assert read["edge_generation"] == {(): 7}
    assert read["edge_ready"] == {(): 1}
    assert list(read["edge_build_info"].values()) == [1]


def test_what_is_parked_is_in_hand(metrics_dir: Path, scoreboard: Scoreboard) -> None:
    worker = scoreboard.row(scoreboard.row_index(0, "a"))
    worker.set(Field.INFLIGHT, 5)
    worker.set(Field.PARKED, 3)
    read = scrape(metrics_dir, scoreboard)
    assert read["edge_inflight"][("assets",)] == read["inflight_requests"][(ASSETS,)] == 8


def test_a_queue_that_two_workers_of_a_slot_see_is_told_once(
    metrics_dir: Path, scoreboard: Scoreboard
) -> None:
    for slot, letter, queued in ((0, "a", 4), (0, "b", 3), (1, "a", 2), (2, "a", 9)):
        row = scoreboard.row(scoreboard.row_index(slot, letter))
        row.set(Field.STATE, WorkerState.EMPTY if slot == 2 else WorkerState.SERVING)
        row.set(Field.QUEUED, queued)
    assert scrape(metrics_dir, scoreboard)["edge_queue_depth"] == {("accept",): 6, ("fill",): 0}


@pytest.mark.parametrize(
    ("state", "silent_s", "lag_s"),
    [
        (WorkerState.SERVING, 0.05, 0.002),
        (WorkerState.SERVING, 7.0, 6.9),
        (WorkerState.DRAINING, 7.0, 6.9),
        (WorkerState.STARTING, 7.0, 0.002),
    ],
)
def test_a_loop_that_does_not_turn_is_late(
    metrics_dir: Path, scoreboard: Scoreboard, state: WorkerState, silent_s: float, lag_s: float
) -> None:
    row = scoreboard.row(scoreboard.row_index(2, "a"))
    row.begin(1234, 7, None)
    row.set(Field.STATE, state)
    row.set(Field.LOOP_LAG_NS, 2_000_000)
    row.set(Field.BEAT_NS, time.monotonic_ns() - int(silent_s * 1e9))
    told_s = scrape(metrics_dir, scoreboard)["edge_worker_loop_lag_seconds"][("2",)]
    assert lag_s <= told_s < lag_s + 2


def test_a_process_that_is_gone_leaves_no_gauge(metrics_dir: Path, scoreboard: Scoreboard) -> None:
    row = scoreboard.row(scoreboard.row_index(0, "a"))
    row.set(Field.INFLIGHT, 5)
    row.set(Field.STATE, WorkerState.STOPPED)
    read = scrape(metrics_dir, scoreboard)
    assert read["inflight_requests"] == {(ASSETS,): 0}
    assert read["edge_worker_up"][("0",)] == 0
    assert "edge_worker_loop_lag_seconds" not in read


def test_a_missing_gate_is_a_zero(metrics_dir: Path, scoreboard: Scoreboard) -> None:
    scoreboard.missing_gates = Gate.NOT_DRAINING
    read = scrape(metrics_dir, scoreboard)
    assert read["edge_ready"] == {(): 0}
    assert {gate for (gate,), holds in read["edge_readiness_gate"].items() if not holds} == {"not_draining"}
    assert len(read["edge_readiness_gate"]) == len(Gate.__members__)


def test_the_limit_of_what_may_be_in_hand_is_that_of_the_configuration(
    metrics_dir: Path, scoreboard: Scoreboard
) -> None:
    assert scrape(metrics_dir, scoreboard)["edge_inflight_limit"] == {
        ("assets",): Config().ingress.max_inflight
    }


def test_rejections_start_from_a_zero_that_rate_can_see(metrics_dir: Path, scoreboard: Scoreboard) -> None:
    show_zeros()
    read = scrape(metrics_dir, scoreboard)
    assert read["rejected_total"][("not_found",)] == 0
    assert read["busy_rejections_total"] == {("assets",): 0}
    assert read["edge_queue_dropped_total"] == {("accept",): 0, ("fill",): 0}
    assert read["service_restarts_total"] == {("worker",): 0, ("sidecar",): 0}
    metrics().rejected_total.labels("not_found").inc()
    assert scrape(metrics_dir, scoreboard)["rejected_total"][("not_found",)] == 1


def test_what_the_store_does_and_holds_is_told(metrics_dir: Path, scoreboard: Scoreboard) -> None:
    assert scrape(metrics_dir, scoreboard)["edge_cas_bytes"] == {("memory",): 0, ("disk",): 0}
    index = FillIndex.create(f"test-sidecar-fill-{os.getpid()}", 8)
    index.set(Word.MEMORY_BYTES, 5)
    index.set(Word.DISK_BYTES, 7)
    show_zeros()
    tell = teller()
    for event, fields in (
        ("cas_write", {"status": "ok"}),
        ("cas_write", {"status": "dedup"}),
        ("cas_write", {"status": "dedup"}),
        ("cas_eviction", {"tier": "disk"}),
    ):
        tell(event, dict(fields))
    read = scrape(metrics_dir, scoreboard, index)
    index.segment.unlink()
    index.close()
    assert read["edge_cas_bytes"] == {("memory",): 5, ("disk",): 7}
    assert read["edge_cas_writes_total"] == {("ok",): 1, ("dedup",): 2, ("error",): 0}
    assert read["edge_cas_evictions_total"] == {("memory",): 0, ("disk",): 1}


def test_every_declared_metric_is_exposed_with_its_help(metrics_dir: Path, scoreboard: Scoreboard) -> None:
    show_zeros()
    count_in_child("0a", 1)
    text = Exposition(str(metrics_dir), scoreboard, Config()).render("")[0].decode()
    for declared in DECLARED:
        assert f"# HELP {declared.name} {declared.help}\n" in text
        assert f"# TYPE {declared.name} {declared.kind}\n" in text


def test_a_file_that_is_just_being_made_does_not_break_a_scrape(
    metrics_dir: Path, scoreboard: Scoreboard
) -> None:
    count_in_child("0a", 1)
    (metrics_dir / "counter_1a.db").touch()
    assert scrape(metrics_dir, scoreboard)["http_requests_total"] == {("GET", ASSETS, "200"): 1}


@pytest.mark.parametrize(
    ("accept", "begins"),
    [
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("", "text/plain; version=0.0.4"),
    ],
)
def test_the_scraper_chooses_the_format(
    metrics_dir: Path, scoreboard: Scoreboard, accept: str, begins: str
) -> None:
    text, media_type = Exposition(str(metrics_dir), scoreboard, Config()).render(accept)
    assert media_type.startswith(begins)
    assert text.endswith(b"# EOF\n") == ("openmetrics" in accept)
