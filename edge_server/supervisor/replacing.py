"""Replacing: processes make way for successors, one place at a time, and no request is lost.

The successor starts on the same listening socket while the old process serves. Once it
serves too, the old one is told to drain, leaves the queue to it, and goes when its last
connection has. The next place has its turn as soon as a successor serves: nobody waits for
downloads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_server.supervisor.slots import Process, Slot

MAX_FAILURES = 3  # successors in a row that die before they serve


class Replacer:
    """Brings all places to one generation, and processes that ask for it to an end.

    Args:
        slots: in the order in which they have their turn.
        asks: whether a process wants to be replaced.
    """

    def __init__(self, slots: Sequence[Slot], asks: Callable[[Process], bool]) -> None:
        self._slots = slots
        self._asks = asks
        self._turn: Slot | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a place has its turn."""
        return self._turn is not None

    @property
    def has_failed(self) -> bool:
        """Whether the place that has its turn cannot be brought to serve."""
        return self._turn is not None and self._turn.failures >= MAX_FAILURES

    def give_up(self) -> None:
        """End the turn of the place that has it; `advance` then goes on with what it is told."""
        self._turn = None

    def advance(self, generation: int) -> bool:
        """Go on towards `generation`; return whether every place serves it."""
        if self._turn is not None and self._turn.is_settled:
            self._turn = None
        if self._turn is None:
            self._begin_turn(generation)
        return self._turn is None

    def _begin_turn(self, generation: int) -> None:
        for slot in self._slots:
            if slot.generation != generation or (slot.is_settled and self._is_unwanted(slot, generation)):
                slot.replace(generation)
                self._turn = slot
                return

    def _is_unwanted(self, slot: Slot, generation: int) -> bool:
        process = slot.current
        return process is not None and (process.generation != generation or self._asks(process))
