"""Spawning a child: what happens before a fork, and in the child before its role begins.

Before the fork  the handled signals are blocked and the standard streams flushed; no other
                 thread may be running.
In the child     it dies with the supervisor and is deaf to the supervisor's signals; then its
                 body runs, which for a role begins with `become`: it has a log, sits on its CPU
                 if it may, has a name, its own randomness, metrics identity and scoreboard row.
At its end       the body's return value is the exit code; nothing of the supervisor's
                 clean-up runs in a child.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

import setproctitle

from edge_server.observe import logs, metrics
from edge_server.roles import Brief
from edge_server.shm.scoreboard import SIDECAR_SLOT
from edge_server.supervisor import pinning
from edge_server.supervisor.signals import SignalQueue, held_back

EXIT_CRASHED = 1

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


def fork(body: Callable[[], int], signals: SignalQueue) -> int:
    """Fork a child that lives `body`; return its pid.

    Raises:
        OSError: the system has no room for another process.
    """
    supervisor = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    with held_back() as deliver_signals:
        pid = os.fork()
        if pid == 0:
            _live(body, supervisor, deliver_signals, signals)
    return pid


def become(brief: Brief) -> None:
    """Take the names, the CPU and the place that the brief gives."""
    logs.begin(brief.config, slot=brief.slot)
    refused = pinning.pin(brief.cpu)
    if refused:
        logs.log("start", "warning", reason=refused)
    cpu = None if refused else brief.cpu
    brief.scoreboard.row(brief.row).begin(os.getpid(), brief.catalog.generation, cpu)
    name = "sidecar" if brief.slot == SIDECAR_SLOT else f"worker {brief.slot}"
    setproctitle.setproctitle(f"svc-edge: {name}")
    random.seed()
    metrics.name_process(brief.identity)


def _live(
    body: Callable[[], int], supervisor: int, deliver_signals: Callable[[], None], signals: SignalQueue
) -> NoReturn:
    code = EXIT_CRASHED
    try:
        _die_with(supervisor)
        signals.leave_in_child()
        deliver_signals()
        code = body()
    except SystemExit as request:
        code = request.code if isinstance(request.code, int) else EXIT_CRASHED
    except BaseException:
        _tell_crash()
    finally:
        _flush()
        os._exit(code)


def _die_with(supervisor: int) -> None:
    """Have the kernel kill this child when the supervisor ends, however it ends."""
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != supervisor:  # it ended before the call
        os._exit(EXIT_CRASHED)


def _tell_crash() -> None:
    last = traceback.format_exc().strip().splitlines()[-1]
    try:
        logs.log("worker_exit", "error", reason=last, traceback=traceback.format_exc())
    except Exception:
        traceback.print_exc()


def _flush() -> None:
    try:
        logs.flush()
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:
        pass
