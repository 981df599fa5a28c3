"""Coalescing: requests for the same thing wait for one fetch, and each is answered exactly once.

Process      whichever runs the engine; called by its threads.
Lifetime     a group lives from the first request for its thing until all who joined are answered.

Specification: RFC 9111 section 4, last paragraph ("collapsed requests"), and section 4.1: a response
that turns out to vary answers those whose fields match the first request's; the others begin
groups of their own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

W = TypeVar("W")


class Group(Generic[W]):
    """Who waits for one thing, the first one first."""

    __slots__ = ("key", "waiters")

    def __init__(self, key: Hashable, first: W) -> None:
        self.key = key
        self.waiters = [first]


class Groups(Generic[W]):
    """The groups that are open, by what they wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Hashable, Group[W]] = {}

    def join(
        self, key: Hashable, waiter: W, *, is_needed: Callable[[], bool], joined: Callable[[Group[W]], None]
    ) -> Group[W] | None:
        """Join the group of `key`, or open it.

        Args:
            is_needed: asked where there is no group; if a fetch that has just ended brought
                what is wanted, nothing needs to wait.
            joined: called with the group that was joined, before it can be closed.

        Returns:
            The group that was opened, for the caller to start; None otherwise.

        Raises:
            NotNeeded: `is_needed` said no.
        """
        with self._lock:
            group = self._open.get(key)
            if group is not None:
                group.waiters.append(waiter)
                joined(group)
                return None
            if not is_needed():
                raise NotNeeded
            group = self._open[key] = Group(key, waiter)
            return group

    def close(self, group: Group[W]) -> list[W]:
        """Let nobody join any more; return all who wait."""
        with self._lock:
            if self._open.get(group.key) is group:
                del self._open[group.key]
            return group.waiters


class NotNeeded(Exception):
    """What is wanted is there by now."""
