"""Reloading: an operator's request for it, passed on to the supervisor, and what is told of it.

Process      the sidecar. Writes ASKED_NS in its own row; reads the reload record.

The sidecar is itself replaced by a reload, so nobody waits here: who asks is told a number,
and looks at ``last_reload`` of the status until a reload with a higher one has ended.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

from edge_server.shm.reload_record import ReloadRecord, Result
from edge_server.shm.scoreboard import Field, Row


class Reloading:
    """Asks the supervisor to reload.

    Args:
        record: what the supervisor says of reloads.
        row: the sidecar's own.
    """

    def __init__(self, record: ReloadRecord, row: Row) -> None:
        self._record = record
        self._row = row

    def ask(self) -> int:
        """Ask; return the number above which a reload has seen what is on the disk now."""
        begun = self._record.read().begun
        self._row.set(Field.ASKED_NS, time.monotonic_ns())
        return begun


def last_reload(record: ReloadRecord) -> dict[str, Any]:
    """Return what the status tells: `result` is ``none``, ``ok`` or ``failed``, `at` RFC 3339 in UTC."""
    told = record.read()
    at = None
    if told.result is not Result.NONE:
        at = datetime.fromtimestamp(told.ended_unix_ns / 1e9, timezone.utc).isoformat(timespec="milliseconds")
    return {
        "result": told.result.name.lower(),
        "reason": told.reason,
        "at": at,
        "generation": told.generation,
        "number": told.ended,
        "running": told.is_running,
    }
