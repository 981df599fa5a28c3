"""Instances of the real command, one for each module that only reads, or as many as a test asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from xprocess import XProcess

from tests.servers import Server, instances
from tests.worlds import World, make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Packs that no test changes."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def server(xprocess: XProcess, world: World) -> Iterator[Server]:
    """An instance with two workers and defaults, shared by the tests of a module."""
    with instances(xprocess) as serve:
        yield serve("--workers", 2, *world.packs)


@pytest.fixture
def serve(xprocess: XProcess) -> Iterator[Callable[..., Server]]:
    """Start an instance with the given flags and paths."""
    with instances(xprocess) as start:
        yield start
