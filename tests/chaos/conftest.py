"""Instances of the real command for tests that kill and starve them."""

from tests.servers import serve, xprocess

__all__ = ["serve", "xprocess"]
