"""Commands are tested without the settings of whoever runs the tests."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SVC_EDGE_", "OTEL_"))]:
        monkeypatch.delenv(name)
