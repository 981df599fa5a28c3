"""Correlation ids: one a request, unique over workers and restarts without asking anyone.

Made of a random prefix drawn once a process, after the fork, and a count.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count


def bind_corr_ids(prefix: str) -> Callable[[], str]:
    """Return a function that gives a new id: the prefix, a dash, a hex count.

    Those of the guard's own answers have a "g" before the count.
    """
    following = count(1).__next__

    def corr_id() -> str:
        return f"{prefix}-{following():x}"

    return corr_id
