"""Parking: requests that wait in this worker while the sidecar fetches what they ask for.

Process      a worker, in bjoern's loop: `park` while a request is answered, `on_packets` when the channel is
             readable, `sweep` at each tick.
Memory       an entry for each request that waits, and for each that was resumed until it is replayed.
Consistency  everything that is parked is resumed: by what the sidecar says, or when its budget is over. A
             sidecar that is killed is noticed by its word in the scoreboard, and its successor is asked
             again. A client that leaves is noticed by the guard; its entry goes at its next event.
Lifetime     a request's. Asks of the same want go to the sidecar as one.
"""

from __future__ import annotations

import secrets
import socket
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import NamedTuple

from edge_server import guard
from edge_server.errors import MessageInvalid
from edge_server.fill.messages import PACKET_BYTES, Ask, Done, Outcome
from edge_server.observe.logs import log
from edge_server.observe.metrics import metrics
from edge_server.shm.scoreboard import Field, Row
from edge_server.worker.park_counts import ParkCounts

# A later request joins an Ask whose budget ends at most so much before its own; else it asks anew, and the
# sidecar joins the two.
_SHARED_S = 0.5
_UNSENT_MAX = 4096  # Asks that a full channel keeps waiting here; beyond that a miss is refused as busy
_TIMEOUT, _UNAVAILABLE = "timeout", "fill_unavailable"


class Want(NamedTuple):
    """What tells Asks apart: equal ones are answered by one fetch."""

    key: str
    fields: tuple[tuple[str, str], ...]
    cache_control: str
    has_authorization: bool
    range: str = ""


class Result(NamedTuple):
    """What a replayed request finds.

    Attributes:
        done: what the sidecar said, or would have said if it had been there in time.
        corr_id: the correlation id that the request had when it was parked.
        rounds: how often it has been parked so far.
    """

    done: Done
    corr_id: str
    rounds: int


class _Parked(NamedTuple):
    deadline_s: float
    corr_id: str
    rounds: int


class _Wait:
    """One Ask, and who waits for it."""

    __slots__ = ("ask", "filler_ns", "parked", "want")

    def __init__(self, ask: Ask, want: Want, filler_ns: int) -> None:
        self.ask = ask
        self.want = want
        self.filler_ns = filler_ns  # who was asked; 0 for nobody
        self.parked: dict[int, _Parked] = {}


class Parking:
    """All requests that wait in this worker.

    Args:
        channel: this worker's end.
        sidecar_rows: where the sidecars say that they take fills.

    Attributes:
        last_token: of the request that was parked last; 0 before the first.
    """

    def __init__(self, channel: socket.socket, sidecar_rows: Iterable[Row]) -> None:
        self._channel = channel
        self._sidecar_words = [row.words for row in sidecar_rows]
        self._by_ticket: dict[int, _Wait] = {}
        self._by_want: dict[Want, _Wait] = {}
        self._results: dict[int, Result] = {}
        self._unsent: deque[bytes] = deque()
        # NOTE: 53 bits, as JSON readers may take numbers for doubles.
        self._next_ticket = secrets.randbits(32) << 20
        self.last_token = 0
        self._is_watching = False
        self._counts = ParkCounts()
        self._joined = 0  # requests that share an Ask, since the last tick; the sidecar knows nothing of them
        _discard_packets(channel)

    def park(
        self, want: Want, make_ask: Callable[[int, float], Ask], deadline_s: float, corr_id: str, rounds: int
    ) -> str:
        """Put the request being answered aside until there is an answer to `want`.

        Args:
            make_ask: makes the Ask of a ticket and a deadline.
            deadline_s: CLOCK_MONOTONIC; past it the request is replayed in any case.
            rounds: how often it was parked before.

        Returns:
            Nothing, or the reason for which it is refused instead: then it is not parked.
        """
        if not self._is_watching:
            guard.watch(self._channel.fileno(), self.on_packets)
            self._is_watching = True
        wait = self._by_want.get(want)
        if wait is None or wait.ask.deadline_s < deadline_s - _SHARED_S:
            ask = make_ask(self._next_ticket, deadline_s)
            self._next_ticket += 1
            wait = _Wait(ask, want, self._filler_ns())
            reason = self._send(ask)
            if reason:
                return reason
            self._by_ticket[ask.ticket] = self._by_want[want] = wait
        else:
            self._joined += 1
        self.last_token = guard.park()
        wait.parked[self.last_token] = _Parked(deadline_s, corr_id, rounds + 1)
        return ""

    def tell(self, ask: Ask) -> None:
        """Send an Ask that nobody waits for; where it cannot go, another request will send one."""
        if not self._unsent:
            self._send(ask)

    def new_ticket(self) -> int:
        """Return a ticket that is nobody's yet."""
        self._next_ticket += 1
        return self._next_ticket - 1

    def result(self) -> Result | None:
        """Return what the request being answered, a replayed one, has waited for; once.

        None where the guard has replayed it by itself, as nobody did in time.
        """
        return self._results.pop(guard.replay_of(), None)

    def on_packets(self) -> None:
        """Resume whoever is told of in the channel; never raises, as bjoern's loop calls it."""
        while True:
            try:
                packet = self._channel.recv(PACKET_BYTES)
            except BlockingIOError:
                self._flush()
                return
            try:
                done = Done.unpack(packet)
            except MessageInvalid as error:
                log("defect", "error", detail=str(error))
                continue
            self._finish(done)

    def sweep(self) -> None:
        """Ask a new sidecar again, replay whoever has waited long enough, and count; at each tick."""
        self._flush()
        now_s = monotonic()
        filler_ns = self._filler_ns()
        for wait in list(self._by_ticket.values()):
            if filler_ns and wait.filler_ns != filler_ns and not self._send(wait.ask):
                wait.filler_ns = filler_ns
            late = [token for token, parked in wait.parked.items() if parked.deadline_s <= now_s]
            if late:
                reason = _TIMEOUT if filler_ns and wait.filler_ns == filler_ns else _UNAVAILABLE
                done = Done(wait.ask.ticket, Outcome.REFUSED, reason=reason)
                for token in late:
                    self._resume(token, wait.parked.pop(token), done)
            if not wait.parked:
                self._forget(wait)
        self._fold()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(len(wait.parked) for wait in self._by_ticket.values())

    def _finish(self, done: Done) -> None:
        wait = self._by_ticket.get(done.ticket)
        if wait is None:
            return  # answered twice, too late, or meant for a worker before this one
        if done.outcome is Outcome.AGAIN:
            wait.filler_ns = 0
            return
        self._forget(wait)
        for token, parked in wait.parked.items():
            self._resume(token, parked, done)

    def _resume(self, token: int, parked: _Parked, done: Done) -> None:
        self._results[token] = Result(done, parked.corr_id, parked.rounds)
        if guard.resume(token):
            is_own = done.reason in (_TIMEOUT, _UNAVAILABLE)
            self._counts.add(done.reason if is_own else done.outcome.value)
        else:
            del self._results[token]
            self._counts.add("gone")

    def _forget(self, wait: _Wait) -> None:
        self._by_ticket.pop(wait.ask.ticket, None)
        if self._by_want.get(wait.want) is wait:
            del self._by_want[wait.want]

    def _filler_ns(self) -> int:
        """Return what names the sidecar that takes fills now; 0 while there is none."""
        return max([words[Field.FILLING_NS] for words in self._sidecar_words])

    def _send(self, ask: Ask) -> str:
        """Send an Ask, now or with a later `_flush`; return nothing, or the reason for which it cannot go."""
        if len(self._unsent) >= _UNSENT_MAX:
            return "busy"
        try:
            self._unsent.append(ask.pack())
        except MessageInvalid:
            return "header_cap"
        self._flush()
        return ""

    def _flush(self) -> None:
        while self._unsent:
            try:
                self._channel.send(self._unsent[0])
            except BlockingIOError:
                return
            self._unsent.popleft()

    def _fold(self) -> None:
        self._counts.fold()
        if self._joined:
            metrics().edge_fill_coalesced_total.inc(self._joined)
            self._joined = 0


def _discard_packets(channel: socket.socket) -> None:
    """Take out what was meant for a worker before this one."""
    try:
        while True:
            channel.recv(PACKET_BYTES)
    except BlockingIOError:
        return
