"""The tick: what a worker does besides answering, about ten times a second.

Process      a worker, called by the guard from bjoern's loop.
Writes       this worker's scoreboard row, its metrics files, its log lines.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence

from edge_server import guard
from edge_server.guard.drain import Drain
from edge_server.observe.logs import AccessLog, log
from edge_server.observe.metrics import OTHER, metrics
from edge_server.observe.tally import Tally
from edge_server.shm.scoreboard import Field, Row, WorkerState

_INTERVAL_NS = 100_000_000

# The guard's counter -> kind of edge_slow_clients_total, op of io_timeouts_total
_SLOW = {
    "timed_out_head": ("header", "read"),
    "timed_out_body": ("body", "read"),
    "timed_out_send": ("send", "write"),
    "timed_out_idle": ("idle", ""),
}


class Tick:
    """Runs the tick, and the drain once SIGTERM has come.

    Args:
        row: this worker's.
        begin_drain: makes the drain when it is wanted.
        leave: ends the process; called when the drain is done.
        max_requests: after so many it asks the supervisor for a successor; 0 never.
        beats: what else is to be done at each tick.
    """

    def __init__(
        self,
        row: Row,
        tally: Tally,
        access_log: AccessLog,
        begin_drain: Callable[[], Drain],
        leave: Callable[[], None],
        max_requests: int = 0,
        beats: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._row = row
        self._tally = tally
        self._access_log = access_log
        self._begin_drain = begin_drain
        self._leave = leave
        self._max_requests = max_requests
        self._beats = beats
        self._is_drain_wanted = False
        self._drain: Drain | None = None
        self._slow_before: dict[str, int] = {}
        self._due_ns = time.monotonic_ns() + _INTERVAL_NS

    def heed_signals(self) -> None:
        """Drain on SIGTERM."""
        signal.signal(signal.SIGTERM, self._on_term)

    def __call__(self) -> None:
        """Do one tick."""
        try:
            self._beat()
            self._step_drain()
        except Exception as error:  # bjoern's loop must never see it
            log("defect", "error", detail=repr(error))

    def _on_term(self, number: int, frame: object) -> None:
        self._is_drain_wanted = True

    def _beat(self) -> None:
        now_ns = time.monotonic_ns()
        self._tell_refusals()
        for beat in self._beats:
            beat()
        self._tally.fold()
        self._access_log.flush()
        self._fold_slow_clients()
        self._row.show_connections(guard.connections())
        words = self._row.words
        words[Field.LOOP_LAG_NS] = max(0, now_ns - self._due_ns)
        words[Field.REQUESTS] = self._tally.requests
        words[Field.BYTES_OUT] = self._tally.bytes_out
        words[Field.BEAT_NS] = now_ns
        if self._max_requests and self._tally.requests >= self._max_requests and not words[Field.ASKED_NS]:
            words[Field.ASKED_NS] = now_ns
        self._due_ns = now_ns + _INTERVAL_NS

    def _tell_refusals(self) -> None:
        """Count and log what the guard answered by itself, like any other answer."""
        told, lost = guard.refusals()
        for status, reason, (address, _), corr_id, latency_s in told:
            self._tally.record(OTHER, OTHER, status, latency_s, reason=reason)
            self._access_log.request(
                route=OTHER,
                method=OTHER,
                status=status,
                corr_id=corr_id,
                peer_addr=address,
                latency_s=latency_s,
                bytes_out=0,
                reason=reason,
            )
        for status, reason, count in lost:
            for _ in range(count):
                self._tally.record(OTHER, OTHER, status, 0.0, reason=reason)
            self._access_log.more(status, reason, count)

    def _fold_slow_clients(self) -> None:
        now = guard.counters()
        for name, (kind, op) in _SLOW.items():
            grown = now[name] - self._slow_before.get(name, 0)
            if grown:
                metrics().edge_slow_clients_total.labels(kind).inc(grown)
                if op:
                    metrics().io_timeouts_total.labels(op).inc(grown)
        self._slow_before = now

    def _step_drain(self) -> None:
        if self._drain is None:
            if not self._is_drain_wanted:
                return
            self._drain = self._begin_drain()
            self._row.set(Field.STATE, WorkerState.DRAINING)
        if self._drain.step():
            self._beat()
            self._row.set(Field.STATE, WorkerState.STOPPED)
            self._leave()
