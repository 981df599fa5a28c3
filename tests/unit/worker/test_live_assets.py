"""What a late request is not refused for: paths of which nothing is held here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_server.config.schema import Config, Http
from edge_server.fill.blocks import LARGE
from edge_server.shm.fill_index import FillIndex, key_id
from edge_server.shm.segment import segment_name
from edge_server.worker.assets import Assets
from edge_server.worker.filled import Filled
from edge_server.worker.live import Live, LiveAssets
from tests.stores import BLANK, RECORDS, Shelf
from tests.wsgi_client import Client


@pytest.fixture
def assets(make_client: Callable[..., Client], tmp_path: Path) -> Iterator[LiveAssets]:
    """Packs with ``a.txt`` and ``maps/world``, and a store with ``filled`` and ``large``."""
    packs = Assets(make_client().catalog, Config(), "h:1", max_files=9, make_room=lambda: None)
    memory = tmp_path / "memory"
    memory.mkdir()
    index = FillIndex.create(segment_name("test-absent"), RECORDS)
    shelf = Shelf(index, memory, None)
    shelf.fill("filled", b"body", fresh_ms=int(time.time() * 1000) + 60_000)
    shelf.store.remember(key_id("large", LARGE), BLANK, "large")
    filled = Filled(index, shelf.bodies, Http(), max_files=9, make_room=lambda: None)
    yield LiveAssets(packs, Live(index, filled, None, Config()))  # type: ignore[arg-type]
    shelf.close()
    index.segment.unlink()


@pytest.mark.parametrize(
    ("path", "is_absent"),
    [
        ("nobody/has/this", True),
        ("a.txt", False),
        ("maps/world/0/0/0.mvt", False),
        ("maps/world/9/9/9.mvt", False),
        ("maps/world.json", False),
        ("maps/other.json", True),
        ("maps/other/0/0/0.mvt", True),
        ("filled", False),
        ("large", False),
        ("../etc", False),
    ],
    ids=str,
)
def test_what_is_absent_is_what_no_pack_answers_and_nobody_has_filled(
    assets: LiveAssets, path: str, is_absent: bool
) -> None:
    assert assets.is_absent(f"/edge/assets/{path}") is is_absent
