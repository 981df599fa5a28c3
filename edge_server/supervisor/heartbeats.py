"""Heartbeats: who has been silent for too long, and is therefore killed.

A process stores CLOCK_MONOTONIC in its row about ten times a second, from the loop that
answers requests; one that is stopped or stuck does not. That clock stands still while the
machine is suspended. What stops the supervisor may have stopped everybody (SIGSTOP to the
group, a frozen control group, a paused machine), so nobody is judged by beats from before
the supervisor itself last came back.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge_server.shm.scoreboard import Field, Scoreboard
from edge_server.supervisor.slots import Process, Stage

START_GRACE_S = 10.0  # for one that starts, beyond the timeout: importing and reading may take long
GAP_S = 1.0  # between two looks; more means that the supervisor did not run


class Heartbeats:
    """Watches the beats of one instance; its first look is at `now_s`, monotonic seconds."""

    def __init__(self, board: Scoreboard, now_s: float) -> None:
        self._board = board
        self._last_look_s = self._since_s = now_s

    def ages_s(self, processes: Iterable[Process], now_s: float) -> list[float]:
        """Return for how long each process has been silent; one that starts has its grace deducted."""
        if now_s - self._last_look_s > GAP_S:
            self._since_s = now_s
        self._last_look_s = now_s
        return [now_s - max(self._since_s, self._beat_s(process)) for process in processes]

    def _beat_s(self, process: Process) -> float:
        """Return when a process last beat, its birth included; with its grace if it starts."""
        row = self._board.row(process.row)
        beat_s = max(process.born_s, row.get(Field.BEAT_NS) / 1e9 if row.pid == process.pid else 0.0)
        return beat_s + (START_GRACE_S if process.stage is Stage.STARTING else 0.0)
