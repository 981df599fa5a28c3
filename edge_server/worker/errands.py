"""Errands of one worker: answers that wait for a disk, or for a digest, while the sidecar sees to it.

Process      a worker, in bjoern's loop: `wait` while a request is answered, `on_cold` and `on_packets` when
             the guard or the channel has something, `sweep` at each tick.
Memory       an entry for each request that waits, each body that rests, and each replay to come.
Consistency  whoever waits goes on: when the sidecar says so, when the one that was asked is gone or silent,
             to ask its successor, or when its time is over. Where nobody can be asked the worker reads and
             hashes itself, as waiting for a disk is better than an error; past its time a request without
             bytes gets 503.
Lifetime     a request's, or of a window of its body. What wants the same bytes waits for one errand.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable
from time import monotonic, monotonic_ns
from typing import NamedTuple

from edge_server import guard
from edge_server.errands import ERRAND_BYTES, NOBODY, ErrandDone, HashEntry, ReadAhead, unpack
from edge_server.errors import Cold, MessageInvalid, PackUnreadable, Refused, Rejection, Unhashed
from edge_server.observe.logs import log
from edge_server.shm.catalog import HASH_INLINE_BYTES, Catalog
from edge_server.shm.scoreboard import Field, Row
from edge_server.worker.files import AHEAD_BYTES, WINDOW_BYTES
from edge_server.worker.park_counts import ParkCounts

SILENT_S = 1.0  # a sidecar whose loop has not turned for so long is not asked, and not waited for
_ROUNDS = 3  # of parking a request; what was read may be evicted before it is replayed
_UNASKED = 16  # errands under way, from which on nothing is read for nobody in particular


class _Parked(NamedTuple):
    deadline_s: float
    corr_id: str
    rounds: int


class _Replay(NamedTuple):
    corr_id: str
    rounds: int
    may_wait: bool


class _Wait:
    """One errand, and who waits for it: requests by token, and bodies on their way with their deadline."""

    __slots__ = ("key", "parked", "resting", "runner_ns", "ticket")

    def __init__(self, ticket: int, key: object, runner_ns: int) -> None:
        self.ticket = ticket
        self.key = key
        self.runner_ns = runner_ns  # who was asked
        self.parked: dict[int, _Parked] = {}
        self.resting: dict[int, float] = {}


class Errands:
    """All that waits in this worker for an errand.

    Args:
        channel: this worker's end.
        sidecar_rows: where the sidecars say that they run errands.
        catalog: of this worker's generation.
        budget_s: `ingress.timeout_secs`; of a request, and of each window of a body.

    Attributes:
        last_token: of the request that was parked last; 0 before the first.
    """

    def __init__(
        self, channel: socket.socket, sidecar_rows: Iterable[Row], catalog: Catalog, budget_s: float
    ) -> None:
        self._channel = channel
        self._sidecar_words = [row.words for row in sidecar_rows]
        self._catalog = catalog
        self._budget_s = budget_s
        self._by_ticket: dict[int, _Wait] = {}
        self._by_key: dict[object, _Wait] = {}
        self._replays: dict[int, _Replay] = {}
        self.last_token = 0
        self._replayed = (0, 0)  # the token of the replay that is being answered, and its rounds
        self._next_ticket = (secrets.randbits(32) << 20) + 1
        self._is_watching = False
        self._counts = ParkCounts()
        guard.on_cold(self.on_cold)

    def wait(self, slow: Cold | Unhashed, started: float, corr_id: str) -> Rejection | None:
        """Park the request being answered until what it needs is there; return why it is refused instead.

        Args:
            started: CLOCK_MONOTONIC when it came.
        """
        deadline_s = started + self._budget_s
        token, rounds = self._replayed
        if not token or guard.replay_of() != token:
            rounds = 0
        if rounds and monotonic() >= deadline_s:
            return _too_late(slow)
        wait = self._ask(slow) if rounds < _ROUNDS else None
        if wait is not None:
            wait.parked[self._park()] = _Parked(deadline_s, corr_id, rounds + 1)
            return None
        if isinstance(slow, Unhashed):
            if slow.length > HASH_INLINE_BYTES:
                return _too_late(slow)
            self._catalog.hash_entry(slow.entry)
        self._resume(self._park(), _Parked(deadline_s, corr_id, rounds + 1), may_wait=True)
        return None

    def replayed(self) -> str | None:
        """Return the correlation id of the request being answered, where it is one that has waited here."""
        token = guard.replay_of()
        replay = self._replays.pop(token, None)
        if replay is None:
            return None
        self._replayed = (token, replay.rounds)
        if replay.may_wait:
            guard.may_wait()
        return replay.corr_id

    def on_cold(self) -> None:
        """Have read ahead what bodies on their way need next; never raises, as bjoern's loop calls it."""
        deadline_s = monotonic() + self._budget_s
        for token, descriptor, offset, length in guard.cold():
            window = min(length, WINDOW_BYTES)
            if token == NOBODY:
                if len(self._by_ticket) < _UNASKED and self._runner_ns():
                    self._send(ReadAhead(NOBODY, offset, window, 0, _device(descriptor)), descriptor)
                continue
            wait = self._ask(Cold(descriptor, offset, window, min(length - window, AHEAD_BYTES)))
            if wait is None:
                self._counts.add("direct", guard.go_on(token, True))
            else:
                wait.resting[token] = deadline_s

    def on_packets(self) -> None:
        """Let go on whoever waits for what the channel tells of; never raises, as bjoern's loop calls it."""
        while True:
            try:
                done = unpack(self._channel.recv(ERRAND_BYTES))
            except BlockingIOError:
                return
            except MessageInvalid as error:
                log("defect", "error", detail=str(error))
                continue
            wait = self._by_ticket.get(done.ticket)
            if wait is not None and isinstance(done, ErrandDone):
                self._finish(wait, done.is_done)

    def sweep(self) -> None:
        """Let go on whoever has waited long enough, or waits for somebody who is gone; at each tick."""
        now_s = monotonic()
        runners = self._runners()
        for wait in list(self._by_ticket.values()):
            if wait.runner_ns not in runners:
                self._finish(wait, bool(runners))  # what is still cold then is asked of a successor
                continue
            for token in [token for token, parked in wait.parked.items() if parked.deadline_s <= now_s]:
                self._resume(token, wait.parked.pop(token), may_wait=False)
            for token in [token for token, deadline_s in wait.resting.items() if deadline_s <= now_s]:
                del wait.resting[token]
                self._counts.add("timeout", guard.give_up(token))
            if not wait.parked and not wait.resting:
                self._forget(wait)
        self._counts.fold()

    def _park(self) -> int:
        self.last_token = guard.park()
        return self.last_token

    def _ask(self, slow: Cold | Unhashed) -> _Wait | None:
        """Return the errand that sees to it, running already or new; None where nobody runs it."""
        runner_ns = self._runner_ns()
        if not runner_ns:
            return None
        key = slow.entry if isinstance(slow, Unhashed) else (slow.descriptor, slow.offset, slow.length)
        wait = self._by_key.get(key)
        if wait is not None:
            return wait
        ticket = self._next_ticket
        self._next_ticket += 1
        if isinstance(slow, Unhashed):
            is_sent = self._send(HashEntry(ticket, self._catalog.generation, slow.entry))
        else:
            file = slow.descriptor
            is_sent = self._send(ReadAhead(ticket, slow.offset, slow.length, slow.more, _device(file)), file)
        if not is_sent:
            return None
        wait = self._by_ticket[ticket] = self._by_key[key] = _Wait(ticket, key, runner_ns)
        return wait

    def _send(self, errand: ReadAhead | HashEntry, *descriptors: int) -> bool:
        if not self._is_watching:
            guard.watch(self._channel.fileno(), self.on_packets)
            self._is_watching = True
        try:
            socket.send_fds(self._channel, [errand.pack()], descriptors)
        except OSError:  # full, or too many descriptors are on their way
            return False
        return True

    def _finish(self, wait: _Wait, is_done: bool) -> None:
        self._forget(wait)
        for token, parked in wait.parked.items():
            self._resume(token, parked, may_wait=not is_done)
        for token in wait.resting:
            has_gone_on = guard.go_on(token, not is_done)
            self._counts.add("direct", has_gone_on and not is_done)

    def _resume(self, token: int, parked: _Parked, *, may_wait: bool) -> None:
        self._replays[token] = _Replay(parked.corr_id, parked.rounds, may_wait)
        if guard.resume(token):
            is_late = parked.deadline_s <= monotonic()
            self._counts.add("direct" if may_wait else "timeout" if is_late else "read")
        else:
            del self._replays[token]
            self._counts.add("gone")

    def _forget(self, wait: _Wait) -> None:
        self._by_ticket.pop(wait.ticket, None)
        if self._by_key.get(wait.key) is wait:
            del self._by_key[wait.key]

    def _runners(self) -> list[int]:
        """Return what names each sidecar that runs errands now and is not silent."""
        since_ns = monotonic_ns() - int(SILENT_S * 1e9)
        return [
            words[Field.ERRANDS_NS]
            for words in self._sidecar_words
            if words[Field.ERRANDS_NS] and words[Field.BEAT_NS] >= since_ns
        ]

    def _runner_ns(self) -> int:
        return max(self._runners(), default=0)


def _device(descriptor: int) -> int:
    """Return what a file is on; the guard has looked at the file in the same way just now."""
    return os.fstat(descriptor).st_dev


def _too_late(slow: Cold | Unhashed) -> Rejection:
    if isinstance(slow, Unhashed):
        return PackUnreadable("its entity tag is still being computed")
    return Refused("timeout", "its bytes have not come from the disk")
