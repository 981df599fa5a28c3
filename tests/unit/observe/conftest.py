from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_server.observe import metrics

Totals = Callable[[], dict[tuple[str, tuple[tuple[str, str], ...]], float]]


@pytest.fixture
def metrics_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of metrics files that this process writes as ``0a``, and nothing known before."""
    from prometheus_client import values

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(metrics._Process, "identity", "")
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    metrics.metrics.cache_clear()
    metrics.name_process("0a")
    yield tmp_path
    metrics.metrics.cache_clear()


@pytest.fixture
def totals(metrics_dir: Path) -> Totals:
    """What a scrape would say: sample name and sorted labels to value."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    def read() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        collector = MultiProcessCollector(CollectorRegistry(), path=str(metrics_dir))
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in collector.collect()
            for sample in family.samples
        }

    return read
