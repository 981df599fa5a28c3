"""What a worker sets up before it serves."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Callable

import pytest

from edge_server.worker import main
from edge_server.worker.files import OpenFile
from tests.wsgi_client import Client


@pytest.mark.parametrize("limit", [64, 1024, 1 << 20, resource.RLIM_INFINITY], ids=str)
def test_prepared_answers_leave_half_of_the_descriptors_to_connections(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert limit == resource.RLIM_INFINITY or main._max_files() <= limit // 2
    assert main._max_files() >= 16


def test_no_more_files_stay_open_than_are_allowed(make_client: Callable[..., Client]) -> None:
    gc.collect()
    already = OpenFile.open_now
    get = make_client(max_files=already + 3)
    descriptors = len(os.listdir("/proc/self/fd"))
    for path in ("a.txt", "big.bin", "empty.bin", "style.css", "maps/world.pmtiles") * 3:
        assert get(path).status == 200
        assert get(path, accept_encoding="gzip").status == 200
        assert OpenFile.open_now <= already + 3
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 3
    get.state.cache.clear()
    assert OpenFile.open_now <= already + 1  # an archive stays open
