"""The supervisor's loop: wait, act on signals, reap, heed the rows, kill the silent, fill places, publish.

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
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from edge_server.observe import logs
from edge_server.observe.logs import log
from edge_server.observe.metrics import metrics
from edge_server.roles import Roles
from edge_server.shm.reports import Reports
from edge_server.shm.scoreboard import SIDECAR_SLOT, Field, Scoreboard
from edge_server.shm.segment import segment_name
from edge_server.supervisor.building import Build, Load, build
from edge_server.supervisor.channels import Channels
from edge_server.supervisor.drain import OperatorDrain
from edge_server.supervisor.fills import Fills
from edge_server.supervisor.forking import Forking, Inheritance
from edge_server.supervisor.generations import Generation, Generations
from edge_server.supervisor.heartbeats import Heartbeats
from edge_server.supervisor.listen import Listeners
from edge_server.supervisor.notify import Notifier
from edge_server.supervisor.reload import Duties, Reload
from edge_server.supervisor.replacing import Replacer
from edge_server.supervisor.signals import STOP_SIGNALS, SignalQueue, name_of
from edge_server.supervisor.slots import Process, Slot, SlotState, Stage
from edge_server.supervisor.standing import Standing
from edge_server.supervisor.starvation import QUIET_S, Starvation
from edge_server.supervisor.stopping import GRACE_S, Stopping, close_entrance, tell
from edge_server.supervisor.watching import Watch

BUSY_PERIOD_MS = 5  # while a process starts or stops
QUIET_PERIOD_MS = 100
STARVED_TIMES = 4  # the heartbeat timeout of a process that is not let run


@dataclass(frozen=True, slots=True)
class Instance:
    """What boot has made and the loop runs with.

    Attributes:
        first: the generation that is served to begin with.
        load: reads the configuration again, from the sources that it came from.
        spread: as of `pinning.assign`.
        began_s: CLOCK_MONOTONIC when the process started.
        errands: channels between workers and sidecar.
        fills: None in offline mode.
        reports: what workers hand to the sidecar.
    """

    first: Generation
    roles: Roles
    load: Load
    listeners: Listeners
    board: Scoreboard
    metrics_dir: str
    spread: int
    began_s: float
    errands: Channels
    fills: Fills | None = None
    reports: Reports = field(default_factory=Reports)


class Supervisor:
    """Keeps the processes of one instance alive until it is told to stop."""

    def __init__(self, instance: Instance, signals: SignalQueue, notifier: Notifier) -> None:
        first, board, listeners = instance.first, instance.board, instance.listeners
        self._instance = instance
        self._signals = signals
        self._notifier = notifier
        self._board = board
        self._workers = [Slot(number, first.number) for number in range(len(first.cpus))]
        self._sidecar = Slot(SIDECAR_SLOT, first.number)
        self._slots = (self._sidecar, *self._workers)
        self._sidecar_rows = [row for row in board.rows() if row.slot == SIDECAR_SLOT]
        self._generations = Generations(first)
        given = Inheritance(
            instance.roles,
            listeners,
            board,
            instance.metrics_dir,
            instance.errands,
            instance.reports,
            instance.fills,
        )
        self._forking = Forking(given, self._generations, signals)
        self._forking.private = self._private_descriptors
        self._drain = OperatorDrain(board, first.config.admin.drain_file)
        self._standing = Standing(
            board,
            self._workers,
            self._sidecar,
            notifier,
            listeners.addresses,
            instance.began_s,
            None if instance.fills is None else instance.fills.index,
        )
        self._heartbeats = Heartbeats(board, time.monotonic())
        self._starvation = Starvation()
        duties = Duties(self._start_build, self._standing.tell_reloading, self._serve)
        replacer = Replacer(self._slots, self._asks)
        self._reload = Reload(board, self._generations, first, replacer, duties)
        self._watch = Watch(lambda body: self._helper("watcher", body))
        self._watch.follow(first.config.edge)
        self._stopping: Stopping | None = None
        self._blocked_since_s: dict[int, float] = {}
        self._killed: dict[int, str] = {}  # pid -> why
        self._last_asked_ns = 0

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
            self._kill_silent()
            if self._stopping is None:
                self._go_on()
            else:
                self._stopping.advance(time.monotonic())
            self._publish()
        log("drain", is_draining=True, reason="stopped", exit_code=self._stopping.exit_code)
        return self._stopping.exit_code

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        poll.register(self._watch.fileno(), select.POLLIN)
        builder = self._reload.build
        if builder is not None and builder.fileno() >= 0:
            poll.register(builder.fileno(), select.POLLIN)
        poll.poll(BUSY_PERIOD_MS if self._is_busy() else QUIET_PERIOD_MS)
        self._notifier.beat(time.monotonic())
        logs.flush()

    def _is_busy(self) -> bool:
        """Whether something is about to happen that only the scoreboard tells."""
        return self._stopping is not None or not all(
            slot.is_settled or slot.state is SlotState.BACKOFF for slot in self._slots
        )

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
                self._reload.ask("SIGHUP")
            elif number == signal.SIGUSR1:
                logs.reopen()
        return False

    def _begin_to_stop(self, reason: str) -> None:
        now_s = time.monotonic()
        drain_timeout_s = self._reload.serving.config.workers.drain_timeout
        self._stopping = Stopping(self._workers, self._sidecar, drain_timeout_s, now_s)
        self._board.is_stopping = True
        self._publish()
        close_entrance(self._instance.listeners)
        self._notifier.stopping()
        log("drain", is_draining=True, reason=reason)
        self._reload.stop(now_s)
        self._watch.stop()

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
            code = os.waitstatus_to_exitcode(status)
            if self._reload.saw_exit(pid, code) or self._watch.saw_exit(pid, code):
                continue
            for slot in self._slots:
                for process in slot.processes():
                    if process.pid == pid:
                        self._bury(slot, process, code)

    def _bury(self, slot: Slot, process: Process, code: int) -> None:
        now_s = time.monotonic()
        row = self._board.row(process.row)
        slot.heed(process, row.state, now_s)
        row.clear()
        was_told = process.stage is Stage.STOPPING
        killed = self._killed.pop(process.pid, None)
        if self._stopping is not None:
            self._stopping.saw_exit(process, code)
        elif not was_told or killed is not None:
            metrics().service_restarts_total.labels(slot.component).inc()
        try:
            slot.lose(process, now_s)
        finally:
            self._log_exit(slot, process, code, killed)

    def _log_exit(self, slot: Slot, process: Process, code: int, killed: str | None) -> None:
        log(
            "worker_exit",
            "info" if code == 0 else "warning",
            component=slot.component,
            slot=process.slot,
            pid=process.pid,
            lived_s=round(time.monotonic() - process.born_s, 3),
            **({"status": code} if code >= 0 else {"signal": name_of(-code)}),
            **({} if killed is None else {"reason": killed}),
            **({"retry_in_s": slot.wait_s} if slot.state is SlotState.BACKOFF else {}),
        )

    def _kill_silent(self) -> None:
        """Kill who does not beat, and who holds a place that another one waits for."""
        now_s = time.monotonic()
        workers = self._reload.serving.config.workers
        self._kill_stuck(workers.heartbeat_timeout, now_s)
        for slot in self._slots:
            if not slot.is_blocked:
                self._blocked_since_s.pop(slot.number, None)
            since_s = self._blocked_since_s.setdefault(slot.number, now_s) if slot.is_blocked else now_s
            if slot.leaving is not None and now_s - since_s > workers.drain_timeout + GRACE_S:
                self._kill(slot.leaving, "drain timeout, and a successor needs its place: killed")

    def _kill_stuck(self, timeout_s: float, now_s: float) -> None:
        processes = [process for slot in self._slots for process in slot.processes()]
        ages_s = self._heartbeats.ages_s(processes, now_s)
        quiet = [process for process, age_s in zip(processes, ages_s, strict=True) if age_s > QUIET_S]
        self._starvation.look(quiet, now_s)
        for process, age_s in zip(processes, ages_s, strict=True):
            allowed_s = timeout_s * (STARVED_TIMES if self._starvation.holds(process, now_s) else 1)
            if age_s > allowed_s:
                self._kill(process, f"no heartbeat for {allowed_s:g} s: killed")

    def _kill(self, process: Process, reason: str) -> None:
        if process.pid not in self._killed:
            self._killed[process.pid] = reason
            os.kill(process.pid, signal.SIGKILL)

    def _go_on(self) -> None:
        """Replace and reload, as far as that can go now, and let go of what nobody serves any more."""
        now_s = time.monotonic()
        if self._watch.advance(now_s):
            self._reload.ask("a pack has changed")
        self._heed_requests()
        self._reload.advance(now_s)
        for slot in self._slots:
            if slot.leaving is not None and slot.leaving.stage is Stage.SERVING:
                tell(slot.leaving)
        served = {process.generation for slot in self._slots for process in slot.processes()}
        self._generations.release(served | self._reload.numbers())

    def _heed_requests(self) -> None:
        """Reload if an operator has asked the sidecar for it."""
        asked_ns = max(row.get(Field.ASKED_NS) for row in self._sidecar_rows)
        if asked_ns > self._last_asked_ns:
            self._last_asked_ns = asked_ns
            self._reload.ask("asked for on the admin plane")

    def _asks(self, process: Process) -> bool:
        """Whether a worker has answered as many requests as it may."""
        return process.slot != SIDECAR_SLOT and self._board.row(process.row).get(Field.ASKED_NS) > 0

    def _start_build(self, number: int) -> Build:
        instance = self._instance
        name = segment_name(f"catalog-g{number}")
        live = partial(
            build,
            load=instance.load,
            number=number,
            name=name,
            slots=len(self._workers),
            spread=instance.spread,
        )
        return Build(name, lambda body: self._helper("builder", body), live, time.monotonic())

    def _helper(self, name: str, body: Callable[[], int]) -> int:
        return self._forking.helper(name, self._reload.serving, body)

    def _serve(self, generation: Generation) -> None:
        """Let the supervisor itself follow the configuration that a reload has ended with."""
        config = generation.config
        logs.begin(config)
        self._drain.file = config.admin.drain_file
        if self._stopping is None:
            self._watch.follow(config.edge)
            self._standing.tell_reloaded()

    def _private_descriptors(self) -> list[int]:
        builder = self._reload.build
        builders = [] if builder is None or builder.fileno() < 0 else [builder.fileno()]
        return [*self._watch.descriptors(), *builders]

    def _fill_places(self) -> None:
        for slot in self._slots if self._stopping is None else ():
            now_s = time.monotonic()
            letter = slot.letter_due(now_s)
            if letter is None:
                continue
            try:
                slot.take(self._forking.process(slot, letter))
            except OSError as error:
                reason = f"fork: {error}"
                log("worker_exit", "error", component=slot.component, slot=slot.number, reason=reason)
                slot.postpone(now_s)

    def _publish(self) -> None:
        is_stopping = self._stopping is not None
        is_draining = self._drain.refresh(self._sidecar_rows) or is_stopping
        self._standing.publish(self._reload.serving, is_draining=is_draining, is_stopping=is_stopping)

    def _kill_all(self) -> None:
        """End whoever is left, at once, and reap them."""
        left = [process.pid for slot in self._slots for process in slot.processes()]
        left += [*self._reload.builders(), *self._watch.pids()]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for pid in left:
            os.waitpid(pid, 0)
        self._watch.close()
