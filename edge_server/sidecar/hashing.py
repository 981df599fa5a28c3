"""Hashing: digests of entries that are too big to be hashed while a client waits.

Process      a thread of the sidecar, at the lowest priority; the main thread reads `pending`.
Consistency  digests go to shared memory one by one, where workers find them at once.
Lifetime     ends when every entry is hashed, or with the process.
"""

from __future__ import annotations

import os
import threading

from edge_server.errors import PackUnreadable
from edge_server.observe.logs import log
from edge_server.shm.catalog import Catalog

_NICENESS = 19


class Hashing:
    """Computes every missing digest of a catalog, smallest entry first.

    Attributes:
        pending: how many are missing; None until they have been counted.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.pending: int | None = None
        self._catalog = catalog
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hashing", daemon=True)

    def start(self) -> None:
        """Begin in the background."""
        self._thread.start()

    def stop(self) -> None:
        """End after the block that is being read; does not wait for it."""
        self._stop.set()

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)  # Linux: of this thread
        waiting = self._catalog.pending_digests()
        self.pending = len(waiting)
        for index in waiting:
            if self._stop.is_set():
                return
            self._hash(index)

    def _hash(self, index: int) -> None:
        try:
            if self._catalog.hash_entry(index, self._stop) is None:
                return
        except PackUnreadable as error:
            path = self._catalog.entry(index).path
            log("digest_failed", "warning", path=path, reason=error.reason, detail=error.what)
        assert self.pending is not None
        self.pending -= 1
