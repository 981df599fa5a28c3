"""Hashing: digests of entries that are too big to be hashed while a client waits.

Process      a thread of the sidecar, at the lowest priority, for all of them; WANTED others for what
             somebody waits for. The main thread reads `pending`.
Consistency  digests go to shared memory one by one, where workers find them at once. An entry is hashed by
             one thread at a time; who wants it meanwhile is told with the others.
Lifetime     ends when every entry is hashed, or with the process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from edge_server.errors import PackUnreadable
from edge_server.observe.logs import log
from edge_server.shm.catalog import Catalog

WANTED = 2  # entries that are hashed at once because somebody waits
_NICENESS = 19

Told = Callable[[bool], None]


class Hashing:
    """Computes every missing digest of a catalog, smallest entry first.

    Attributes:
        pending: how many are missing; None until they have been counted.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.pending: int | None = None
        self._catalog = catalog
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._in_hand: set[int] = set()
        self._waiting: dict[int, list[Told]] = {}
        self._wanted = ThreadPoolExecutor(WANTED, "hashing-wanted")
        self._thread = threading.Thread(target=self._run, name="hashing", daemon=True)

    def start(self) -> None:
        """Begin in the background."""
        self._thread.start()

    def stop(self) -> None:
        """End after the block that is being read; does not wait for it."""
        self._stop.set()

    def want(self, index: int, told: Told) -> None:
        """Have an entry hashed before others; `told` is called once, from any thread, with whether it is."""
        with self._lock:
            waiting = self._waiting.setdefault(index, [])
            waiting.append(told)
            is_new = len(waiting) == 1 and index not in self._in_hand
        if is_new:
            self._wanted.submit(self._hash, index)

    def _run(self) -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)  # Linux: of this thread
        except PermissionError:
            pass  # a sandbox may forbid it (systemd's @resources): then at the usual priority
        missing = self._catalog.pending_digests()
        self.pending = len(missing)
        for index in missing:
            if self._stop.is_set() or not self._hash(index):
                return
            self.pending -= 1

    def _hash(self, index: int) -> bool:
        """Hash an entry, unless another thread does; return False if stopped."""
        with self._lock:
            if index in self._in_hand:
                return True
            self._in_hand.add(index)
        is_hashed = is_stopped = False
        try:
            is_hashed = self._catalog.hash_entry(index, self._stop) is not None
            is_stopped = not is_hashed
        except PackUnreadable as error:
            path = self._catalog.entry(index).path
            log("digest_failed", "warning", path=path, reason=error.reason, detail=error.what)
        finally:
            with self._lock:
                self._in_hand.discard(index)
                waiting = self._waiting.pop(index, [])
            for told in waiting:
                told(is_hashed)
        return not is_stopped
