"""What the drill's clients saw: one compact row a request, and the particulars of what went wrong.

Process      the drill; written and read in its event loop.
Memory       about 40 bytes a request; particulars of the first `MAX_PARTICULARS` failures and wrong answers.
Lifetime     one run.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

MAX_PARTICULARS = 1000


class Row(NamedTuple):
    """One request.

    Attributes:
        due_s: when it was to be sent, monotonic seconds.
        latency_s: from then until its last byte, so that waiting for a stalled connection counts.
        status: of the answer; 0 where it was lost.
        is_proxied: whether it went through the drill's own proxy.
        is_rejected: a refusal to take it (429, 503) with a reason.
    """

    due_s: float
    latency_s: float
    status: int
    is_proxied: bool
    is_rejected: bool


class Loss(NamedTuple):
    """A request without a whole answer.

    Attributes:
        began_s, ended_s: monotonic seconds when it was sent and when it was given up.
        process: what the correlation ids of the process on that connection begin with; empty
            where it had not answered yet.
    """

    began_s: float
    ended_s: float
    process: str
    is_proxied: bool
    error: str


class Wrong(NamedTuple):
    """An answer that differs from what was stored; `what` says how."""

    at_s: float
    path: str
    what: str


_PROXIED, _REJECTED = 1, 2


class Journal:
    """Rows in the order in which requests ended.

    Attributes:
        losses, wrong: particulars; `lost_count` and `wrong_count` count all.
    """

    def __init__(self) -> None:
        self.losses: list[Loss] = []
        self.wrong: list[Wrong] = []
        self.lost_count = 0
        self.wrong_count = 0
        self.bytes_in = 0
        self._dues, self._latencies = array("d"), array("d")
        self._statuses, self._flags = array("H"), array("B")

    def __len__(self) -> int:
        return len(self._dues)

    def answered(self, row: Row, size: int) -> None:
        """Note a whole answer with so many bytes of body."""
        self.bytes_in += size
        self._add(row)

    def lost(self, due_s: float, loss: Loss) -> None:
        """Note a request without a whole answer."""
        self.lost_count += 1
        if len(self.losses) < MAX_PARTICULARS:
            self.losses.append(loss)
        self._add(Row(due_s, loss.ended_s - due_s, 0, loss.is_proxied, False))

    def differed(self, wrong: Wrong) -> None:
        """Note that an answer, which `answered` has as well, was not the right one."""
        self.wrong_count += 1
        if len(self.wrong) < MAX_PARTICULARS:
            self.wrong.append(wrong)

    def rows(self) -> Iterator[Row]:
        """Yield all rows."""
        for due_s, latency_s, status, flags in zip(
            self._dues, self._latencies, self._statuses, self._flags, strict=True
        ):
            yield Row(due_s, latency_s, status, bool(flags & _PROXIED), bool(flags & _REJECTED))

    def between(self, start_s: float, stop_s: float) -> list[Row]:
        """Return the rows of requests that were due in a span of monotonic seconds."""
        return [row for row in self.rows() if start_s <= row.due_s < stop_s]

    def _add(self, row: Row) -> None:
        self._dues.append(row.due_s)
        self._latencies.append(row.latency_s)
        self._statuses.append(row.status)
        self._flags.append(_PROXIED * row.is_proxied | _REJECTED * row.is_rejected)
