"""The tick: what a worker does besides answering, about ten times a second.

Process      a worker, in the handler of SIGALRM, which bjoern's loop lets run.
Writes       this worker's scoreboard row, its metrics files, its log lines.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType

from edge_server.observe.logs import AccessLog, log
from edge_server.observe.tally import Tally
from edge_server.shm.scoreboard import Field, Row, WorkerState
from edge_server.worker.drain import Drain
from edge_server.worker.hitpath import HitPath
from edge_server.worker.server import is_in_loop

INTERVAL_S = 0.1
_INTERVAL_NS = 100_000_000


class Tick:
    """Runs the tick, and the drain once SIGTERM has come.

    Args:
        row: this worker's.
        state: the hit path's.
        begin_drain: makes the drain when it is wanted.
        leave: ends the process; called when the drain is done.
    """

    def __init__(
        self,
        row: Row,
        state: HitPath,
        tally: Tally,
        access_log: AccessLog,
        begin_drain: Callable[[], Drain],
        leave: Callable[[], None],
    ) -> None:
        self._row = row
        self._state = state
        self._tally = tally
        self._access_log = access_log
        self._begin_drain = begin_drain
        self._leave = leave
        self._is_draining_wanted = False
        self._drain: Drain | None = None
        self._due_ns = 0
        self._is_ticking = False

    def start(self) -> None:
        """Begin to tick and to listen for SIGTERM."""
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGALRM, self._on_alarm)
        signal.siginterrupt(signal.SIGALRM, False)
        self._due_ns = time.monotonic_ns() + _INTERVAL_NS
        signal.setitimer(signal.ITIMER_REAL, INTERVAL_S, INTERVAL_S)

    def _on_term(self, number: int, frame: object) -> None:
        self._is_draining_wanted = True

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        # NOTE: a handler may be interrupted by its own signal, e.g. after the process was out of CPU
        # quota, and the lock of prometheus_client, which it may hold, is not reentrant.
        if self._is_ticking:
            return
        self._is_ticking = True
        try:
            self._beat()
            self._step_drain(is_in_loop(frame))
        except Exception as error:  # bjoern's loop must never see it
            log("defect", "error", detail=repr(error))
        finally:
            self._is_ticking = False

    def _beat(self) -> None:
        now_ns = time.monotonic_ns()
        self._tally.fold()
        self._access_log.flush()
        words = self._row.words
        words[Field.LOOP_LAG_NS] = max(0, now_ns - self._due_ns)
        words[Field.REQUESTS] = self._tally.requests
        words[Field.BYTES_OUT] = self._tally.bytes_out
        words[Field.INFLIGHT] = self._state.inflight
        words[Field.BEAT_NS] = now_ns
        self._due_ns = now_ns + _INTERVAL_NS

    def _step_drain(self, is_in_loop: bool) -> None:
        if self._drain is None:
            if not self._is_draining_wanted:
                return
            self._drain = self._begin_drain()
            self._row.set(Field.STATE, WorkerState.DRAINING)
        if self._drain.step(is_in_loop):
            self._beat()
            self._row.set(Field.STATE, WorkerState.STOPPED)
            self._leave()
