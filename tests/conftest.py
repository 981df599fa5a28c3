"""Settings for all tests: generated examples are bounded and the same in every run."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("svc-edge", max_examples=100, deadline=None, derandomize=True)
settings.load_profile("svc-edge")


def pytest_xdist_auto_num_workers() -> int:
    """Return how many files of tests run at the same time: they wait more than they work."""
    return min(8, 2 * len(os.sched_getaffinity(0)))
