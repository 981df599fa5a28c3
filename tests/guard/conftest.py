"""What the tests of the guard share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guard.builds import Unreachable, bjoern_source


@pytest.fixture(scope="session")
def bjoern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bjoern's source; a test that wants it is skipped where no package index is at hand."""
    try:
        return bjoern_source(tmp_path_factory.mktemp("bjoern"))
    except Unreachable as error:
        pytest.skip(f"bjoern's source cannot be downloaded: {error}")
