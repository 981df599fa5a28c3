"""What is deployed: the fixtures of the integration tests, as instances are the same."""

from __future__ import annotations

from tests.integration.conftest import module_serve, serve, server, world, xprocess

__all__ = ["module_serve", "serve", "server", "world", "xprocess"]
