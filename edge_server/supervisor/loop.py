"""The supervisor's loop: wait, act on signals, reap, heed the rows, fill places, publish.

Single-threaded. It owns all children: nobody else waits for them, so a pid that has not
been reaped here cannot have become another process's. As the first process of a container
it reaps orphans too. SIGCHLD wakes it; the period of the poll bounds how late it notices
what the scoreboard says.
"""

from __future__ import annotations

import os
import select
import signal
import time
from dataclasses import dataclass

from edge_server.config.checks import disk_targets
from edge_server.config.schema import Config
from edge_server.observe import logs
from edge_server.observe.logs import log
from edge_server.observe.metrics import metrics
from edge_server.roles import Brief, Roles
from edge_server.shm.admission import Ledger
from edge_server.shm.catalog import Catalog
from edge_server.shm.scoreboard import SIDECAR_SLOT, Gate, Scoreboard
from edge_server.supervisor.drain import OperatorDrain
from edge_server.supervisor.gates import gate_names, is_degraded, missing_gates
from edge_server.supervisor.listen import Listeners
from edge_server.supervisor.notify import Notifier
from edge_server.supervisor.shedding import Load, Shedding
from edge_server.supervisor.signals import STOP_SIGNALS, SignalQueue, name_of
from edge_server.supervisor.slots import Process, Slot
from edge_server.supervisor.spawn import spawn
from edge_server.supervisor.stopping import Stopping, close_entrance

BUSY_PERIOD_MS = 5  # while a process starts or stops
QUIET_PERIOD_MS = 100


@dataclass(frozen=True, slots=True)
class Instance:
    """What boot has made and the loop runs with.

    Attributes:
        cpus: the CPU of each worker slot; None is not pinned.
        began_s: CLOCK_MONOTONIC when the process started.
    """

    config: Config
    roles: Roles
    listeners: Listeners
    catalog: Catalog
    board: Scoreboard
    ledger: Ledger
    metrics_dir: str
    cpus: tuple[int | None, ...]
    began_s: float


class Supervisor:
    """Keeps the processes of one instance alive until it is told to stop."""

    def __init__(self, instance: Instance, signals: SignalQueue, notifier: Notifier) -> None:
        self._instance = instance
        self._signals = signals
        self._notifier = notifier
        self._board = instance.board
        self._workers = [Slot(number, cpu) for number, cpu in enumerate(instance.cpus)]
        self._sidecar = Slot(SIDECAR_SLOT)
        self._slots = (self._sidecar, *self._workers)
        self._sidecar_rows = [row for row in self._board.rows() if row.slot == SIDECAR_SLOT]
        self._drain = OperatorDrain(self._board, instance.config.admin.drain_file)
        self._stopping: Stopping | None = None
        self._shedding = Shedding(instance.config.ingress.max_inflight)
        self._standing = _standing_gates(instance.config)
        self._is_up = False
        self._poll = select.poll()
        self._poll.register(signals.fileno(), select.POLLIN)

    def run(self) -> int:
        """Run until everybody has gone; return the exit code.

        Raises:
            StartError: a process dies again and again before it has served once.
        """
        try:
            return self._run()
        finally:
            self._kill_all()

    def _run(self) -> int:
        while self._stopping is None or not self._stopping.is_over:
            self._fill_places()
            self._wait()
            if self._act_on_signals():
                return 1
            self._heed_rows()
            self._reap()
            if self._stopping is not None:
                self._stopping.advance(time.monotonic())
            self._publish()
        log("drain", is_draining=True, reason="stopped", exit_code=self._stopping.exit_code)
        return self._stopping.exit_code

    def _wait(self) -> None:
        is_busy = self._stopping is not None or is_degraded(self._workers, self._sidecar)
        self._poll.poll(BUSY_PERIOD_MS if is_busy else QUIET_PERIOD_MS)
        self._notifier.beat(time.monotonic())
        logs.flush()

    def _act_on_signals(self) -> bool:
        """Act on what has arrived; return whether to exit at once."""
        for number in self._signals.take():
            if number in STOP_SIGNALS and self._stopping is not None:
                log("drain", "warning", reason="second stop signal: everybody is killed")
                return True
            if number in STOP_SIGNALS:
                self._begin_to_stop(name_of(number))
            elif number == signal.SIGUSR2:
                self._drain.toggle()
            elif number == signal.SIGHUP:
                reason = "this version reloads by restart; the running generation is untouched"
                log("reload", "warning", reason=reason)
            elif number == signal.SIGUSR1:
                log("reload", "debug", reason="logs go to standard output: there is no file to reopen")
        return False

    def _begin_to_stop(self, reason: str) -> None:
        self._stopping = Stopping(
            self._workers, self._sidecar, self._instance.config.workers.drain_timeout, time.monotonic()
        )
        self._board.is_stopping = True
        self._publish()
        close_entrance(self._instance.listeners)
        self._notifier.stopping()
        log("drain", is_draining=True, reason=reason)

    def _heed_rows(self) -> None:
        now_s = time.monotonic()
        for slot in self._slots:
            for process in slot.processes():
                slot.heed(process, self._board.row(process.row).state, now_s)

    def _reap(self) -> None:
        """Take note of every child that has ended, known or orphaned."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for slot in self._slots:
                for process in slot.processes():
                    if process.pid == pid:
                        self._bury(slot, process, os.waitstatus_to_exitcode(status))

    def _bury(self, slot: Slot, process: Process, code: int) -> None:
        now_s = time.monotonic()
        row = self._board.row(process.row)
        slot.heed(process, row.state, now_s)
        row.clear()
        self._log_exit(slot, process, code, now_s)
        if self._stopping is not None:
            self._stopping.saw_exit(process, code)
        else:
            metrics().service_restarts_total.labels(slot.component).inc()
        slot.lose(process, now_s)

    def _log_exit(self, slot: Slot, process: Process, code: int, now_s: float) -> None:
        log(
            "worker_exit",
            "info" if code == 0 else "warning",
            component=slot.component,
            slot=process.slot,
            pid=process.pid,
            lived_s=round(now_s - process.born_s, 3),
            status=code if code >= 0 else None,
            signal=name_of(-code) if code < 0 else None,
        )

    def _fill_places(self) -> None:
        if self._stopping is not None:
            return
        for slot in self._slots:
            now_s = time.monotonic()
            letter = slot.letter_due(now_s)
            if letter is None:
                continue
            try:
                slot.take(self._fork(slot, letter))
            except OSError as error:
                log(
                    "worker_exit",
                    "error",
                    component=slot.component,
                    slot=slot.number,
                    reason=f"fork: {error}",
                )
                slot.postpone(now_s)

    def _fork(self, slot: Slot, letter: str) -> Process:
        instance = self._instance
        row = self._board.row(self._board.row_index(slot.number, letter))
        is_sidecar = slot is self._sidecar
        brief = Brief(
            slot=slot.number,
            identity=row.identity,
            row=self._board.row_index(slot.number, letter),
            cpu=slot.cpu,
            listener=instance.listeners.admin if is_sidecar else instance.listeners.assets[slot.number],
            addresses=instance.listeners.addresses,
            metrics_dir=instance.metrics_dir,
            config=instance.config,
            catalog=instance.catalog,
            scoreboard=instance.board,
            ledger=instance.ledger,
        )
        role = instance.roles.sidecar if is_sidecar else instance.roles.worker
        pid = spawn(role, brief, self._signals, instance.listeners.all())
        return Process(slot.number, letter, brief.row, pid, time.monotonic())

    def _publish(self) -> None:
        """Tell everyone how the instance is, and the log what has changed."""
        board = self._board
        is_draining = self._drain.refresh(self._sidecar_rows) or self._stopping is not None
        before = board.missing_gates
        if self._stopping is None:
            board.is_degraded = is_degraded(self._workers, self._sidecar)
            now_s = time.monotonic()
            is_stable = self._shedding.observe(Load.of(board.rows()), now_s)
            missing = missing_gates(
                self._workers, self._sidecar, is_draining=is_draining, is_stable=is_stable, now_s=now_s
            )
            missing |= self._standing
        else:
            missing = before | Gate.NOT_DRAINING  # that processes leave is no news now
        if missing != before:
            board.missing_gates = missing
            self._tell_readiness(missing)

    def _tell_readiness(self, missing: Gate) -> None:
        if self._is_up:
            log("ready_changed", ready=int(not missing), missing=gate_names(missing))
            self._notifier.status(self._status(missing))
        elif not missing & ~(Gate.NOT_DRAINING | self._standing):
            self._is_up = True
            self._tell_up(missing)
            self._notifier.ready(self._status(missing))

    def _tell_up(self, missing: Gate) -> None:
        instance = self._instance
        log(
            "ready",
            ready=int(not missing),
            missing=gate_names(missing),
            mode=instance.config.edge.mode,
            bind_addr=instance.listeners.addresses[0],
            metrics_addr=instance.listeners.addresses[1],
            packs=[pack.name for pack in instance.catalog.packs],
            workers=len(self._workers),
            start_ms=round((time.monotonic() - instance.began_s) * 1000),
        )

    def _status(self, missing: Gate) -> str:
        if missing:
            return f"not ready: {', '.join(gate_names(missing))}"
        assets, admin = self._instance.listeners.addresses
        return f"serving http://{assets} with {len(self._workers)} workers, admin http://{admin}"

    def _kill_all(self) -> None:
        """End whoever is left, at once, and reap them."""
        left = [process.pid for slot in self._slots for process in slot.processes()]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for pid in left:
            os.waitpid(pid, 0)


def _standing_gates(config: Config) -> Gate:
    """Return the gates that cannot hold as long as this configuration does."""
    is_told_to_forget = config.security.amnesia and disk_targets(config)
    return Gate.AMNESIA_OK if is_told_to_forget else Gate(0)
