"""SIEVE: which of a tier's objects goes next.

A queue of objects in the order in which they came, and a hand that goes from old to new: what has
been visited since it last came by is spared, the first that has not been goes. Nothing moves when
an object is asked for, so readers only set a byte.

Source: Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024. Knows no process and does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Sieve(Generic[T]):
    """The queue and the hand.

    Args:
        take_visited: whether an object has been visited since this was last asked of it.
    """

    def __init__(self, take_visited: Callable[[T], bool]) -> None:
        self._take_visited = take_visited
        self._newer: dict[T, T | None] = {}
        self._older: dict[T, T | None] = {}
        self._oldest: T | None = None
        self._newest: T | None = None
        self._hand: T | None = None

    def __len__(self) -> int:
        return len(self._newer)

    def __contains__(self, item: T) -> bool:
        return item in self._newer

    def __iter__(self) -> Iterator[T]:
        """Yield what is queued, the oldest first."""
        item = self._oldest
        while item is not None:
            yield item
            item = self._newer[item]

    def add(self, item: T) -> None:
        """Queue an object as the newest; one that is queued already stays where it is."""
        if item in self._newer:
            return
        self._newer[item], self._older[item] = None, self._newest
        if self._newest is None:
            self._oldest = item
        else:
            self._newer[self._newest] = item
        self._newest = item

    def discard(self, item: T) -> None:
        """Forget an object, if it is queued."""
        if item not in self._newer:
            return
        newer, older = self._newer.pop(item), self._older.pop(item)
        if self._hand == item:
            self._hand = newer
        if older is None:
            self._oldest = newer
        else:
            self._newer[older] = newer
        if newer is None:
            self._newest = older
        else:
            self._older[newer] = older

    def victim(self) -> T | None:
        """Return what goes next, which stays queued until it is discarded; None if there is nothing."""
        item = self._hand if self._hand is not None else self._oldest
        # Those spared in one round have no visit left in the next, unless readers are faster than we.
        for _ in range(2 * len(self)):
            assert item is not None
            if not self._take_visited(item):
                break
            following = self._newer[item]
            item = following if following is not None else self._oldest
        self._hand = item
        return item
