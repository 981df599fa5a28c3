"""Totals: what the metrics files of all processes say together, asked for by name and labels.

Process      the sidecar's main thread.
Consistency  that of metric_files.py: values may be of different ticks, and none falls.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_server.sidecar.metric_files import MetricFiles

# For each name of a sample: labels, and the place of its value.
_Names = dict[str, list[tuple[dict[str, str], int]]]


class Totals:
    """The totals of one moment.

    Args:
        values: one for each series.
        names: where the series of each name stand in it.
    """

    def __init__(self, values: list[float], names: _Names) -> None:
        self._values = values
        self._names = names

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a name that have these labels, whatever others they have."""
        return float(sum(value for _, value in self._matching(name, labels)))

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """Return sums for each value of a label."""
        sums: dict[str, float] = {}
        for found, value in self._matching(name, labels):
            sums[found[label]] = sums.get(found[label], 0.0) + value
        return sums

    def _matching(self, name: str, labels: dict[str, str]) -> Iterator[tuple[dict[str, str], float]]:
        for found, place in self._names.get(name, ()):
            # A series that came after this moment has a place beyond its values.
            if place < len(self._values) and labels.items() <= found.items():
                yield found, self._values[place]


class TotalsReader:
    """Reads the totals of an instance.

    Args:
        metrics_dir: folder of the multiprocess files.
    """

    def __init__(self, metrics_dir: str) -> None:
        self._files = MetricFiles(metrics_dir)
        self._names: _Names = {}
        self._known = 0

    def read(self) -> Totals:
        """Return the totals of now.

        Raises:
            ResourceError: a metrics file is damaged.
        """
        values = self._files.read()
        for sample, labels in self._files.keys(self._known):
            self._names.setdefault(sample, []).append((labels, self._known))
            self._known += 1
        return Totals(values, self._names)
