from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from edge_server.errors import ResourceError
from edge_server.observe.metrics import METHODS, ROUTES, metrics
from edge_server.observe.tally import Tally
from edge_server.sidecar.metric_files import MetricFiles
from tests.children import in_child

Told = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def told(collected: Iterable[Metric]) -> Told:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in collected
        for sample in family.samples
    }


def by_the_library(folder: Path) -> Told:
    files = [str(path) for path in sorted(folder.glob("*.db")) if path.stat().st_size]
    return told(MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]


def count_at_random(seed: int) -> None:
    chance, tally = random.Random(seed), Tally()
    for _ in range(50):
        latency_s = chance.choice((0.0001, 0.003, 0.0400001, 0.7, 100))
        route, method = chance.choice(ROUTES), chance.choice(METHODS)
        status = chance.choice((200, 206, 304, 404, 503))
        tally.record(
            route, method, status, latency_s, chance.randrange(9), reason=chance.choice(("", "busy"))
        )
    tally.fold()


def test_every_scrape_says_what_the_library_reads_in_the_same_files(metrics_dir: Path) -> None:
    files = MetricFiles(str(metrics_dir))
    for seed, identity in enumerate(("0a", "1a", "0b", "1a", "sidecar-b", "0a")):
        in_child(identity, lambda seed=seed: count_at_random(seed))  # type: ignore[misc]
        assert told(files.collect()) == pytest.approx(by_the_library(metrics_dir))
    assert len(told(files.collect())) > 100


def test_a_file_that_outgrew_its_first_size_is_read_on(metrics_dir: Path) -> None:
    files = MetricFiles(str(metrics_dir))
    hosts = metrics().fill_latency_seconds
    for number in range(60):
        hosts.labels(f"host-{number}.example").observe(0.02)
        if number % 10 == 0:
            assert told(files.collect()) == by_the_library(metrics_dir)
    assert (metrics_dir / "histogram_sidecar-a.db").stat().st_size > 1 << 16
    assert told(files.collect()) == by_the_library(metrics_dir)
    hosts.labels("host-0.example").observe(0.02)
    assert told(files.collect())["fill_latency_seconds_count", (("host", "host-0.example"),)] == 2


def test_no_sum_falls_while_files_come_and_grow(metrics_dir: Path) -> None:
    files, last = MetricFiles(str(metrics_dir)), Told()
    for seed in range(12):
        identity = f"{9 - seed % 10}a"  # a new file sorts before those that are known
        in_child(identity, lambda seed=seed: count_at_random(seed))  # type: ignore[misc]
        now = told(files.collect())
        assert all(now[key] >= value for key, value in last.items())
        last = now


def test_what_belongs_together_stands_together_as_openmetrics_demands(metrics_dir: Path) -> None:
    for seed, identity in enumerate(("0a", "1a", "2a")):
        in_child(identity, lambda seed=seed: count_at_random(seed))  # type: ignore[misc]
    encode, _ = choose_encoder("application/openmetrics-text;version=1.0.0")
    text = encode(MetricFiles(str(metrics_dir))).decode()
    families = list(text_string_to_metric_families(text))  # refuses what is interleaved or not cumulative
    assert {"http_requests", "request_latency_seconds"} <= {family.name for family in families}


def test_a_file_that_its_process_has_not_begun_says_nothing(metrics_dir: Path) -> None:
    in_child("0a", lambda: count_at_random(1))
    (metrics_dir / "counter_1a.db").touch()
    (metrics_dir / "counter_2a.db").write_bytes(bytes(1 << 16))
    files = MetricFiles(str(metrics_dir))
    before = told(files.collect())
    assert before
    in_child("2a", lambda: count_at_random(2))
    assert told(files.collect()) == pytest.approx(by_the_library(metrics_dir))
    assert told(files.collect()) != before


@pytest.mark.parametrize(
    "damaged",
    [
        struct.pack("=ii", 4096, 0) + struct.pack("=i", 100_000),
        struct.pack("=ii", 4096, 0) + struct.pack("=i", -1),
        struct.pack("=ii", 1 << 30, 0) + struct.pack("=i", 20),
    ],
    ids=["a key beyond the end", "a negative length", "more used than there is"],
)
def test_a_damaged_file_is_told_with_its_place(metrics_dir: Path, damaged: bytes) -> None:
    (metrics_dir / "counter_3a.db").write_bytes(damaged.ljust(1 << 16, b"\0"))
    with pytest.raises(ResourceError, match=r"counter_3a\.db is no metrics file.* byte 12"):
        MetricFiles(str(metrics_dir)).collect()
