"""Admission: whether a request is taken up, decided before anything is done for it.

Process      a worker. The hit path asks `pressure` of the guard for every request, and
             `Admission.judge` only where that speaks against it or a rate limit is set.
Reads        how many requests the other workers have in hand, from their scoreboard rows.
Writes       this worker's row: requests in hand, and what it has refused as busy.

Three things are limited, for the instance and not for a worker: requests a second, requests in
hand (being answered or parked), and how long a request waits until its turn. `/healthz` and
`/readyz` are never refused and never counted against a limit.

Waiting is judged by the guard after CoDel (RFC 8289): what matters is not one long wait but that
for an interval there was no turn of the loop without one. Then those are refused whose own wait
is too long, until an interval has passed without any. As libev takes first what became ready
last, these are the requests that have waited longest already, and the others are answered as
fast as if there were no overload. A miss is not refused for that: it waits for its origin anyway, and to
park it costs little more than to refuse it. How many there may be is bounded by those in hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edge_server import guard
from edge_server.config.schema import Ingress
from edge_server.guard import CROWDED, LATE, REPLAY
from edge_server.observe.metrics import HEALTHZ, READYZ
from edge_server.shm.admission import PATIENCE_S, Ledger
from edge_server.shm.scoreboard import SIDECAR_SLOT, Field, Row, Scoreboard
from edge_server.worker.rate_limit import bind_rate_limit

INTERVAL_S = 0.1  # RFC 8289 section 4.3
_UNSEEN = 8  # part of the free room that all workers together may take between two looks
EXEMPT = (HEALTHZ, READYZ)  # paths that tell of the instance, which must not depend on its load

ADMITTED, BUSY, RATE_LIMIT = "", "busy", "rate_limit"


class Room(NamedTuple):
    """How many requests this worker may have in hand before it looks at the others again."""

    is_left: bool
    until: int


class InflightCap:
    """The cap on requests in hand, shared by all workers without a lock.

    A worker looks at the others at each tick, and when it has filled the share of the free room that
    it may take unseen. So all together exceed the cap by an eighth at most, and by one request each
    where it was nearly reached before.

    Args:
        cap: of the instance.
        row: this worker's own.
    """

    def __init__(self, board: Scoreboard, row: Row, cap: int) -> None:
        self._cap = cap
        self._row = row
        self._shares = _UNSEEN * max(1, board.slots)
        self._others = [
            other.words for other in board.rows() if other.slot != SIDECAR_SLOT and other is not row
        ]

    def look(self, busy: int, parked: int, asking: int = 1) -> Room:
        """Tell the others what this worker has in hand, and return what room there is.

        Args:
            busy, parked: requests of this worker, the one that asks included.
            asking: 0 where no request asks.
        """
        words = self._row.words
        words[Field.INFLIGHT] = busy
        words[Field.PARKED] = parked
        own = busy + parked
        free = self._cap - own - sum(other[Field.INFLIGHT] + other[Field.PARKED] for other in self._others)
        return Room(free >= 0, own - asking + max(0, free) // self._shares)


class Admission:
    """Decides for one worker.

    Args:
        board, row: the instance's scoreboard and this worker's row of it.
        ledger, index: what all have admitted, and the index of this worker's row there.

    Attributes:
        limits_rate: whether `judge` must be asked for every request.
    """

    def __init__(self, ingress: Ingress, board: Scoreboard, row: Row, ledger: Ledger, index: int) -> None:
        self.limits_rate = ingress.rps_limit > 0
        self._take: Callable[[], bool] | None = None
        if self.limits_rate:
            self._take = bind_rate_limit(ledger, index, ingress.rps_limit, ingress.rps_burst)
        self._cap = InflightCap(board, row, ingress.max_inflight)

    def judge(self, pressed: int) -> str:
        """Return the reason for which the current request is refused; empty where it is admitted.

        Args:
            pressed: what the guard's `pressure` says of it.
        """
        if pressed:
            if pressed & REPLAY:
                return ADMITTED
            if pressed & LATE:
                return BUSY
            busy, parked, _ = guard.load()
            if pressed & CROWDED and not self._look(busy, parked):
                return BUSY
        if self._take is not None and not self._take():
            return RATE_LIMIT
        return ADMITTED

    def refresh(self) -> None:
        """Look at the others again; called at each tick."""
        busy, parked, _ = guard.load()
        self._look(busy, parked, asking=0)

    def _look(self, busy: int, parked: int, asking: int = 1) -> bool:
        room = self._cap.look(busy, parked, asking)
        guard.press_at(room.until, PATIENCE_S, INTERVAL_S)
        return room.is_left
