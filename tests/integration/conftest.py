"""Instances of the real command, one for each module that only reads, or as many as a test asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from xprocess import XProcess

from tests.servers import Server, instances, serve, xprocess
from tests.worlds import World, make_world

__all__ = ["serve", "xprocess"]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Packs that no test changes."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def module_serve(xprocess: XProcess) -> Iterator[Callable[..., Server]]:
    """Start an instance that all tests of a module share."""
    with instances(xprocess) as start:
        yield start


@pytest.fixture(scope="module")
def server(module_serve: Callable[..., Server], world: World) -> Server:
    """An instance with two workers and defaults, shared by the tests of a module."""
    return module_serve("--workers", 2, *world.packs)
