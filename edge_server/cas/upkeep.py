"""Upkeep: what a store does in the background: opens a failed disk, settles, scrubs, sweeps, synchronises.

Process      the sidecar, in a thread of its own, which ends with `stop` or the process.
Consistency  one step at a time; each leaves the store whole. Scrubbing reads at most SCRUB_BYTES_S.
"""

from __future__ import annotations

import itertools
import threading
import time

from edge_server.cas.store import Store
from edge_server.cas.tier import FOLDERS

SCRUB_BYTES_S = 32 << 20
PAUSE_S = 0.2

_SETTLING_S = 1.0  # of a step, at most


class Upkeep:
    """The thread.

    Args:
        store: adopted already.
        scrub_bytes_s: how fast bodies of an earlier instance are hashed.
        pause_s: how long it rests between steps.
    """

    def __init__(self, store: Store, scrub_bytes_s: int = SCRUB_BYTES_S, pause_s: float = PAUSE_S) -> None:
        self._store = store
        self._scrub_bytes_s = scrub_bytes_s
        self._pause_s = pause_s
        self._folders = itertools.cycle(FOLDERS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cas-upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, within_s: float | None = None) -> None:
        """End after the step that runs, and wait for that; so long at most, as a disk may hang."""
        self._stop.set()
        self._thread.join(within_s)

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s):
            self.step()

    def step(self) -> None:
        """Do a little of everything."""
        store = self._store
        store.retry_disk()
        started_s = time.monotonic()
        while not self._stop.is_set() and time.monotonic() - started_s < _SETTLING_S and store.settle():
            pass
        started_s = time.monotonic()
        read_bytes = store.scrub(int(self._scrub_bytes_s * self._pause_s))
        self._stop.wait(max(0.0, read_bytes / self._scrub_bytes_s - (time.monotonic() - started_s)))
        store.sweep(next(self._folders))
        store.checkpoint()
