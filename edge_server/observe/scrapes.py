"""What an instance tells Prometheus, parsed, and what two scrapes say about the time between them.

Process      any that looks at an instance from outside: commands and tests. Reads text, owns nothing.
Specification: Prometheus's text format; increases as PromQL's ``increase`` has them, without its
             extrapolation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from edge_server.observe.quantiles import quantile

Sample = tuple[str, frozenset[tuple[str, str]]]  # name, labels
Samples = dict[Sample, float]


def parse(text: str) -> Samples:
    """Return every sample of a scrape but the times of creation.

    Raises:
        ValueError: it is not in the text format.
    """
    from prometheus_client.parser import text_string_to_metric_families

    return {
        (each.name, frozenset(each.labels.items())): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if not each.name.endswith("_created")
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


def by_label(samples: Mapping[Sample, float], name: str, label: str, **labels: str) -> dict[str, float]:
    """Return the samples of `name` that have `labels`, summed by the value of `label`."""
    sums: dict[str, float] = {}
    for found, value in _matching(samples, name, labels):
        place = found.get(label, "")
        sums[place] = sums.get(place, 0.0) + value
    return sums


def total(samples: Mapping[Sample, float], name: str, **labels: str) -> float:
    """Return the sum of the samples of `name` that have `labels`; 0 without any."""
    return sum(value for _, value in _matching(samples, name, labels))


class Interval(NamedTuple):
    """Two scrapes of the same instance.

    Attributes:
        before, after: what they said.
        seconds: between them, more than 0.
    """

    before: Mapping[Sample, float]
    after: Mapping[Sample, float]
    seconds: float

    def increases(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Return by how much counters grew, by the value of `label`; those that did not are left out.

        One that fell began anew with its instance, so what it shows now is what it grew by.
        """
        sums: dict[str, float] = {}
        for found, value in _matching(self.after, name, labels):
            earlier = self.before.get((name, frozenset(found.items())), 0.0)
            increase = value - earlier if value >= earlier else value
            if increase:
                place = found.get(label, "")
                sums[place] = sums.get(place, 0.0) + increase
        return sums

    def increase(self, name: str, **labels: str) -> float:
        """Return by how much counters grew together."""
        return sum(self.increases(name, "", **labels).values())

    def rate(self, name: str, **labels: str) -> float:
        """Return the same, a second."""
        return self.increase(name, **labels) / self.seconds

    def rates(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Return `increases`, a second."""
        return {key: value / self.seconds for key, value in self.increases(name, label, **labels).items()}

    def quantile(self, share: float, name: str, **labels: str) -> float | None:
        """Return a quantile of what a histogram observed in between; None if that was nothing.

        Args:
            share: ``0 < share <= 1``; 0.95 is the 95th percentile.
            name: of the histogram, without ``_bucket``.

        Estimated as `observe/quantiles.py` does.
        """
        cumulative = sorted((float(le), count) for le, count in self._buckets(name, labels).items())
        bounds = [bound for bound, _ in cumulative[:-1]]
        below = [0.0, *(count for _, count in cumulative)]
        counts = [count - before for before, (_, count) in zip(below, cumulative, strict=False)]
        return quantile(share, bounds, counts) if bounds else None

    def _buckets(self, name: str, labels: Mapping[str, str]) -> dict[str, float]:
        """Cumulative counts by bound; a bucket that did not grow counts with 0."""
        grew = self.increases(f"{name}_bucket", "le", **labels)
        return {le: grew.get(le, 0.0) for le in by_label(self.after, f"{name}_bucket", "le", **labels)}


def _matching(
    samples: Mapping[Sample, float], name: str, labels: Mapping[str, str]
) -> Iterator[tuple[dict[str, str], float]]:
    wanted = labels.items()
    for (found, pairs), value in samples.items():
        if found == name and wanted <= pairs:
            yield dict(pairs), value
