"""The sidecar: one process beside the workers, for whoever operates them.

Process      forked by the supervisor, which has named its log and metrics; bjoern's loop in
             the main thread, hashing in another.
Reads        scoreboard, catalog, every process's metrics files.
Writes       its own scoreboard row and metrics files, and digests nobody has computed yet.
Ends         with 0 after SIGTERM, once the answers it has begun are sent; killed by the
             kernel with its supervisor. No client of the asset plane notices.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from edge_server.observe import logs
from edge_server.roles import Brief
from edge_server.shm.scoreboard import Field, Row, WorkerState
from edge_server.sidecar.admin import Drain, Plane, WsgiApp, make_app
from edge_server.sidecar.aggregate import Exposition, show_zeros
from edge_server.sidecar.authorization import Authorization, is_loopback
from edge_server.sidecar.hashing import Hashing
from edge_server.sidecar.status import StatusReader, packs

TICK_S = 0.2


def run(brief: Brief) -> int:
    """Serve the admin plane until SIGTERM; return the exit code."""
    import bjoern

    # NOTE: bjoern installs its own handler for SIGINT over SIG_IGN; Ctrl-C is the supervisor's.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    show_zeros()
    row = brief.scoreboard.row(brief.row)
    hashing = Hashing(brief.catalog)
    app = Counted(make_app(_plane(brief, row, hashing)), row)
    Tick(row, app, hashing, brief.config.workers.drain_timeout).start()
    hashing.start()
    row.set(Field.STATE, WorkerState.SERVING)
    bjoern.server_run(brief.listener, app)
    return 1  # bjoern's loop only ends with the process


def _plane(brief: Brief, row: Row, hashing: Hashing) -> Plane:
    return Plane(
        scoreboard=brief.scoreboard,
        exposition=Exposition(brief.metrics_dir, brief.scoreboard, brief.config.edge.mode),
        status=StatusReader(brief, hashing),
        packs=packs(brief.catalog),
        drain=Drain(brief.scoreboard, row),
        authorization=Authorization(
            brief.config.admin.token_file, is_loopback(brief.listener.getsockname()[0])
        ),
    )


class Counted:
    """A WSGI app that knows how many of its answers are still being sent.

    Attributes:
        inflight: answers begun and not yet handed to the network.
    """

    def __init__(self, app: WsgiApp, row: Row) -> None:
        self.inflight = 0
        self._app = app
        self._row = row
        self._requests = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request; bjoern closes the body once it is sent or its client is gone."""
        self._requests += 1
        self._row.set(Field.REQUESTS, self._requests)
        self._add(1)
        return _Body(self._app(environ, start_response), self._done)

    def _done(self, sent: int) -> None:
        self._add(-1)
        self._row.set(Field.BYTES_OUT, self._row.get(Field.BYTES_OUT) + sent)

    def _add(self, change: int) -> None:
        self.inflight += change
        self._row.set(Field.INFLIGHT, self.inflight)


class _Body:
    """A body that says when it is over, and how long it was."""

    def __init__(self, parts: Iterable[bytes], done: Callable[[int], None]) -> None:
        self._parts = parts
        self._done = done
        self._sent = 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            self._sent += len(part)
            yield part

    def close(self) -> None:
        """Count the answer as sent."""
        self._done(self._sent)


class Tick:
    """What the sidecar does besides answering, five times a second, and its end.

    Args:
        row: its own.
        app: tells whether an answer is being sent.
        hashing: stopped with the process.
        drain_timeout_s: how long answers may take to be sent after SIGTERM.
    """

    def __init__(self, row: Row, app: Counted, hashing: Hashing, drain_timeout_s: float) -> None:
        self._row = row
        self._app = app
        self._hashing = hashing
        self._drain_timeout_s = drain_timeout_s
        self._deadline: float | None = None

    def start(self) -> None:
        """Begin to beat and to listen for SIGTERM."""
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGALRM, self._on_alarm)
        signal.siginterrupt(signal.SIGALRM, False)
        signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)

    def _on_term(self, number: int, frame: object) -> None:
        if self._deadline is None:
            self._deadline = time.monotonic() + self._drain_timeout_s
            self._row.set(Field.STATE, WorkerState.DRAINING)
            self._hashing.stop()

    def _on_alarm(self, number: int, frame: object) -> None:
        self._row.set(Field.BEAT_NS, time.monotonic_ns())
        logs.flush()
        if self._deadline is not None and (not self._app.inflight or time.monotonic() >= self._deadline):
            self._row.set(Field.STATE, WorkerState.STOPPED)
            os._exit(0)
