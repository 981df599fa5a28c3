"""Slots and the processes in them: a small state machine, and when a place is filled again.

A process moves through stages by the table below; an event without an entry means nothing
in that stage. A slot is a numbered place for one process, or two while one leaves and its
successor is there already; they have different letters, so they never write the same
metrics file or scoreboard row. Knows no signal, no fork and no clock: time is an argument,
monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from edge_server.errors import EdgeError
from edge_server.shm.scoreboard import LETTERS, SIDECAR_SLOT, WorkerState, identity_of

EARLY_S = 1.0  # a process that lives shorter died early
RETRY_AFTER_S = 1.0  # its place stays empty for so long, if the one before it died early as well
MAX_DEATHS_BEFORE_SERVING = 3


class Stage(Enum):
    """Where a process is in its life, as the supervisor knows it."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"  # it takes no more by itself; its successor may come
    STOPPING = "stopping"  # it was told to, and nobody comes after it
    GONE = "gone"


class Event(Enum):
    """What happens to a process."""

    SERVES = "serves"
    DRAINS = "drains"
    STOP = "stop"
    DIED = "died"


TRANSITIONS = {
    (Stage.STARTING, Event.SERVES): Stage.SERVING,
    (Stage.STARTING, Event.DRAINS): Stage.DRAINING,
    (Stage.STARTING, Event.STOP): Stage.STOPPING,
    (Stage.STARTING, Event.DIED): Stage.GONE,
    (Stage.SERVING, Event.DRAINS): Stage.DRAINING,
    (Stage.SERVING, Event.STOP): Stage.STOPPING,
    (Stage.SERVING, Event.DIED): Stage.GONE,
    (Stage.DRAINING, Event.STOP): Stage.STOPPING,
    (Stage.DRAINING, Event.DIED): Stage.GONE,
    (Stage.STOPPING, Event.DIED): Stage.GONE,
}

_TOLD_BY_ROW = {
    WorkerState.SERVING: Event.SERVES,
    WorkerState.DRAINING: Event.DRAINS,
    WorkerState.STOPPED: Event.DRAINS,
}


class StartError(EdgeError):
    """A process dies again and again before it has served once."""


class Process:
    """One child that has been forked and not yet reaped.

    Attributes:
        row: index of its row in the scoreboard.
        born_s: when it was forked.
        has_served: whether it ever reached SERVING.
    """

    __slots__ = ("born_s", "has_served", "identity", "letter", "pid", "row", "slot", "stage")

    def __init__(self, slot: int, letter: str, row: int, pid: int, born_s: float) -> None:
        self.slot = slot
        self.letter = letter
        self.identity = identity_of(slot, letter)
        self.row = row
        self.pid = pid
        self.born_s = born_s
        self.stage = Stage.STARTING
        self.has_served = False

    def on(self, event: Event) -> bool:
        """Let an event happen; return whether it meant anything."""
        after = TRANSITIONS.get((self.stage, event))
        if after is None:
            return False
        self.stage = after
        self.has_served |= after is Stage.SERVING
        return True

    def heed(self, told: WorkerState) -> bool:
        """Follow what the process says in its row; return whether that changed anything."""
        event = _TOLD_BY_ROW.get(told)
        return event is not None and self.on(event)


class Slot:
    """A numbered place; SIDECAR_SLOT is the sidecar's.

    Attributes:
        cpu: the CPU that its processes are pinned to; None for no pinning.
        current: the process that has the place.
        leaving: the one before it, if that still drains.
        lacking_since_s: since when nobody serves here; None while someone does.
    """

    def __init__(self, number: int, cpu: int | None = None) -> None:
        self.number = number
        self.cpu = cpu
        self.current: Process | None = None
        self.leaving: Process | None = None
        self.lacking_since_s: float | None = float("-inf")
        self._letter = LETTERS[0]
        self._not_before_s = float("-inf")
        self._early_deaths = 0  # in a row
        self._deaths_before_serving: int | None = 0  # None once it has served

    @property
    def component(self) -> str:
        """What the processes here are: ``worker`` or ``sidecar``."""
        return "sidecar" if self.number == SIDECAR_SLOT else "worker"

    def processes(self) -> Iterator[Process]:
        """Yield the processes that are alive here."""
        return (process for process in (self.leaving, self.current) if process is not None)

    def letter_due(self, now_s: float) -> str | None:
        """Return the letter of the process to fork now; None while there is none to fork."""
        is_taken = self.leaving is not None and self.leaving.letter == self._letter
        if self.current is not None or is_taken or now_s < self._not_before_s:
            return None
        return self._letter

    def take(self, process: Process) -> None:
        """Give the place to a process that has just been forked."""
        assert self.current is None
        assert process.slot == self.number
        self.current = process
        self._letter = LETTERS[1 - LETTERS.index(process.letter)]

    def heed(self, process: Process, told: WorkerState, now_s: float) -> None:
        """Follow what a process says of itself; one that drains makes room for the next."""
        process.heed(told)
        if process is self.current and process.stage is Stage.DRAINING and self.leaving is None:
            self.leaving, self.current = process, None
        self._note(now_s)

    def lose(self, process: Process, now_s: float) -> None:
        """Forget a process that has been reaped, and decide when the next one may come.

        At once, unless two or more in a row have died early.

        Raises:
            StartError: none has ever served here, and too many have tried.
        """
        was_told = process.stage is Stage.STOPPING
        process.on(Event.DIED)
        if process is self.current:
            self.current = None
        else:
            self.leaving = None
        self._note(now_s)
        self._early_deaths = self._early_deaths + 1 if now_s - process.born_s < EARLY_S else 0
        if self._early_deaths > 1:
            self._not_before_s = now_s + RETRY_AFTER_S
        if not was_told:
            self._count_death()

    def postpone(self, now_s: float) -> None:
        """Try again later: no process could be forked. Counts as one that died at once.

        Raises:
            StartError: as `lose`.
        """
        self._not_before_s = now_s + RETRY_AFTER_S
        self._count_death()

    def _note(self, now_s: float) -> None:
        if self.current is not None and self.current.stage is Stage.SERVING:
            self.lacking_since_s = None
            self._deaths_before_serving = None
        elif self.lacking_since_s is None:
            self.lacking_since_s = now_s

    def _count_death(self) -> None:
        if self._deaths_before_serving is None:
            return
        self._deaths_before_serving += 1
        if self._deaths_before_serving > MAX_DEATHS_BEFORE_SERVING:
            name = self.component if self.number == SIDECAR_SLOT else f"{self.component} {self.number}"
            times = self._deaths_before_serving
            raise StartError(f"{name} died {times} times before it served once; see the worker_exit lines")
