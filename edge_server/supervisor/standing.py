"""How the instance stands: readiness for everyone who asks, and what log and service manager hear.

Process      the supervisor, once a turn of its loop.
Writes       gates and degradation in the scoreboard's header.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from edge_server.config.checks import disk_targets
from edge_server.config.schema import Config
from edge_server.observe.logs import log
from edge_server.shm.fill_index import DiskState, FillIndex, Word
from edge_server.shm.scoreboard import Gate, Scoreboard
from edge_server.supervisor.gates import gate_names, is_degraded, missing_gates
from edge_server.supervisor.generations import Generation
from edge_server.supervisor.notify import Notifier
from edge_server.supervisor.shedding import Load, Shedding
from edge_server.supervisor.slots import Slot


class Standing:
    """Publishes how the instance is, and tells what has changed.

    Args:
        began_s: CLOCK_MONOTONIC when the process started.
        fill_index: tells how the disk tier is; None in offline mode.
    """

    def __init__(
        self,
        board: Scoreboard,
        workers: Sequence[Slot],
        sidecar: Slot,
        notifier: Notifier,
        addresses: tuple[str, str],
        began_s: float,
        fill_index: FillIndex | None = None,
    ) -> None:
        self._board = board
        self._workers = workers
        self._sidecar = sidecar
        self._notifier = notifier
        self._addresses = addresses
        self._began_s = began_s
        self._fill_index = fill_index
        self._shedding = Shedding()
        self._is_up = False

    def publish(self, generation: Generation, *, is_draining: bool, is_stopping: bool) -> None:
        """Tell everyone how the instance is, and the log what has changed."""
        board = self._board
        before = board.missing_gates
        standing = standing_gates(generation.config)
        if is_stopping:
            missing = before | Gate.NOT_DRAINING  # that processes leave is no news now
        else:
            board.is_degraded = is_degraded(self._workers, self._sidecar)
            now_s = time.monotonic()
            self._shedding.max_inflight = generation.config.ingress.max_inflight
            is_stable = self._shedding.observe(Load.of(board.rows()), now_s)
            missing = standing | missing_gates(
                self._workers,
                self._sidecar,
                is_draining=is_draining,
                is_stable=is_stable,
                now_s=now_s,
                is_disk_usable=self._is_disk_usable(),
            )
        if missing != before:
            board.missing_gates = missing
            self._tell(missing, standing, generation)

    def _is_disk_usable(self) -> bool:
        index = self._fill_index
        return index is None or index.get(Word.DISK_STATE) != DiskState.UNUSABLE

    def tell_reloading(self) -> None:
        """Tell the service manager that a reload has begun."""
        if self._is_up:
            self._notifier.reloading("reloading", time.monotonic())

    def tell_reloaded(self) -> None:
        """Tell the service manager that it is over."""
        if self._is_up:
            self._notifier.ready(self._status(self._board.missing_gates))

    def _tell(self, missing: Gate, standing: Gate, generation: Generation) -> None:
        if self._is_up:
            log("ready_changed", ready=int(not missing), missing=gate_names(missing))
            self._notifier.status(self._status(missing))
        elif not missing & ~(Gate.NOT_DRAINING | standing):
            self._is_up = True
            self._tell_up(missing, generation)
            self._notifier.ready(self._status(missing))

    def _tell_up(self, missing: Gate, generation: Generation) -> None:
        assets, admin = self._addresses
        log(
            "ready",
            ready=int(not missing),
            missing=gate_names(missing),
            mode=generation.config.edge.mode,
            bind_addr=assets,
            metrics_addr=admin,
            packs=[pack.name for pack in generation.catalog.packs],
            workers=len(self._workers),
            start_ms=round((time.monotonic() - self._began_s) * 1000),
        )

    def _status(self, missing: Gate) -> str:
        if missing:
            return f"not ready: {', '.join(gate_names(missing))}"
        assets, admin = self._addresses
        return f"serving http://{assets} with {len(self._workers)} workers, admin http://{admin}"


def standing_gates(config: Config) -> Gate:
    """Return the gates that cannot hold as long as this configuration does."""
    missing = Gate(0)
    if config.security.amnesia and disk_targets(config):
        missing |= Gate.AMNESIA_OK
    if config.edge.mode == "live" and not config.edge.allow:
        missing |= Gate.ALLOW_LIST  # a reload with another mode, which only a restart takes over
    return missing
