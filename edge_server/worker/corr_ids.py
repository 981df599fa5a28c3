"""Correlation ids: one a request, unique over workers and restarts without asking anyone.

Made of a random part drawn once a process, after the fork, and a count.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from itertools import count


def bind_corr_ids() -> Callable[[], str]:
    """Return a function that gives a new id: 16 random hex digits, a dash, a hex count."""
    prefix = secrets.token_hex(8)
    following = count(1).__next__

    def corr_id() -> str:
        return f"{prefix}-{following():x}"

    return corr_id
