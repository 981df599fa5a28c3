"""Operator drain: readiness fails closed while any operator wants it to.

Three ways: SIGUSR2 toggles, the sidecar passes on a request of the admin plane in its row
of the scoreboard, and a flag file counts for as long as it exists. Requests are served
all the while.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from edge_server.observe.logs import log
from edge_server.shm.scoreboard import Field, Row, Scoreboard


class OperatorDrain:
    """Whether the instance is to be taken out of rotation; the header's flag follows it.

    Attributes:
        file: the flag file; None for none.
    """

    def __init__(self, board: Scoreboard, file: str | None) -> None:
        self._board = board
        self.file = file
        self._is_asked = False
        self._last_request = 0
        self._was_on = False

    def toggle(self) -> None:
        """Act on SIGUSR2."""
        self._is_asked = not self._is_asked

    def refresh(self, sidecar_rows: Iterable[Row]) -> bool:
        """Look at all three; return whether readiness must fail, and log when that changes."""
        for row in sidecar_rows:
            self._heed(row.get(Field.DRAIN_REQUEST))
        has_file = self.file is not None and os.path.exists(self.file)
        is_on = self._is_asked or has_file
        if is_on != self._was_on:
            self._was_on = self._board.is_operator_drain = is_on
            log("drain", is_draining=is_on, reason="drain file" if has_file else "operator")
        return is_on

    def _heed(self, request: int) -> None:
        """Follow a request word: CLOCK_MONOTONIC with the wish in its lowest bit; 0 is none."""
        if request > self._last_request:
            self._last_request = request
            self._is_asked = bool(request & 1)
