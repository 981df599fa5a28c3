"""What an instance under test tells Prometheus; parsing and comparing is `observe/scrapes.py`'s."""

from __future__ import annotations

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from edge_server.observe.scrapes import Sample, Samples, grown, sample
from tests.servers import Server

__all__ = ["Sample", "Samples", "counts", "families", "grown", "sample"]


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
