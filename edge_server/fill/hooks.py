"""Hooks: what the engine tells of its work, to be counted and logged by whoever runs it.

Process      whichever runs the engine; called by its threads, and by those that submit. They must not
             block, nor call the engine.
"""

from __future__ import annotations

from edge_server.errors import Rejection


class Hooks:
    """What an engine tells of its work; override what is wanted. Called from its threads.

    `host` is what on the allow-list allows the origin, or ``other``: a bounded set of values.
    """

    def attempted(self, host: str) -> None:
        """An attempt begins."""

    def succeeded(self, host: str, seconds: float) -> None:
        """A fill brought a usable answer; seconds since it was begun, with its retries."""

    def failed(self, host: str, corr_id: str, rejection: Rejection) -> None:
        """A fill brought none."""

    def retried(self) -> None:
        """Another attempt follows one that failed."""

    def hedged(self) -> None:
        """Another attempt begins beside one that is slow."""

    def coalesced(self) -> None:
        """A request joined a fetch that was under way."""

    def timed_out(self, op: str) -> None:
        """An attempt took too long: ``connect`` or ``fill``."""

    def handshake_failed(self) -> None:
        """An origin took the connection, and its TLS handshake failed."""

    def broke(self, error: BaseException) -> None:
        """A defect: something raised what it should not."""
