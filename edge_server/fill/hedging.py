"""Hedging: a second attempt when the first is slow; whichever succeeds first is the answer.

Process      whichever runs the engine: two tasks a fill besides its own, for as long as it takes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from edge_server.fill.deadline import Cancellation
from edge_server.fill.loop import Signal

T = TypeVar("T")


def first_of(
    attempt: Callable[[Cancellation], T],
    after_s: float,
    discard: Callable[[T], None],
    begin: Callable[[], Callable[[], None] | None],
    spawn: Callable[[Callable[[], None]], None],
) -> T:
    """Return what the first attempt that succeeds returns; cancel the other one.

    Args:
        attempt: makes an attempt until it is cancelled; called at most twice, in tasks or threads.
        after_s: when the second one begins.
        discard: gets what an attempt returns nevertheless after the other one had succeeded.
        begin: called when the second one is to begin; returns what is called when that has ended, or None
            if it may not begin yet: it is asked again after as long.
        spawn: begins a task or thread.

    Raises:
        Exception: what the last attempt to fail raised, if all fail.
    """
    race = _Race(attempt, discard, spawn)
    race.start(lambda: None)
    hedge_s = monotonic() + after_s
    while True:
        if race.told.wait(hedge_s):
            race.told.clear()
        elif (ended := begin()) is not None:
            hedge_s = math.inf
            race.start(ended)
        else:
            hedge_s = monotonic() + after_s
        while race.results:
            value, error = race.results.popleft()
            if error is None:
                race.cancel()
                return value  # type: ignore[return-value]  # set where there is no error
            if not race.running:
                raise error


class _Race:
    """The attempts. A list or deque changes in one step, so they may be threads."""

    def __init__(
        self,
        attempt: Callable[[Cancellation], T],
        discard: Callable[[T], None],
        spawn: Callable[[Callable[[], None]], None],
    ) -> None:
        self._attempt = attempt
        self._discard = discard
        self._spawn = spawn
        self._prize = deque((True,))
        self.running: list[Cancellation] = []
        self.results: deque[tuple[object, BaseException | None]] = deque()
        self.told = Signal()

    def start(self, ended: Callable[[], None]) -> None:
        """Begin an attempt."""
        cancellation = Cancellation()
        self.running.append(cancellation)
        self._spawn(lambda: self._run(cancellation, ended))

    def cancel(self) -> None:
        """End what still runs."""
        for cancellation in list(self.running):
            cancellation.cancel()

    def _run(self, cancellation: Cancellation, ended: Callable[[], None]) -> None:
        value: object = None
        failure: BaseException | None = None
        try:
            value = self._attempt(cancellation)
        except BaseException as error:
            failure = error
        self.running.remove(cancellation)
        ended()
        if failure is None and not self._won():
            self._discard(value)  # type: ignore[arg-type]  # what the attempt returned
            return
        self.results.append((value, failure))
        self.told.tell()

    def _won(self) -> bool:
        try:
            return self._prize.pop()
        except IndexError:
            return False
