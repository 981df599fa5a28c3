"""Stored objects, for an operator: fetching some ahead of their first request, and removing some.

Process      the sidecar's main thread; fills call back from their own threads, through a descriptor that the
             loop watches.
Lifetime     a request to warm is parked until each of its paths is settled, and the replayed one answers.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from time import monotonic

from edge_server import guard
from edge_server.cas.store import Store
from edge_server.errors import BadRequest, Refused, Rejection
from edge_server.fill.messages import Ask, Done, Kind
from edge_server.http.paths import ASSET_PREFIX, asset_key
from edge_server.sidecar.filling import Filling

MAX_PATHS = 64  # of one request; their query is part of its target

_Results = list[dict[str, str]]


class Batch:
    """Paths that are being warmed for one parked request."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.results: _Results = [{"path": path, "outcome": "", "reason": ""} for path in paths]
        self.left = len(paths)


class Stored:
    """What an operator may do with stored objects.

    Args:
        is_packed: whether a pack has a key; nothing is fetched for it.
        budget_s: how long a fill may take.
    """

    def __init__(
        self, filling: Filling, store: Store, is_packed: Callable[[str], bool], budget_s: float
    ) -> None:
        self._filling = filling
        self._store = store
        self._is_packed = is_packed
        self._budget_s = budget_s
        self._tickets = itertools.count(1)
        self._lock = threading.Lock()
        self._parked: dict[int, Batch] = {}
        self._settled = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_watching = False

    def purge(self, paths: Sequence[str], prefixes: Sequence[str]) -> int:
        """Remove responses, all variants; return how many.

        Raises:
            Refused: this sidecar does not have the store yet.
        """
        if not self._filling.is_filling:
            raise Refused("fill_unavailable")
        exact = sum(self._store.purge(key_of(path)) for path in paths)
        return exact + sum(self._store.purge(prefix, is_prefix=True) for prefix in prefixes)

    def warm(self, paths: Sequence[str], corr_id: str) -> _Results | None:
        """Return what became of each path; None while the request is parked for it.

        Raises:
            BadRequest: no paths, or too many.
        """
        batch = self._parked.pop(guard.replay_of(), None)
        if batch is not None:
            for result in batch.results:
                if not result["outcome"]:
                    result.update(outcome="refused", reason="timeout")
            return batch.results
        if not 0 < len(paths) <= MAX_PATHS:
            raise BadRequest(f"give 1 to {MAX_PATHS} paths")
        if not self._is_watching:
            guard.watch(self._settled, self._on_settled)
            self._is_watching = True
        batch = Batch(paths)
        self._parked[guard.park()] = batch
        for index, path in enumerate(paths):
            self._begin(batch, index, path, corr_id)
        return None

    def _begin(self, batch: Batch, index: int, path: str, corr_id: str) -> None:
        def settle(outcome: str, reason: str = "") -> None:
            with self._lock:
                batch.results[index].update(outcome=outcome, reason=reason)
                batch.left -= 1
                if batch.left:
                    return
            os.eventfd_write(self._settled, 1)

        def done(told: Done) -> None:
            settle(told.outcome.value, told.reason)

        try:
            key = key_of(path)
        except Rejection as refusal:
            settle("refused", refusal.reason)
            return
        if self._is_packed(key):
            settle("packed")
            return
        deadline_s = monotonic() + self._budget_s
        self._filling.warm(Ask(next(self._tickets), Kind.FILL, key, {}, "", False, deadline_s, corr_id), done)

    def _on_settled(self) -> None:
        os.eventfd_read(self._settled)
        with self._lock:
            ready = [token for token, batch in self._parked.items() if not batch.left]
        for token in ready:
            if not guard.resume(token):
                self._parked.pop(token, None)  # the operator has left


def key_of(path: str) -> str:
    """Return the key of a path, with or without ``/edge/assets/``.

    Raises:
        Rejection: it is none.
    """
    return asset_key(ASSET_PREFIX + path.removeprefix(ASSET_PREFIX).encode().decode("latin-1"))
