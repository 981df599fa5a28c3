"""The sidecar: one process beside the workers, for whoever operates them.

Process      forked by the supervisor, which has named its log and metrics; bjoern's loop in
             the main thread; hashing, reading ahead, reports and in live mode all fills in others.
Reads        scoreboard, catalog, every process's metrics files.
Writes       its own scoreboard row and metrics files, digests nobody has computed yet, and in live
             mode the fill index and the store.
Ends         with 0 after SIGTERM, once the answers it has begun are sent; killed by the
             kernel with its supervisor. No client of the asset plane notices.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from edge_server import guard
from edge_server.cas import telemetry as cas_telemetry
from edge_server.cas.store import Store
from edge_server.fill.engine import Engine
from edge_server.guard.drain import Drain
from edge_server.guard.limits import limits_of
from edge_server.observe import logs
from edge_server.roles import Brief
from edge_server.shm.fill_index import FillIndex
from edge_server.shm.scoreboard import Field, Row, WorkerState
from edge_server.sidecar import admin
from edge_server.sidecar.admin import Plane, make_app
from edge_server.sidecar.aggregate import Exposition, show_zeros
from edge_server.sidecar.authorization import Authorization, is_loopback
from edge_server.sidecar.errands import Errands
from edge_server.sidecar.fill_blocks import BlockFills
from edge_server.sidecar.fill_results import Results
from edge_server.sidecar.fill_telemetry import Telemetry, hosts_shown
from edge_server.sidecar.filling import Filling
from edge_server.sidecar.hashing import Hashing
from edge_server.sidecar.intake import Intake
from edge_server.sidecar.journal import Journal
from edge_server.sidecar.observing import observing
from edge_server.sidecar.page_files import PageFiles
from edge_server.sidecar.reloading import Reloading
from edge_server.sidecar.sinks import opener
from edge_server.sidecar.status import StatusReader, packs
from edge_server.sidecar.stored import Stored
from edge_server.sidecar.tiles import Tiles
from edge_server.sidecar.traffic import Traffic

INTAKE_S = 3.0  # for what was reported to be written out, at the end
PATIENCE_S = 1.0  # how long an idle connection is borne once a successor is there


def run(brief: Brief) -> int:
    """Serve the admin plane until SIGTERM; return the exit code."""
    show_zeros(hosts_shown(brief.config.edge.allow))
    row = brief.scoreboard.row(brief.row)
    hashing = Hashing(brief.catalog)
    audit, intake = observing(brief)
    is_traced = brief.config.otel.endpoint is not None
    journal = Journal(audit, intake.span if is_traced else None, brief.config.log.access_sample)
    filling, stored = _filling(brief, row, journal)
    traffic = Traffic(brief.metrics_dir, brief.scoreboard)
    drain_timeout_s = brief.config.workers.drain_timeout
    errands = Errands(row, brief.errands, hashing, brief.catalog.generation)
    tick = Tick(row, hashing, errands, filling, intake, traffic, lambda: _drain(brief), drain_timeout_s)
    tick.heed_signals()
    hashing.start()
    errands.start()
    intake.start()
    if filling is not None:
        filling.start()
    row.set(Field.STATE, WorkerState.SERVING)
    app = make_app(_plane(brief, row, hashing, traffic, stored))
    guard.serve(brief.listener, app, limits_of(brief.config.ingress), tick)
    return 1  # bjoern's loop only ends with the process


def _filling(brief: Brief, row: Row, journal: Journal) -> tuple[Filling | None, Stored | None]:
    """Return what fills misses, and what an operator does with it; nothing in offline mode."""
    fills, config = brief.fills, brief.config
    if fills is None:
        return None, None
    disk_path = None if config.security.amnesia else config.cas.path
    cas = config.cas
    store = Store(
        fills.index, fills.memory_folder, cas.memory_bytes, disk_path, cas.max_bytes, cas_telemetry.teller()
    )
    results = Results(store, fills.index, config.fill, config.ingress.timeout_secs, journal)
    filling = Filling(
        row,
        fills.channels,
        store,
        lambda loop: Engine(
            config, open_sink=opener(store), hooks=Telemetry(config.edge.allow, journal), loop=loop
        ),
        results,
        BlockFills(store, fills.index, config, journal),
        journal,
    )
    find = brief.catalog.find
    stored = Stored(filling, store, lambda key: find(key.encode()) >= 0, config.ingress.timeout_secs)
    return filling, stored


def _drain(brief: Brief) -> Drain:
    board = brief.scoreboard
    return Drain(brief.listener, lambda: board.is_stopping, PATIENCE_S)


def _fill_index(brief: Brief) -> FillIndex | None:
    return None if brief.fills is None else brief.fills.index


def _plane(brief: Brief, row: Row, hashing: Hashing, traffic: Traffic, stored: Stored | None = None) -> Plane:
    return Plane(
        scoreboard=brief.scoreboard,
        exposition=Exposition(brief.metrics_dir, brief.scoreboard, brief.config, _fill_index(brief)),
        status=StatusReader(brief, hashing, traffic),
        tiles=Tiles(brief.catalog, brief.config),
        page_files=PageFiles(),
        packs=packs(brief.catalog),
        drain=admin.Drain(brief.scoreboard, row),
        reloading=Reloading(brief.scoreboard.reloads, row),
        authorization=Authorization(
            brief.config.admin.token_file, is_loopback(brief.listener.getsockname()[0])
        ),
        stored=stored,
    )


class Tick:
    """What the sidecar does besides answering, and its end; called by the guard from bjoern's loop.

    Args:
        row: its own.
        hashing, errands: stopped with the process.
        filling: lets go of the store before the process ends; None in offline mode.
        intake: writes out what was reported before the process ends.
        traffic: takes its samples.
        begin_drain: makes the drain when SIGTERM has come.
        drain_timeout_s: how long answers may take to be sent after it.
    """

    def __init__(
        self,
        row: Row,
        hashing: Hashing,
        errands: Errands,
        filling: Filling | None,
        intake: Intake,
        traffic: Traffic,
        begin_drain: Callable[[], Drain],
        drain_timeout_s: float,
    ) -> None:
        self._row = row
        self._hashing = hashing
        self._errands = errands
        self._filling = filling
        self._intake = intake
        self._traffic = traffic
        self._drain_timeout_s = drain_timeout_s
        self._begin_drain = begin_drain
        self._drain: Drain | None = None
        self._deadline: float | None = None

    def heed_signals(self) -> None:
        """Drain on SIGTERM."""
        signal.signal(signal.SIGTERM, self._on_term)

    def __call__(self) -> None:
        """Do one tick."""
        states, counters = guard.connections(), guard.counters()
        self._row.show_connections(states)
        self._tell_refusals()
        words = self._row.words
        words[Field.REQUESTS] = counters["requests"]
        words[Field.BYTES_OUT] = counters["bytes_out"]
        words[Field.BEAT_NS] = time.monotonic_ns()
        logs.flush()
        if self._deadline is not None:
            self._step_drain(self._deadline)
        self._traffic.tick()  # last: a metrics file that is damaged keeps nothing else from being done

    def _step_drain(self, deadline: float) -> None:
        if self._drain is None:
            self._drain = self._begin_drain()
        has_let_go = self._filling is None or self._filling.is_over
        if (self._drain.step() and has_let_go) or time.monotonic() >= deadline:
            self._intake.stop(INTAKE_S)
            self._row.set(Field.STATE, WorkerState.STOPPED)
            os._exit(0)

    def _tell_refusals(self) -> None:
        """Log what the guard answered by itself."""
        told, lost = guard.refusals()
        for status, reason, (address, _), corr_id, latency_s in told:
            logs.log(
                "reject",
                "warning",
                route="admin",
                status=status,
                reason=reason,
                corr_id=corr_id,
                peer_addr=address,
                latency_ms=round(latency_s * 1000, 3),
            )
        for status, reason, count in lost:
            logs.log("reject", "warning", route="admin", status=status, reason=reason, more=count)

    def _on_term(self, number: int, frame: object) -> None:
        if self._deadline is None:
            self._deadline = time.monotonic() + self._drain_timeout_s
            self._row.set(Field.STATE, WorkerState.DRAINING)
            self._hashing.stop()
            self._errands.stop()
            if self._filling is not None:
                self._filling.stop()
