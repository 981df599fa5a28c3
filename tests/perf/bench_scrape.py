"""What one scrape of an instance with 16 slots costs, every label set filled.

.venv/bin/python -m tests.perf.bench_scrape

Both letters of each slot have been used, as after a reload, so there are 70 files. Compared with
prometheus_client's own reading of the same files; both are rendered by its encoders.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

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
from tests.perf._timing import machine

SLOTS, ROUNDS = 16, 30
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


def in_child(identity: str, work: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        name_process(identity)
        work()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


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


def main() -> None:
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


if __name__ == "__main__":
    main()
