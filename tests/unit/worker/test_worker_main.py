"""What a worker sets up before it serves."""

from __future__ import annotations

import resource

import pytest

from edge_server.shm.catalog import CODINGS
from edge_server.worker import main

AGES = 2


@pytest.mark.parametrize("limit", [1024, 4096, 65536, 1 << 20, resource.RLIM_INFINITY], ids=str)
def test_the_files_of_a_full_cache_leave_half_of_the_descriptors_to_connections(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    files = main._cache_capacity() * AGES * len(("", *CODINGS))
    assert limit == resource.RLIM_INFINITY or files <= limit // 2
    assert main._cache_capacity() >= 16
