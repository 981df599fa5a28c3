"""Settings for all tests: generated examples are bounded and the same in every run."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("svc-edge", max_examples=100, deadline=None, derandomize=True)
settings.load_profile("svc-edge")
