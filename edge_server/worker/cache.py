"""The cache of prepared answers: what a worker has worked out for a path, kept for the next request.

Process      a worker. Holds headers, digests and open files, never bodies.
Memory       at most two times `capacity` answers, about 1 KiB each, and as many open files as
             ``assets.py`` allows.
Lifetime     dropped whole when the generation changes.

Two dictionaries approximate least-recently-used at no cost for a hit: answers enter the
young one; when it is full it becomes the old one, and what is asked for again moves back.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class TwoAgeCache(Generic[T]):
    """Maps a path to `T`, forgetting what has not been asked for lately.

    Attributes:
        young: may be read directly by a hot path; the object stays the same for life.
    """

    __slots__ = ("_capacity", "_old", "young")

    def __init__(self, capacity: int) -> None:
        self.young: dict[str, T] = {}
        self._old: dict[str, T] = {}
        self._capacity = capacity

    def get_old(self, path: str) -> T | None:
        """Return what `young` does not have but the last age had, and make it young again."""
        found = self._old.pop(path, None)
        if found is not None:
            self.put(path, found)
        return found

    def put(self, path: str, value: T) -> None:
        """Keep `value` for `path`."""
        if len(self.young) >= self._capacity:
            self.grow_old()
        self.young[path] = value

    def grow_old(self) -> None:
        """Forget the old age, and begin a new one; twice in a row forgets everything."""
        self._old.clear()
        self._old.update(self.young)
        self.young.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.young.clear()
        self._old.clear()
