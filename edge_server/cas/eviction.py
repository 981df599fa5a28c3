"""Eviction: what goes when a tier has no room for a body, or the index for a key.

Process      the sidecar, under the store's lock.
Consistency  bodies that are about to be given a key are pinned, and stay.
Lifetime     the store's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_server.cas.disk import OnEvent
from edge_server.errors import NoRoom
from edge_server.shm.fill_index import DISK, MEMORY, TIERS

if TYPE_CHECKING:
    from edge_server.cas.contents import Contents


class Eviction:
    """Takes bodies out of the tiers, and keys out of the index.

    Attributes:
        counts: bodies taken out of each tier for others.

    Args:
        contents: what the store holds.
        on_event: told of each.
    """

    def __init__(self, contents: Contents, on_event: OnEvent) -> None:
        self.counts = [0, 0]
        self._contents = contents
        self._on_event = on_event

    def make_room(self, number: int) -> bool:
        """Evict until all that is claimed of a tier has room; return whether it has."""
        tier = self._contents.tier(number)
        if tier.claimed_bytes > tier.max_bytes:
            return False  # whatever goes: nothing is given up for it
        while tier.lacks_bytes:
            if not self._evict(number):
                return False
        return True

    def visits(self, number: int) -> Callable[[bytes], bool]:
        """Return what tells the sieve of a tier whether a body is to be spared."""

        def take_visited(digest: bytes) -> bool:
            body = self._contents.bodies[digest]
            if body.pins or (number == DISK and MEMORY in body.tiers):
                return True
            # All of them are asked: each loses its visit.
            visits = [self._contents.index.take_visited(key_id) for key_id in body.keys]
            return any(visits)

        return take_visited

    def make_place(self) -> None:
        """Evict until the index takes one more key.

        Raises:
            NoRoom: there is nothing to evict.
        """
        while (
            self._contents.index.is_full or len(self._contents.bodiless) > self._contents.index.records // 4
        ):
            victim = self._contents.bodiless.victim()
            fuller = max((MEMORY, DISK), key=self._queued)
            if victim is not None and 4 * len(self._contents.bodiless) >= self._queued(fuller):
                self._contents.remove(victim)
            elif not self._evict(fuller, is_key_wanted=True):
                raise NoRoom("the fill index is full")

    def _queued(self, number: int) -> int:
        return 0 if number == DISK and self._contents.disk is None else len(self._contents.tier(number).queue)

    def _evict(self, number: int, is_key_wanted: bool = False) -> bool:
        """Take the next victim out of a tier, or for its keys out of both; return False if there is none."""
        digest = self._contents.tier(number).queue.victim()
        if digest is None:
            return False
        body = self._contents.bodies[digest]
        if body.pins:
            return False
        self.counts[number] += 1
        self._on_event("cas_eviction", {"tier": TIERS[number]})
        if is_key_wanted:
            self._contents.drop(digest)
        else:
            self._contents.lose(digest, number)
        return True
