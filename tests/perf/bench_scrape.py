"""What one scrape of an instance with 16 slots costs.

.venv/bin/python -m tests.perf.bench_scrape

First on files alone: every label set filled, both letters of each slot used, as after a reload. Compared
with prometheus_client's own reading of the same files; both are rendered by its encoders. Then on a real
instance with 16 workers, after mixed traffic, a reload, and mixed traffic again: what Prometheus would wait.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from edge_server.config.schema import Config
from edge_server.http.reasons import REASONS
from edge_server.observe.metrics import (
    ASSETS,
    METHODS,
    MISS_CAUSES,
    PARK_RESULTS,
    ROUTES,
    metrics,
    name_process,
)
from edge_server.observe.tally import Tally
from edge_server.shm.scoreboard import LETTERS, Gate, Scoreboard, WorkerState
from edge_server.sidecar.aggregate import Exposition, show_zeros
from tests.children import in_child
from tests.http_rows import ROWS
from tests.perf._timing import machine
from tests.servers import COMMAND, HOST, Server, eventually
from tests.wire import Connection
from tests.worlds import make_world

SLOTS, ROUNDS, CONNECTIONS = 16, 30, 64
HOSTS = [f"origin-{number}.example" for number in range(10)]
STATUSES = (200, 204, 206, 304, *sorted({reason.status for reason in REASONS.values()}))
FORMATS = {"text": "text/plain;version=0.0.4", "OpenMetrics": "application/openmetrics-text;version=1.0.0"}


def fill_worker() -> None:
    """Count each kind of outcome that a worker can count."""
    tally = Tally()
    for route in ROUTES:
        for method in METHODS:
            for status in STATUSES:
                tally.record(route, method, status, 0.003, 100, bytes_in=1)
    for hit in ("pack", "cas"):
        for status in (200, 206):
            tally.record(ASSETS, "GET", status, 0.2, 100, hit=hit)
    for reason in REASONS:
        tally.record(ASSETS, "GET", 404, 0.001, reason=reason)
    tally.fold()
    for cause in MISS_CAUSES:
        metrics().edge_cache_misses_total.labels(cause).inc()
    for result in PARK_RESULTS:
        metrics().edge_parks_total.labels(result).inc()


def fill(board: Scoreboard) -> None:
    for slot in range(SLOTS):
        for letter in LETTERS:
            in_child(f"{slot}{letter}", fill_worker)
        row = board.row(board.row_index(slot, "a"))
        row.begin(os.getpid(), 1, slot)
        row.set(1, WorkerState.SERVING)  # type: ignore[arg-type]
    for letter in LETTERS:
        in_child(f"sidecar-{letter}", lambda: show_zeros(HOSTS))


class Library:
    """The same scrape without our reader and without gauges."""

    def __init__(self, folder: str) -> None:
        self._registry = CollectorRegistry()
        MultiProcessCollector(self._registry, folder)  # type: ignore[no-untyped-call]

    def render(self, accept: str) -> tuple[bytes, str]:
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


def measure(render: Callable[[str], tuple[bytes, str]], accept: str) -> Sequence[float]:
    """Return milliseconds of CPU, the first of them that of the first scrape."""
    times = []
    for _ in range(ROUNDS):
        began_s = time.process_time()
        render(accept)
        times.append(1000 * (time.process_time() - began_s))
    return times


def files_alone() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        name_process("supervisor")
        board = Scoreboard.create(SLOTS, f"bench-scrape-{os.getpid()}")
        board.missing_gates, board.generation = Gate(0), 1
        try:
            fill(board)
            print(f"a scrape, {SLOTS} slots, {len(os.listdir(folder))} files: {machine()}")
            for name, accept in FORMATS.items():
                ours = Exposition(folder, board, Config())
                series = ours.render(accept)[0].count(b"\n")
                for who, render in (("svc-edge", ours.render), ("prometheus_client", Library(folder).render)):
                    first, *more = measure(render, accept)
                    spread = f"({min(more):.1f} to {max(more):.1f}; first {first:.1f})"
                    print(
                        f"  {name:12} {who:18} {statistics.median(more):6.1f} ms CPU {spread} {series} lines"
                    )
        finally:
            board.segment.unlink()
            board.close()


def mix(server: Server) -> None:
    """Send every row of the HTTP contract a few times, on connections that reach every worker."""
    for _ in range(CONNECTIONS):
        with Connection(server.assets) as connection:
            for row in ROWS[:: len(ROWS) // 40]:
                if connection.ask(row.path, row.method, row.fields, row.sent).is_last:
                    break


def real_instance() -> None:
    with tempfile.TemporaryDirectory() as folder:
        world, out = make_world(Path(folder)), Path(folder) / "log"
        places = ("--bind", f"{HOST}:0", "--metrics", f"{HOST}:0", "--workers", str(SLOTS))
        with out.open("wb") as log:
            process = subprocess.Popen([*COMMAND, "serve", *places, *map(str, world.packs)], stdout=log)
        server = Server(process, out)
        try:
            eventually(lambda: server.events("ready"), within=60)
            mix(server)
            server.signal(signal.SIGHUP)
            eventually(
                lambda: server.status()["generation"] == 2 and len(server.workers()) == SLOTS, within=60
            )
            mix(server)
            measure_instance(server)
        finally:
            server.stop()


def measure_instance(server: Server) -> None:
    sidecar = psutil.Process(server.sidecar())
    for name, accept in FORMATS.items():
        request = urllib.request.Request(f"http://{server.admin}/metrics", headers={"Accept": accept})
        times, before = [], sum(sidecar.cpu_times()[:2])
        for _ in range(ROUNDS):
            began_s = time.perf_counter()
            with urllib.request.urlopen(request) as answer:
                size = len(answer.read())
            times.append(1000 * (time.perf_counter() - began_s))
        cpu_ms = 1000 * (sum(sidecar.cpu_times()[:2]) - before) / ROUNDS
        spread = f"({min(times):.1f} to {max(times):.1f})"
        print(f"  {name:12} {statistics.median(times):6.1f} ms {spread}, {cpu_ms:.1f} ms CPU, {size:,} bytes")


def main() -> None:
    files_alone()
    print(f"a scrape of {SLOTS} workers over HTTP: {machine()}")
    real_instance()


if __name__ == "__main__":
    main()
