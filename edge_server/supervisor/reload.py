"""Reload: from the request to the generation that is served afterwards.

A builder child reads the configuration from its sources and mounts the packs; the supervisor
adopts what it has made and replaces sidecar and workers one at a time. Whatever fails leaves
the generation that runs in place: before the first successor nothing has changed, and if
successors die before they serve, those that were replaced are replaced back. A request that
comes meanwhile is remembered, and heeded afterwards.

Process      the supervisor, from its loop; nothing here waits.
Writes       the reload record, and the generation in the scoreboard's header.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from edge_server.errors import EdgeError
from edge_server.observe.logs import log
from edge_server.shm.reload_record import Result
from edge_server.shm.scoreboard import Scoreboard
from edge_server.supervisor.building import Build
from edge_server.supervisor.generations import Generation, Generations, keep_fixed, ledger_for
from edge_server.supervisor.replacing import Replacer


class Phase(Enum):
    """Where a reload is."""

    IDLE = "idle"
    BUILDING = "building"
    REPLACING = "replacing"
    RESTORING = "restoring"  # successors did not serve: back to the generation before


class Duties(NamedTuple):
    """What a reload has others do.

    Attributes:
        start_build: begins to build the generation of a number.
        begun: told that a reload begins.
        ended: told that it has ended, and which generation is served now.
    """

    start_build: Callable[[int], Build]
    begun: Callable[[], None]
    ended: Callable[[Generation], None]


class Reload:
    """All reloads of one instance, one after the other."""

    def __init__(
        self, board: Scoreboard, generations: Generations, serving: Generation, replacer: Replacer, do: Duties
    ) -> None:
        self._board = board
        self._generations = generations
        self._replacer = replacer
        self._do = do
        self._phase = Phase.IDLE
        self._serving = serving
        self._next = serving
        self._wanted = ""
        self._began_s = 0.0
        self._trouble = ""
        self._notes: list[str] = []
        self._build: Build | None = None
        self._abandoned: Build | None = None
        board.reloads.start(serving.number, time.time_ns())

    @property
    def serving(self) -> Generation:
        """The generation that is served; while one is replaced by another, the one before."""
        return self._serving

    @property
    def is_running(self) -> bool:
        """Whether a reload is under way."""
        return self._phase is not Phase.IDLE

    @property
    def build(self) -> Build | None:
        """The builder that is at work."""
        return self._build

    def numbers(self) -> set[int]:
        """Return the numbers of the generations that may still be forked with."""
        return {self._serving.number, self._next.number}

    def ask(self, reason: str) -> None:
        """Want a reload; while one runs, another one after it."""
        self._wanted = reason

    def advance(self, now_s: float) -> None:
        """Do what can be done now."""
        if self._phase is Phase.IDLE and self._wanted:
            self._begin(now_s)
        elif self._phase is Phase.BUILDING:
            self._look_at_build(now_s)
        elif self._phase is Phase.REPLACING:
            self._replace(now_s)
        elif self._replacer.advance(self._serving.number) and self._phase is Phase.RESTORING:
            self._end(Result.FAILED, self._trouble, now_s)

    def saw_exit(self, pid: int, code: int) -> bool:
        """Note that a builder was reaped; return whether `pid` was one."""
        for build in (self._build, self._abandoned):
            if build is not None and build.pid == pid:
                build.saw_exit(code)
                if build is self._abandoned:
                    build.discard()
                    self._abandoned = None
                return True
        return False

    def stop(self, now_s: float) -> None:
        """Give up what runs: the instance stops."""
        self._wanted = ""
        if self._build is not None:
            self._build.abandon()
            self._build, self._abandoned = None, self._build
        if self.is_running:
            self._end(Result.FAILED, "the instance stops", now_s)

    def builders(self) -> list[int]:
        """Return the pids of builders that have not been reaped."""
        builds = (self._build, self._abandoned)
        return [build.pid for build in builds if build is not None and not build.is_reaped]

    def _begin(self, now_s: float) -> None:
        reason, self._wanted = self._wanted, ""
        self._began_s = now_s
        self._notes = []
        self._board.reloads.begin()
        number = max(self._generations.numbers()) + 1  # one that failed may still have downloads
        log("reload", phase="begun", reason=reason, generation=number)
        self._do.begun()
        try:
            self._build = self._do.start_build(number)
        except OSError as error:
            self._end(Result.FAILED, f"no builder could be forked: {error.strerror}", now_s)
        else:
            self._phase = Phase.BUILDING

    def _look_at_build(self, now_s: float) -> None:
        build = self._build
        assert build is not None
        build.receive(now_s)
        if not build.is_over:
            return
        self._build = None
        try:
            self._next = self._adopt(build)
        except EdgeError as error:
            self._end(Result.FAILED, str(error), now_s)
            return
        self._generations.add(self._next)
        self._phase = Phase.REPLACING

    def _adopt(self, build: Build) -> Generation:
        """Return what has been built, as the next generation."""
        built, catalog = build.take()
        config, fixed = keep_fixed(built.config, self._serving.config)
        try:
            ledger = ledger_for(config, catalog.generation, self._serving)
        except EdgeError:
            catalog.unlink()
            catalog.close()
            raise
        self._notes = [f"{key} stays as it is until the next start" for key in fixed]
        for warning in built.warnings:
            log("reload", "warning", reason=warning)
        return Generation(config, catalog, built.cpus, ledger)

    def _replace(self, now_s: float) -> None:
        if self._replacer.advance(self._next.number):
            self._serving = self._next
            self._board.generation = self._serving.number
            self._end(Result.OK, "; ".join(self._notes), now_s)
        elif self._replacer.has_failed:
            self._trouble = f"generation {self._next.number} dies before it serves; see the worker_exit lines"
            log("reload", "error", phase="restoring", reason=self._trouble, generation=self._serving.number)
            self._next = self._serving
            self._replacer.give_up()
            self._phase = Phase.RESTORING

    def _end(self, result: Result, reason: str, now_s: float) -> None:
        self._phase = Phase.IDLE
        self._next = self._serving
        self._board.reloads.end(result, self._serving.number, time.time_ns(), reason)
        log(
            "reload",
            "info" if result is Result.OK else "error",
            phase="ended",
            result=result.name.lower(),
            reason=reason,
            generation=self._serving.number,
            took_ms=round((now_s - self._began_s) * 1000, 1),
        )
        self._do.ended(self._serving)
