"""Stands in for metrics where a test looks at what is counted."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace


class Counted(Counter[str]):
    """Stands in for a counter of prometheus_client with one label."""

    def labels(self, result: str) -> SimpleNamespace:
        return SimpleNamespace(inc=lambda count: self.update({result: count}))
