from __future__ import annotations

from pathlib import Path

from edge_server.observe.declarations import MAX_HOSTS, OTHER
from edge_server.sidecar.fill_telemetry import Telemetry, hosts_shown
from edge_server.sidecar.metric_files import MetricFiles

ALLOW = tuple(f"*.host-{number}.example" for number in range(MAX_HOSTS + 10))


def by_host(folder: Path, name: str) -> dict[str, float]:
    return {
        sample.labels["host"]: sample.value
        for family in MetricFiles(str(folder)).collect()
        for sample in family.samples
        if sample.name == name
    }


def test_what_is_told_of_a_host_is_counted_under_its_entry(metrics_dir: Path) -> None:
    telemetry = Telemetry(("a.example", "*.b.example"))
    for host in ("a.example", "a.example", "*.b.example", OTHER):
        telemetry.attempted(host)
    telemetry.succeeded("a.example", 0.2)
    told = by_host(metrics_dir, "edge_live_fill_attempts_total")
    assert told == {"a.example": 2, "*.b.example": 1, OTHER: 1}
    assert by_host(metrics_dir, "edge_live_fill_success_total") == {"a.example": 1}
    assert by_host(metrics_dir, "fill_latency_seconds_sum") == {"a.example": 0.2}


def test_a_long_allow_list_has_a_bounded_number_of_series(metrics_dir: Path) -> None:
    telemetry = Telemetry(ALLOW)
    for host in ALLOW:
        telemetry.attempted(host)
        telemetry.succeeded(host, 0.1)
    for name in ("edge_live_fill_attempts_total", "edge_live_fill_success_total"):
        told = by_host(metrics_dir, name)
        assert (len(told), told[OTHER], told[ALLOW[0]]) == (MAX_HOSTS + 1, 10, 1)
        assert set(told) == set(hosts_shown(ALLOW))


def test_failed_handshakes_are_counted(metrics_dir: Path) -> None:
    telemetry = Telemetry(())
    telemetry.handshake_failed()
    telemetry.handshake_failed()
    samples = [sample for family in MetricFiles(str(metrics_dir)).collect() for sample in family.samples]
    assert [sample.value for sample in samples if sample.name == "tls_handshake_failures_total"] == [2]
