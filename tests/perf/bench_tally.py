"""What counting one request costs: the tally's inline adds against prometheus_client itself.

.venv/bin/python tests/perf/bench_tally.py
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import timeit
from functools import partial

from edge_server.observe import metrics
from edge_server.observe.tally import FAST_S, Tally

REQUESTS, ROUNDS = 200_000, 7


def tally_request(count: int) -> None:
    outcome = Tally().outcome(metrics.ASSETS, "GET", 200, "pack")
    latency_s = 0.0001
    for _ in range(count):
        if latency_s <= FAST_S:
            outcome.fast += 1
        else:
            outcome.slow(latency_s)
        outcome.latency_s += latency_s
        outcome.bytes_out += 4096


def prometheus_request(count: int) -> None:
    declared = metrics.metrics()
    requests = declared.http_requests_total.labels(metrics.ASSETS, "GET", "200")
    latency = declared.request_latency_seconds.labels(metrics.ASSETS, "GET")
    hits = declared.edge_cache_hits_total.labels("pack", "false")
    sent = declared.edge_bytes_out_total.labels(metrics.ASSETS)
    for _ in range(count):
        requests.inc()
        latency.observe(0.0001)
        hits.inc()
        sent.inc(4096)


def empty(count: int) -> None:
    for _ in range(count):
        pass


def main() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        metrics.name_process("bench")
        print(f"{platform.python_implementation()} {platform.python_version()} on {platform.machine()}")
        for name, run, count in (
            ("empty loop", empty, REQUESTS),
            ("tally", tally_request, REQUESTS),
            ("prometheus_client", prometheus_request, REQUESTS // 10),
        ):
            run(1000)
            timer = timeit.Timer(partial(run, count))
            rounds = [timer.timeit(number=1) / count * 1e6 for _ in range(ROUNDS)]
            print(f"{name:18} {statistics.median(rounds):7.3f} µs  ({min(rounds):.3f} to {max(rounds):.3f})")


if __name__ == "__main__":
    main()
