"""`svc-edge top`: its figures from looks that a test makes, and its picture at every width."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from edge_server.cli.top_figures import KEPT, Figures, History, Look
from edge_server.cli.top_screen import render, sparkline
from edge_server.observe.scrapes import Samples, sample

STATUS: dict[str, Any] = {"ready": True, "gates": {"workers_up": True}, "generation": 1, "uptime_s": 5}


def worker(requests: int, pid: int = 100, slot: int = 0) -> dict[str, Any]:
    return {
        "slot": slot,
        "identity": f"{slot}a",
        "pid": pid,
        "state": "serving",
        "requests": requests,
        "bytes_out": requests * 1024,
        "inflight": 3,
        "loop_lag_ms": 0.25,
    }


def samples(good: float, refused: float = 0, hits: float = 0, misses: float = 0) -> Samples:
    return {
        sample("http_requests_total", route="/edge/assets", method="GET", status="200"): good,
        sample("http_requests_total", route="/edge/assets", method="GET", status="206"): good,
        sample("http_requests_total", route="/edge/assets", method="GET", status="429"): refused,
        sample("rejected_total", reason="busy"): refused,
        sample("edge_cache_hits_total", kind="pack", range="false"): hits,
        sample("edge_cache_misses_total", cause="cold"): misses,
        sample("edge_live_fill_success_total", host="a"): misses,
        sample("edge_bytes_out_total", route="/edge/assets"): good * 100,
        sample("edge_parked", slot="0"): 7,
        sample("edge_cas_bytes", tier="memory"): 2048,
        sample("request_latency_seconds_bucket", route="/edge/assets", le="0.01"): good,
        sample("request_latency_seconds_bucket", route="/edge/assets", le="+Inf"): good,
    }


def look(at_s: float, found: Samples, *workers: dict[str, Any], cpu_s: float = 0.0) -> Look:
    pids = {each["pid"]: cpu_s for each in workers}
    return Look(at_s, {**STATUS, "workers": list(workers)}, found, pids)


def drawn(figures: Figures, width: int, height: int | None = None, **more: bool) -> list[str]:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(render(STATUS, figures, width, height, **more))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def two_looks() -> Figures:
    history = History()
    history.add(look(0, samples(100), worker(1000)))
    return history.add(look(2, samples(200, 10, 30, 10), worker(1500), cpu_s=1.0))


def test_rates_percentiles_and_ratios_are_of_the_time_between_looks() -> None:
    figures = two_looks()
    assert figures.requests == {"2xx": 100.0, "4xx": 5.0}
    assert figures.rejects == {"busy": 5.0}
    assert figures.hit_ratio == 0.75
    assert figures.fills == 5.0
    assert figures.bytes_out == 5000.0
    assert figures.latency_ms == pytest.approx({"p50": 5.0, "p95": 9.5, "p99": 9.9})
    (only,) = figures.workers
    assert (only.requests, only.bytes, only.cpu_percent, only.parked) == (250.0, 256_000.0, 50.0, 7)
    assert figures.trends["requests"] == [105.0]


def test_a_single_look_has_no_rates() -> None:
    figures = History().add(look(0, samples(100), worker(1000)))
    assert (figures.requests, figures.hit_ratio, figures.latency_ms["p50"]) == ({}, None, None)
    assert figures.workers[0].requests is None


def test_a_worker_that_was_replaced_and_an_instance_that_began_anew_have_no_negative_rates() -> None:
    history = History()
    history.add(look(0, samples(1000), worker(5000, pid=1)))
    figures = history.add(look(1, samples(10), worker(3, pid=2)))
    assert figures.workers[0].requests is None
    assert figures.requests == {"2xx": 20.0}


def test_the_trends_are_a_minute_long() -> None:
    history = History()
    for second in range(200):
        figures = history.add(look(second, samples(second * 10.0), worker(second)))
    assert len(figures.trends["requests"]) == KEPT - 1


def test_gates_that_do_not_hold_are_named() -> None:
    gone = {**STATUS, "ready": False, "gates": {"workers_up": False, "sidecar_up": True}}
    figures = History().add(Look(0, gone, {}, {}))
    assert figures.missing == ["workers_up"]
    assert any("missing: workers_up" in line for line in drawn(figures, 80))


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_the_picture_fits_a_terminal_of_any_width(width: int) -> None:
    lines = drawn(two_looks(), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "0a" in text
    assert "req/s" in text or width < 30
    assert ("CPU %" in text) == (width >= 60)
    assert ("sent/s " in text.split("slot")[1]) == (width >= 80)


def test_workers_that_do_not_fit_are_counted() -> None:
    history = History()
    figures = history.add(look(0, samples(1), *(worker(1, pid=slot, slot=slot) for slot in range(30))))
    lines = drawn(figures, 100, 20)
    assert len(lines) <= 20
    assert "... and 24 more" in "\n".join(lines)
    assert "30a" not in "\n".join(lines)
    assert sum("serving" in line for line in drawn(figures, 100)) == 30


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], ""), ([0, 0], "▁▁"), ([0, 5, 10], "▁▅█"), ([1, 1], "██")],
)
def test_a_sparkline_has_a_bar_a_value(values: list[float], expected: str) -> None:
    assert sparkline(values) == expected


def test_a_terminal_without_blocks_gets_plain_bars() -> None:
    assert "\n".join(drawn(two_looks(), 80, None, has_blocks=False)).isascii()
