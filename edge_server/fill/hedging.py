"""Hedging: a second attempt when the first is slow; whichever succeeds first is the answer.

Process      whichever runs the engine: up to two threads a fill, for as long as it takes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from edge_server.fill.deadline import Cancellation

T = TypeVar("T")


def first_of(
    attempt: Callable[[Cancellation], T],
    after_s: float,
    discard: Callable[[T], None],
    begun: Callable[[], None],
) -> T:
    """Return what the first attempt that succeeds returns; cancel the other one.

    Args:
        attempt: makes an attempt until it is cancelled; called at most twice, in threads.
        after_s: when the second one begins.
        discard: gets what an attempt returns nevertheless after the other one had succeeded.
        begun: called when the second one begins.

    Raises:
        Exception: what the last attempt to fail raised, if all fail.
    """
    results: queue.SimpleQueue[tuple[Cancellation, T | None, BaseException | None]] = queue.SimpleQueue()
    lock = threading.Lock()
    winners: list[Cancellation] = []

    def run(cancellation: Cancellation) -> None:
        try:
            value = attempt(cancellation)
        except BaseException as error:
            results.put((cancellation, None, error))
            return
        with lock:
            is_first = not winners
            winners.append(cancellation)
        if is_first:
            results.put((cancellation, value, None))
        else:
            discard(value)

    def start() -> Cancellation:
        cancellation = Cancellation()
        threading.Thread(target=run, args=(cancellation,), daemon=True).start()
        return cancellation

    running = [start()]
    is_hedged = False
    while True:
        try:
            cancellation, value, error = results.get(timeout=None if is_hedged else after_s)
        except queue.Empty:
            is_hedged = True
            begun()
            running.append(start())
            continue
        running.remove(cancellation)
        if error is None:
            for other in running:
                other.cancel()
            return value  # type: ignore[return-value]  # set where there is no error
        if not running:
            raise error
