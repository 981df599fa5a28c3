"""The progress of one verification: counted by its threads, read by the thread that waits.

Consistency  one lock around the counters; `is_stopped` is only ever set to True.
"""

from __future__ import annotations

import threading


class Progress:
    """Objects and bytes checked so far, and whether the rest is still wanted."""

    def __init__(self) -> None:
        self.total = 0
        self.done = 0
        self.bytes = 0
        self.is_stopped = False
        self._lock = threading.Lock()

    def add(self, done: int, size: int) -> None:
        with self._lock:
            self.done += done
            self.bytes += size
