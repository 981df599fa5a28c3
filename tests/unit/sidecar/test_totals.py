from __future__ import annotations

from pathlib import Path

from edge_server.observe.metrics import metrics
from edge_server.sidecar.totals import TotalsReader


def test_totals_are_summed_over_files_and_labels(metrics_dir: Path) -> None:
    reader = TotalsReader(str(metrics_dir))
    declared = metrics()
    declared.rejected_total.labels("not_found").inc(3)
    declared.rejected_total.labels("busy").inc(2)
    first = metrics_dir / "counter_sidecar-a.db"
    (metrics_dir / "counter_0a.db").write_bytes(first.read_bytes())  # another process counted the same
    totals = reader.read()
    assert totals.sum("rejected_total") == 10
    assert totals.sum("rejected_total", reason="busy") == 4
    assert totals.sum("rejected_total", reason="none such") == 0
    assert totals.by("reason", "rejected_total") == {"not_found": 6, "busy": 4}


def test_a_file_that_is_not_sized_yet_is_left_out(metrics_dir: Path) -> None:
    metrics().edge_fill_coalesced_total.inc()
    (metrics_dir / "counter_1a.db").write_bytes(b"")
    assert TotalsReader(str(metrics_dir)).read().sum("edge_fill_coalesced_total") == 1


def test_a_histogram_has_its_buckets_one_by_one(metrics_dir: Path) -> None:
    metrics().fill_latency_seconds.labels("other").observe(0.015)
    metrics().fill_latency_seconds.labels("other").observe(0.015)
    buckets = TotalsReader(str(metrics_dir)).read().by("le", "fill_latency_seconds_bucket")
    assert {le: count for le, count in buckets.items() if count} == {"0.02": 2}
