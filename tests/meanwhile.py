"""Something that is done again and again while a test does something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event


@contextmanager
def meanwhile(turn: Callable[[], object], threads: int = 1) -> Iterator[None]:
    """Take turns in threads until the block is over; what a turn raises is raised at its end."""
    is_over = Event()

    def run() -> None:
        while not is_over.is_set():
            turn()

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(run) for _ in range(threads)]
        try:
            yield
        finally:
            is_over.set()
        for each in running:
            each.result()
