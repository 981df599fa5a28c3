"""What became of parked requests, counted by what parks them.

Process      a worker, in bjoern's loop. Each owner has one of its own; `fold` adds what is new to
             edge_parks_total{result}, so that the path of a request touches no metric.
"""

from __future__ import annotations

from edge_server.observe.metrics import PARK_RESULTS, metrics


class ParkCounts:
    """How often each result has been seen, and how much of that the metric has."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(PARK_RESULTS, 0)
        self._folded = dict(self._counts)

    def add(self, result: str, count: int = 1) -> None:
        """Count a result; KeyError if it is none of PARK_RESULTS."""
        self._counts[result] += count

    def fold(self) -> None:
        """Add what has been counted since the last time to the metric."""
        for result, count in self._counts.items():
            grown = count - self._folded[result]
            if grown:
                metrics().edge_parks_total.labels(result).inc(grown)
                self._folded[result] = count
