"""Slots and the processes in them: two small state machines, and when a place is filled again.

A slot is a numbered place. It has one process, or two: while a successor starts, or while
the one before it still drains. They have different letters, so they never write the same
metrics file or scoreboard row. An event that a table has no entry for means nothing in
that state. Knows no signal, no fork and no clock: time is an argument, monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from edge_server.errors import EdgeError
from edge_server.shm.scoreboard import LETTERS, SIDECAR_SLOT, WorkerState, identity_of

STEADY_S = 1.0  # a process that has served and lived for so long ends a run of crashes
FIRST_WAIT_S = 1.0  # before the second of a run of crashes is made good; doubled for each further one
LONGEST_WAIT_S = 30.0
MAX_DEATHS_BEFORE_SERVING = 3


class Stage(Enum):
    """Where a process is in its life, as the supervisor knows it."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"  # it takes no more by itself; its successor may come
    STOPPING = "stopping"  # it was told to drain and go
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


class SlotState(Enum):
    """How a place is."""

    EMPTY = "empty"  # nobody has it; the next process is forked at once
    BACKOFF = "backoff"  # nobody has it, after a run of crashes; not before its time
    STARTING = "starting"
    SERVING = "serving"
    REPLACING = "replacing"  # one serves and its successor starts


class SlotEvent(Enum):
    """What happens to a place; a process that drains by itself is lost to its place."""

    FORKED = "forked"
    SERVES = "serves"
    LOST = "lost"
    CRASHED = "crashed"  # lost, and the next one must wait
    SUCCESSOR_LOST = "successor lost"
    DUE = "due"


SLOT_TRANSITIONS = {
    (SlotState.EMPTY, SlotEvent.FORKED): SlotState.STARTING,
    (SlotState.EMPTY, SlotEvent.CRASHED): SlotState.BACKOFF,  # the fork failed
    (SlotState.BACKOFF, SlotEvent.DUE): SlotState.EMPTY,
    (SlotState.STARTING, SlotEvent.SERVES): SlotState.SERVING,
    (SlotState.STARTING, SlotEvent.LOST): SlotState.EMPTY,
    (SlotState.STARTING, SlotEvent.CRASHED): SlotState.BACKOFF,
    (SlotState.SERVING, SlotEvent.FORKED): SlotState.REPLACING,
    (SlotState.SERVING, SlotEvent.LOST): SlotState.EMPTY,
    (SlotState.SERVING, SlotEvent.CRASHED): SlotState.BACKOFF,
    (SlotState.REPLACING, SlotEvent.SERVES): SlotState.SERVING,
    (SlotState.REPLACING, SlotEvent.SUCCESSOR_LOST): SlotState.SERVING,
    (SlotState.REPLACING, SlotEvent.LOST): SlotState.STARTING,
    (SlotState.REPLACING, SlotEvent.CRASHED): SlotState.STARTING,
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
        generation: what it serves.
        has_served: whether it ever reached SERVING.
        has_let_go: whether it takes no new connection any more.
    """

    __slots__ = (
        *("born_s", "generation", "has_let_go", "has_served", "identity", "letter", "pid", "row"),
        *("slot", "stage"),
    )

    def __init__(
        self, slot: int, letter: str, row: int, pid: int, born_s: float, generation: int = 1
    ) -> None:
        self.slot = slot
        self.letter = letter
        self.identity = identity_of(slot, letter)
        self.row = row
        self.pid = pid
        self.born_s = born_s
        self.generation = generation
        self.stage = Stage.STARTING
        self.has_served = False
        self.has_let_go = False

    def on(self, event: Event) -> bool:
        """Let an event happen; return whether it meant anything."""
        after = TRANSITIONS.get((self.stage, event))
        if after is None:
            return False
        self.stage = after
        self.has_served |= after is Stage.SERVING
        return True

    def heed(self, told: WorkerState) -> bool:
        """Follow what the process says in its row; return whether that changed its stage."""
        self.has_let_go |= told in (WorkerState.DRAINING, WorkerState.STOPPED)
        event = _TOLD_BY_ROW.get(told)
        return event is not None and self.on(event)

    def is_steady(self, now_s: float) -> bool:
        """Whether it has served, and lived for STEADY_S."""
        return self.has_served and now_s - self.born_s >= STEADY_S


class Slot:
    """A numbered place; SIDECAR_SLOT is the sidecar's.

    Attributes:
        generation: what the next process here serves.
        state: how the place is.
        current: the process that has the place.
        coming: its successor, until that serves.
        leaving: the one before it, while that drains.
        lacking_since_s: since when nobody serves here; None while someone does.
        failures: how many processes died since `replace` before they served.
        wait_s: how long the place stays empty after the last crash; 0 for not at all.
    """

    def __init__(self, number: int, generation: int = 1) -> None:
        self.number = number
        self.generation = generation
        self.state = SlotState.EMPTY
        self.current: Process | None = None
        self.coming: Process | None = None
        self.leaving: Process | None = None
        self.lacking_since_s: float | None = float("-inf")
        self.failures = 0
        self.wait_s = 0.0
        self._wants_successor = False
        self._letter = LETTERS[0]
        self._not_before_s = float("-inf")
        self._crashes = 0  # in a row
        self._deaths_before_serving: int | None = 0  # None once it has served

    @property
    def component(self) -> str:
        """What the processes here are: ``worker`` or ``sidecar``."""
        return "sidecar" if self.number == SIDECAR_SLOT else "worker"

    @property
    def is_settled(self) -> bool:
        """Whether one process takes all new connections, and no successor of it is wanted."""
        is_alone = self.leaving is None or self.leaving.has_let_go
        return self.state is SlotState.SERVING and is_alone and not self._wants_successor

    @property
    def is_blocked(self) -> bool:
        """Whether a process is wanted that cannot be forked before `leaving` has gone."""
        is_wanted = self.current is None or (self.coming is None and self._wants_successor)
        return is_wanted and self._free_letter() is None

    def processes(self) -> Iterator[Process]:
        """Yield the processes that are alive here."""
        return (each for each in (self.leaving, self.current, self.coming) if each is not None)

    def letter_due(self, now_s: float) -> str | None:
        """Return the letter of the process to fork now; None while there is none to fork."""
        if now_s < self._not_before_s:
            return None
        self._on(SlotEvent.DUE)
        is_due = self.state is SlotState.EMPTY or (self.state is SlotState.SERVING and self._wants_successor)
        return self._free_letter() if is_due else None

    def take(self, process: Process) -> None:
        """Give the place, or the succession to it, to a process that has just been forked."""
        assert process.slot == self.number
        if self.current is None:
            self.current = process
            self._wants_successor = False
        else:
            assert self.coming is None
            self.coming = process
        self._on(SlotEvent.FORKED)
        self._letter = LETTERS[1 - LETTERS.index(process.letter)]

    def replace(self, generation: int) -> None:
        """Want a process of that generation that is not the current one.

        It is forked first, and once it serves the old one leaves. Only where the place has
        not got a generation that it was given last, taking that back wants nobody.
        """
        is_taken_back = self.generation != generation and self._current_generation == generation
        self.generation = generation
        self.failures = 0
        self._wants_successor = self.current is not None and not is_taken_back
        self._crashes = 0  # another generation may be what ends them
        self._not_before_s = float("-inf")

    def heed(self, process: Process, told: WorkerState, now_s: float) -> None:
        """Follow what a process says of itself.

        One that drains makes room for the next; a successor that serves takes the place.
        """
        process.heed(told)
        if process is self.current and process.stage is Stage.SERVING and self.state is SlotState.STARTING:
            self._on(SlotEvent.SERVES)
        elif process is self.current and process.stage is Stage.DRAINING and self.leaving is None:
            self._make_room(process)
        elif process is self.coming and process.stage is Stage.SERVING:
            self.leaving, self.current, self.coming = self.current, process, None
            self._wants_successor = False
            self._on(SlotEvent.SERVES)
        self._note(now_s)

    def lose(self, process: Process, now_s: float) -> None:
        """Forget a process that has been reaped, and decide when the next one may come.

        At once, unless two or more in a row have crashed: then after 1, 2, 4 ... 30 s.

        Raises:
            StartError: none has ever served here, and too many have tried.
        """
        was_told = process.stage is Stage.STOPPING
        process.on(Event.DIED)
        self.failures += not process.has_served and not was_told
        wait_s = 0.0 if was_told else self._wait_after(process, now_s)
        if process is self.leaving:
            self.leaving = None
        elif process is self.coming:
            self.coming = None
            self._hold_back(now_s, wait_s)
            self._on(SlotEvent.SUCCESSOR_LOST)
        else:
            self.current, self.coming = self.coming, None
            self._hold_back(now_s, wait_s)
            self._on(SlotEvent.CRASHED if wait_s else SlotEvent.LOST)
            self._wants_successor &= self._current_generation != self.generation and self.current is not None
        self._note(now_s)
        if not was_told:
            self._count_death()

    def postpone(self, now_s: float) -> None:
        """Try again later: no process could be forked. Counts as one that died at once.

        Raises:
            StartError: as `lose`.
        """
        self._hold_back(now_s, FIRST_WAIT_S)
        if self.state is SlotState.EMPTY:
            self._on(SlotEvent.CRASHED)
        self._count_death()

    @property
    def _current_generation(self) -> int | None:
        return None if self.current is None else self.current.generation

    def _on(self, event: SlotEvent) -> None:
        self.state = SLOT_TRANSITIONS.get((self.state, event), self.state)

    def _make_room(self, process: Process) -> None:
        """Let the current process leave; its successor has the place if it is there already."""
        self.leaving, self.current, self.coming = process, self.coming, None
        self._on(SlotEvent.LOST)

    def _free_letter(self) -> str | None:
        taken = {process.letter for process in self.processes()}
        other = LETTERS[1 - LETTERS.index(self._letter)]
        return next((letter for letter in (self._letter, other) if letter not in taken), None)

    def _wait_after(self, process: Process, now_s: float) -> float:
        self._crashes = 0 if process.is_steady(now_s) else self._crashes + 1
        if self._crashes <= 1:
            return 0.0
        return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (self._crashes - 2))

    def _hold_back(self, now_s: float, wait_s: float) -> None:
        self.wait_s = wait_s
        self._not_before_s = now_s + wait_s

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
