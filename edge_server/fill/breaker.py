"""The circuit breaker: a host that fails again and again is left alone for a while, then probed.

Process      whichever runs the engine; called by its threads.
Lifetime     the engine; one record a host, as many as the allow-list lets through.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum

from edge_server.errors import FillUnavailable

FAILURES = 5  # in a row
FIRST_OPEN_S = 1.0
LONGEST_OPEN_S = 30.0


class State(Enum):
    """Of a breaker: attempts pass, none does, or one does to see."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class Breaker:
    """The breaker of one host. Each `admit` is followed by one of the other three.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._open_s = FIRST_OPEN_S
        self._until_s = 0.0
        self.state = State.CLOSED

    def admit(self) -> None:
        """Let an attempt through; after a pause one at a time, as a probe.

        Raises:
            FillUnavailable: not now. Its Retry-After says when.
        """
        with self._lock:
            left_s = self._until_s - self._clock()
            if self.state is State.OPEN and left_s <= 0:
                self.state = State.HALF_OPEN
                return
            if self.state is not State.CLOSED:
                raise FillUnavailable(
                    "the host failed too often", (("Retry-After", str(max(1, round(left_s)))),)
                )

    def succeeded(self) -> None:
        """The host answered as it should."""
        if self.state is State.CLOSED and not self._failures:
            return
        with self._lock:
            self.state, self._failures, self._open_s = State.CLOSED, 0, FIRST_OPEN_S

    def failed(self) -> None:
        """The host failed, or did not answer in time."""
        with self._lock:
            self._failures += 1
            if self.state is State.HALF_OPEN:
                self._open_s = min(2 * self._open_s, LONGEST_OPEN_S)
            elif self.state is State.OPEN or self._failures < FAILURES:
                return
            self.state = State.OPEN
            self._until_s = self._clock() + self._open_s

    def abandoned(self) -> None:
        """The attempt ended without telling anything about the host."""
        with self._lock:
            if self.state is State.HALF_OPEN:
                self.state = State.OPEN
