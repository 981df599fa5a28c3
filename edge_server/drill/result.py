"""What is asked of a drill, and everything that it found: what a report is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_server.config.addresses import Address
from edge_server.drill.journal import Journal
from edge_server.drill.judge import Check, Limits, Observed, Window
from edge_server.drill.plan import FAULTS
from edge_server.drill.proxy import Trouble
from edge_server.drill.targets import Object


@dataclass(frozen=True)
class Settings:
    """What is asked of a drill.

    Attributes:
        seconds: for baseline, faults and recoveries together.
        rate: requests a second over all clients.
        paths: below ``/edge/assets/``, besides what archives of tiles list.
        through: where clients connect instead of to the asset plane itself.
    """

    seconds: float = 60.0
    connections: int = 8
    rate: float = 200.0
    faults: Sequence[str] = FAULTS
    paths: Sequence[str] = ()
    through: Address | None = None
    trouble: Trouble = field(default_factory=lambda: Trouble(0.050, 0.010, 0.01))
    balloon_bytes: int = 64 << 20
    limits: Limits = field(default_factory=Limits)


@dataclass
class Done:
    """A fault in the report: what was observed, and the figures of its two spans.

    Attributes:
        began_s, cleared_s, stop_s: seconds since the start of the load.
        during, after: requests due while it lasted, and in the whole recovery.
    """

    observed: Observed
    began_s: float = 0.0
    cleared_s: float = 0.0
    stop_s: float = 0.0
    during: Window = field(default_factory=lambda: Window.of(()))
    after: Window = field(default_factory=lambda: Window.of(()))


@dataclass
class Result:
    """Everything a report tells. Times are seconds since the load began, `started_s` is wall time."""

    started_s: float
    settings: Settings
    status: dict[str, Any]
    objects: list[Object]
    problems: list[str]
    journal: Journal
    origin_s: float = 0.0  # monotonic seconds of the load's begin
    length_s: float = 0.0
    baseline_ready: bool = False
    baseline: Window = field(default_factory=lambda: Window.of(()))
    faults: list[Done] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    late_s: float = 0.0
    before: bytes = b""
    after: bytes = b""

    @property
    def passed(self) -> bool:
        """Whether every check held."""
        return bool(self.checks) and all(check.passed for check in self.checks)
