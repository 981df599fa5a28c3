"""What an instance tells Prometheus, parsed and compared."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import Server

Sample = tuple[str, frozenset[tuple[str, str]]]  # name, labels
Samples = dict[Sample, float]


def families(server: Server) -> list[Metric]:
    """Return one scrape."""
    return list(text_string_to_metric_families(server.ask_admin("/metrics").decode()))


def counts(server: Server) -> Samples:
    """Return every sample that may only grow: counters, and the counts of histograms."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(server)
        if family.type in ("counter", "histogram")
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def sample(name: str, **labels: str) -> Sample:
    """Return the key of a sample."""
    return name, frozenset(labels.items())


def grown(before: Mapping[Sample, float], after: Mapping[Sample, float]) -> Samples:
    """Return what has changed, by how much; a sample that went away has fallen to 0."""
    return {
        key: after.get(key, 0) - before.get(key, 0)
        for key in before.keys() | after.keys()
        if after.get(key, 0) != before.get(key, 0)
    }
