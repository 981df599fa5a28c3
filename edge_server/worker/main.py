"""The worker: one process, one CPU, one bjoern loop.

Process      forked by the supervisor, which has pinned it and named its metrics.
Reads        the catalog; writes its own scoreboard row, metrics files and log lines, and
             digests that nobody has computed yet.
Ends         with 0 after SIGTERM and a drain; killed by the kernel with its supervisor.
"""

from __future__ import annotations

import os
import random
import resource
import secrets
import sys
from types import TracebackType

from edge_server import guard
from edge_server.cas.bodies import BodyFolder
from edge_server.config.schema import Config
from edge_server.errors import PackUnreadable
from edge_server.guard.drain import Drain
from edge_server.guard.limits import limits_of
from edge_server.http.cors import CorsPolicy
from edge_server.http.dates import DateClock
from edge_server.http.headers import NO_STORE, SECURITY_FIELDS
from edge_server.observe.logs import AccessLog, log
from edge_server.observe.reporting import Reporter
from edge_server.observe.tally import Tally
from edge_server.roles import Brief
from edge_server.shm.scoreboard import SIDECAR_SLOT, Field, Row, WorkerState
from edge_server.worker import memory
from edge_server.worker.admission import Admission
from edge_server.worker.app import make_app
from edge_server.worker.assets import Assets
from edge_server.worker.corr_ids import bind_corr_ids
from edge_server.worker.errands import Errands
from edge_server.worker.filled import Filled
from edge_server.worker.hitpath import HitPath, bind_hit_path
from edge_server.worker.live import Live, LiveAssets
from edge_server.worker.parking import Parking
from edge_server.worker.pressure import Pressure
from edge_server.worker.refusals import Refusals
from edge_server.worker.repeats import Repeats
from edge_server.worker.tick import Tick
from edge_server.worker.tracing import TracedAccessLog, Tracer

PREPARED_MAX = 16384  # answers an age of the cache


def run(brief: Brief) -> int:
    """Serve until told to stop; return the exit code.

    Runs after the fork, in the child, with default signal handlers.
    """
    memory.tune()
    sys.excepthook = _log_cut_body
    config = brief.config
    prefix = secrets.token_hex(8)
    state = HitPath(PREPARED_MAX)
    tally, clock = Tally(), DateClock()
    reporter = Reporter(brief.reports.sending)
    tracer = Tracer(reporter) if config.otel.endpoint is not None else None
    access_log = _access_log(config, reporter, tracer)
    cors = CorsPolicy(
        config.cors.allow_origins, config.cors.allow_methods, config.cors.allow_headers, config.cors.max_age
    )
    app = make_app(scoreboard=brief.scoreboard, cors=cors, clock=clock, tally=tally, access_log=access_log)
    row = brief.scoreboard.row(brief.row)
    admission = Admission(config.ingress, brief.scoreboard, row, brief.ledger, brief.row)
    admission.refresh()
    shared_cors = cors if config.cors.allow_origins else None
    refusals = Refusals(tally=tally, access_log=access_log, clock=clock, cors=shared_cors)
    pressure = Pressure(row, brief.ledger, brief.row, brief.listener, refusals)
    generation = brief.scoreboard.generation_word
    repeats = Repeats(
        tally,
        access_log,
        is_wanted=not admission.limits_rate,
        access_sample=config.log.access_sample,
        generation=generation,
    )
    assets = Assets(
        brief.catalog, config, brief.addresses[0], max_files=_max_files(), make_room=state.cache.grow_old
    )
    live = _live(brief, state, tracer)
    errands = Errands(
        brief.errands[brief.identity], _sidecars(brief), brief.catalog, config.ingress.timeout_secs
    )
    hit_path = bind_hit_path(
        state,
        assets if live is None else LiveAssets(assets, live),
        app,
        tally=tally,
        access_log=access_log,
        new_corr_id=bind_corr_ids(prefix),
        clock=clock,
        cors=shared_cors,
        generation=generation,
        admission=admission,
        refusals=refusals,
        may_repeat=repeats.are_on,
        errands=errands,
        live=live,
        enable_multi_range=config.http.enable_multi_range,
        empty_tile_lines=guard.header_lines([NO_STORE, *SECURITY_FIELDS]),
    )
    beats = [repeats.fold, refusals.fold, pressure.publish, admission.refresh, errands.sweep]
    if live is not None:
        beats.insert(0, live.fold)  # it has the guard forget what may be old
    if tracer is not None:
        hit_path = tracer.wrap(hit_path, errands, *([] if live is None else [live.parking]))
        beats.append(tracer.fold)
    elif config.audit.enabled:
        beats.append(reporter.flush)
    most = _jittered(config.workers.max_requests)
    tick = Tick(row, tally, access_log, lambda: _drain(brief), _leave, most, beats)
    tick.heed_signals()
    limits = limits_of(config.ingress, brief.scoreboard.slots, config.workers.warm_bytes)
    row.set(Field.STATE, WorkerState.SERVING)
    guard.serve(brief.listener, hit_path, limits, tick, prefix)
    return 1  # bjoern's loop only ends with the process


def _access_log(config: Config, reporter: Reporter, tracer: Tracer | None) -> AccessLog:
    on_reject = reporter.reject if config.audit.enabled else None
    if tracer is None:
        return AccessLog(config.log.access_sample, on_reject)
    return TracedAccessLog(config.log.access_sample, tracer, on_reject)


def _live(brief: Brief, state: HitPath, tracer: Tracer | None) -> Live | None:
    """Return what answers misses; None in offline mode."""
    fills, config = brief.fills, brief.config
    if fills is None:
        return None
    disk_path = None if config.security.amnesia else config.cas.path
    filled = Filled(
        fills.index,
        BodyFolder(fills.memory_folder, disk_path),
        config.http,
        max_files=_max_files(),
        make_room=state.cache.grow_old,
    )
    parking = Parking(fills.channels[brief.identity], _sidecars(brief))
    return Live(fills.index, filled, parking, config, str if tracer is None else tracer.outgoing)


def _sidecars(brief: Brief) -> list[Row]:
    return [row for row in brief.scoreboard.rows() if row.slot == SIDECAR_SLOT]


def _drain(brief: Brief) -> Drain:
    board = brief.scoreboard
    return Drain(brief.listener, lambda: board.is_stopping, brief.config.workers.drain_timeout)


def _jittered(max_requests: int) -> int:
    """Return up to a tenth more, so that workers that are equally busy are not recycled together."""
    return max_requests + random.randint(0, max_requests // 10)


def _max_files() -> int:
    """Return how many files prepared answers may keep open: half of all descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft // 2


def _leave() -> None:
    os._exit(0)


def _log_cut_body(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Log why a body was cut off: bjoern prints what its iterator raises, then closes the connection."""
    if isinstance(error, PackUnreadable):
        log("reject", "error", reason=error.reason, detail=error.what)
    else:
        sys.__excepthook__(kind, error, traceback)
