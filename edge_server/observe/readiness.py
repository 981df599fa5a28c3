"""Readiness as clients and operators are told it, the same on both planes.

The supervisor decides which gates hold and keeps them in the scoreboard; whoever is
asked only renders them, so that two answers of one moment never differ. Writes nothing.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from edge_server.shm.scoreboard import Gate, Scoreboard

RETRY_AFTER_S = 1

# In the order in which they are told. Written out, as IntFlag does not promise one before Python 3.11.
_NAMES = tuple((gate, str(gate.name).lower()) for gate in sorted(Gate.__members__.values()))


class Report(NamedTuple):
    """The answer to ``/readyz``: status code, JSON body, header fields."""

    status: int
    body: bytes
    headers: list[tuple[str, str]]


def missing(scoreboard: Scoreboard) -> list[str]:
    """Return the names of the gates that do not hold, e.g. ``packs_verified``."""
    gates = scoreboard.missing_gates
    return [name for gate, name in _NAMES if gate in gates]


def holding(scoreboard: Scoreboard) -> dict[str, bool]:
    """Return by name whether each gate holds."""
    gates = scoreboard.missing_gates
    return {name: gate not in gates for gate, name in _NAMES}


def report(scoreboard: Scoreboard) -> Report:
    """Return what ``/readyz`` answers: 200 when every gate holds, else 503 with Retry-After."""
    names = missing(scoreboard)
    retry_after = RETRY_AFTER_S if names else 0
    told = {
        "ready": not names,
        "degraded": bool(names) or scoreboard.is_degraded,
        "missing": names,
        "retry_after": retry_after,
        "generation": scoreboard.generation,
    }
    body = json.dumps(told).encode("ascii") + b"\n"
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    if names:
        headers.append(("Retry-After", str(retry_after)))
    return Report(503 if names else 200, body, headers)
