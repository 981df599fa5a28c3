"""The supervisor's entry point: boot in a fixed order, run the loop, leave nothing behind.

Sockets are bound before anything costs time, so that a second instance or a wrong address
is told at once; packs are read before the fork, so that children share every page of them.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import time
from collections.abc import Sequence
from contextlib import ExitStack

from edge_server.config import checks
from edge_server.config.schema import Config
from edge_server.errors import ResourceError
from edge_server.observe import log_file, logs
from edge_server.observe.logs import log
from edge_server.observe.metrics import COMPONENTS, metrics, name_process
from edge_server.roles import Roles
from edge_server.shm.admission import Ledger
from edge_server.shm.catalog import Catalog
from edge_server.shm.reports import Reports
from edge_server.shm.scoreboard import Gate, Scoreboard
from edge_server.shm.segment import SHM_DIR, claim, process_age_s, remove_own, remove_stale, segment_name
from edge_server.supervisor import listen, pinning
from edge_server.supervisor.building import Load, mounted, plan_cpus
from edge_server.supervisor.channels import Channels
from edge_server.supervisor.fills import Fills
from edge_server.supervisor.generations import Generation
from edge_server.supervisor.loop import Instance, Supervisor
from edge_server.supervisor.notify import Notifier
from edge_server.supervisor.room import require_room
from edge_server.supervisor.signals import Interrupted, SignalQueue, interruptible

IDENTITY = "supervisor"

# Imported before the fork, so that all children share their pages.
_SHARED_IMPORTS = ("edge_server.guard", "falcon", "prometheus_client")


def serve(config: Config, roles: Roles, load: Load, warnings: Sequence[str] = ()) -> int:
    """Run an instance until it is told to stop; return the exit code of the process.

    Needs the main thread, and no other thread. Signals, environment and limits of the
    process are its own meanwhile; shared memory and metrics folder are gone afterwards.

    Args:
        load: reads the configuration again, from the sources that `config` came from.
        warnings: about the configuration, for the log.

    Returns:
        0 if it drained in time, 1 if it did not or a second signal cut it short.

    Raises:
        EdgeError: it cannot start; `exit_code` and text say why.
    """
    began_s = time.monotonic() - process_age_s()
    log_file.check(checks.log_file(config))
    logs.begin(config)
    with ExitStack() as undo:
        signals = SignalQueue()
        undo.callback(signals.restore)
        signals.install()
        undo.callback(remove_own)
        undo.callback(os.close, claim())
        try:
            with interruptible():
                instance = _boot(config, roles, load, warnings, began_s, undo)
        except Interrupted as stopped:
            log("drain", is_draining=True, reason=f"{stopped} before anything was served")
            return 0
        return Supervisor(instance, signals, Notifier(os.environ)).run()


def _boot(
    config: Config, roles: Roles, load: Load, warnings: Sequence[str], began_s: float, undo: ExitStack
) -> Instance:
    """Make everything that the children inherit."""
    _raise_file_limit()
    stale = remove_stale()
    spread = hash(segment_name("spread"))
    slots = pinning.worker_count(config.workers.count, pinning.usable_cpus())
    cpus = tuple(plan_cpus(config, slots, spread))
    listeners = listen.bind_all(config.bind_addr, config.metrics_addr, slots)
    undo.callback(listeners.close)
    metrics_dir = _make_metrics_dir()
    _tell_start(config, listeners, slots, [*warnings, *(f"removed stale {name}" for name in stale)])
    require_room(config)
    catalog = Catalog.build(mounted(config), generation=1, name=segment_name("catalog-g1"))
    require_room(config)
    board = Scoreboard.create(slots, segment_name("scoreboard"))
    board.generation = catalog.generation
    ledger = Ledger.create(slots, segment_name("admission-g1"))
    errands = Channels(slots)
    undo.callback(errands.close)
    fills = Fills.make(config, slots) if config.edge.mode == "live" else None
    if fills is not None:
        undo.callback(fills.channels.close)
    board.missing_gates = Gate.WORKERS_UP | Gate.SIDECAR_UP
    _import_for_children()
    _begin_to_count()
    gc.collect()
    gc.freeze()
    gc.enable()
    first = Generation(config, catalog, cpus, ledger)
    return Instance(
        first, roles, load, listeners, board, metrics_dir, spread, began_s, errands, fills, Reports()
    )


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _make_metrics_dir() -> str:
    """Make the folder of the metrics files, and name this process in it, before any metric."""
    path = SHM_DIR / segment_name("metrics")
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise ResourceError(f"cannot make {path}: {error.strerror}; mount a tmpfs at {SHM_DIR}") from error
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(path)
    name_process(IDENTITY)
    return str(path)


def _tell_start(config: Config, listeners: listen.Listeners, workers: int, warnings: Sequence[str]) -> None:
    log(
        "start",
        bind_addr=listeners.addresses[0],
        metrics_addr=listeners.addresses[1],
        packs=[source.path for source in config.edge.packs],
        workers=workers,
    )
    for warning in warnings:
        log("start", "warning", reason=warning)


def _import_for_children() -> None:
    for name in _SHARED_IMPORTS:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ResourceError(
                f"cannot import {name}: {error}; svc-edge doctor says what is missing"
            ) from error


def _begin_to_count() -> None:
    """Show the restarts as 0 from the first scrape on, so that a rate sees the first one."""
    for component in COMPONENTS:
        metrics().service_restarts_total.labels(component)
