"""The verdict: what was observed against what is promised. Pure; knows no process and no clock.

The limits are those of the runbook: after a fault readiness is steady in time, p95 is within
10 % of the baseline, rejects are back, 5xx stay below 0.1 %, no byte is wrong, and no request is
lost but those on a process that was killed. Where the baseline is a few milliseconds, 10 % of it
is less than the scheduler of a busy machine of two cores adds, whose load comes from the same
cores; `p95_floor_s` is what a p95 may be in any case: the 40 ms that a warm hit is promised.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from edge_server.drill.journal import Row
from edge_server.drill.percentiles import percentile


@dataclass(frozen=True)
class Limits:
    """What is allowed. Times are seconds, shares are of all requests."""

    ready_within_s: float = 3.0
    p95_margin: float = 0.10
    p95_floor_s: float = 0.040
    max_5xx_share: float = 0.001
    max_reject_share: float = 0.01
    min_requests: int = 20  # in each window that is judged


class Check(NamedTuple):
    """One line of the verdict; `phase` is empty for the run as a whole."""

    phase: str
    what: str
    seen: str
    allowed: str
    passed: bool


class Window(NamedTuple):
    """Requests that were due in a span of time, counted.

    Attributes:
        p50_s, p95_s, p99_s, max_s: of those that were answered; None where none was.
    """

    requests: int
    lost: int
    rejected: int
    server_errors: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    max_s: float | None

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Window:
        """Return the figures of some rows."""
        rows = list(rows)
        ordered = sorted(row.latency_s for row in rows if row.status)
        shares: list[float | None] = [None] * 4
        if ordered:
            shares = [percentile(ordered, share) for share in (0.5, 0.95, 0.99, 1.0)]
        return cls(
            len(rows),
            sum(not row.status for row in rows),
            sum(row.is_rejected for row in rows),
            sum(row.status >= 500 for row in rows),
            *shares,
        )

    def share(self, count: int) -> float:
        """Return `count` as a share of all requests; 0 where there was none."""
        return count / self.requests if self.requests else 0.0


@dataclass(frozen=True)
class Observed:
    """One fault and what followed.

    Attributes:
        name: e.g. ``kill-worker``.
        proofs: what shows that the fault took place: (words, held).
        replaced_s: from the fault until a successor served; None where nobody came, or where
            `has_victim` is false and nobody had to.
        steady_s: from the end of the fault until readiness on both planes no longer changed;
            None where it was still failing at the end.
        unexplained: lost requests that no killed process and no injected reset accounts for.
        explained, max_explained: those that one does, and how many clients can lose to it.
        after: requests in the second half of the recovery.
        bystanders: requests that a fault on some connections must not slow; None where there are none.
        skipped: why it was not done; empty where it was.
    """

    name: str
    proofs: tuple[tuple[str, bool], ...] = ()
    has_victim: bool = False
    replaced_s: float | None = None
    steady_s: float | None = None
    unexplained: int = 0
    explained: int = 0
    max_explained: int = 0
    after: Window = field(default_factory=lambda: Window.of(()))
    bystanders: Window | None = None
    skipped: str = ""

    def with_losses(self, unexplained: int, explained: int) -> Observed:
        """Return the same with these losses."""
        return replace(self, unexplained=unexplained, explained=explained)


class Whole(NamedTuple):
    """The run as a whole."""

    window: Window
    wrong: int
    unexplained: int  # lost outside of every fault
    baseline_ready: bool


def judge(baseline: Window, faults: Sequence[Observed], whole: Whole, limits: Limits) -> list[Check]:
    """Return every check, those of the run as a whole last; the drill passed if all did."""
    checks = list(judge_baseline(baseline, whole, limits))
    for fault in faults:
        if not fault.skipped:
            checks += _fault(baseline, fault, limits)
    checks += _whole(whole, limits)
    if not any(not fault.skipped for fault in faults):
        checks.append(Check("", "at least one fault was injected", "none", "1", False))
    return checks


def judge_baseline(baseline: Window, whole: Whole, limits: Limits) -> list[Check]:
    """Return what must hold before anything is broken."""
    return [
        Check("baseline", "ready on both planes throughout", _yes(whole.baseline_ready), "yes",
              whole.baseline_ready),
        _enough("baseline", baseline, limits),
        Check("baseline", "requests lost", str(baseline.lost), "0", baseline.lost == 0),
    ]  # fmt: skip


def _fault(baseline: Window, fault: Observed, limits: Limits) -> list[Check]:
    name, within_s = fault.name, limits.ready_within_s
    checks = [Check(name, f"it took place: {words}", _yes(held), "yes", held) for words, held in fault.proofs]
    if fault.has_victim:
        took_s, allowed_s = fault.replaced_s, within_s
        is_back = took_s is not None and took_s <= allowed_s
        checks.append(
            Check(name, "a successor serves", _ms(took_s, "never"), f"within {_ms(allowed_s)}", is_back)
        )
    is_steady = fault.steady_s is not None and fault.steady_s <= within_s
    checks.append(
        Check(name, "readyz steady again", _ms(fault.steady_s, "never"), f"within {_ms(within_s)}", is_steady)
    )
    checks += [_enough(name, fault.after, limits), _p95(name, "p95 is back", baseline, fault.after, limits)]
    if fault.bystanders is not None:
        checks.append(_p95(name, "p95 of clients beside the proxy", baseline, fault.bystanders, limits))
    rejected = fault.after.share(fault.after.rejected)
    allowed = max(limits.max_reject_share, baseline.share(baseline.rejected))
    checks.append(
        Check(name, "rejects are back", f"{rejected:.2%}", f"at most {allowed:.2%}", rejected <= allowed)
    )
    checks.append(
        Check(name, "requests lost without a cause", str(fault.unexplained), "0", not fault.unexplained)
    )
    if fault.max_explained or fault.explained:
        is_bounded = fault.explained <= fault.max_explained
        checks.append(
            Check(
                name,
                "requests lost to the fault itself",
                str(fault.explained),
                f"at most {fault.max_explained}",
                is_bounded,
            )
        )
    return checks


def _whole(whole: Whole, limits: Limits) -> list[Check]:
    errors = whole.window.share(whole.window.server_errors)
    return [
        Check("", "wrong answers", str(whole.wrong), "0", whole.wrong == 0),
        Check("", "requests lost outside of faults", str(whole.unexplained), "0", whole.unexplained == 0),
        Check(
            "",
            "answers with 5xx",
            f"{errors:.3%}",
            f"below {limits.max_5xx_share:.3%}",
            errors < limits.max_5xx_share,
        ),
    ]


def _p95(name: str, what: str, baseline: Window, after: Window, limits: Limits) -> Check:
    base_s = baseline.p95_s or 0.0
    allowed_s = max(base_s * (1 + limits.p95_margin), limits.p95_floor_s)
    words = f"at most {_ms(allowed_s)} (baseline {_ms(base_s)})"
    is_within = after.p95_s is not None and after.p95_s <= allowed_s
    return Check(name, what, _ms(after.p95_s, "no answer"), words, is_within)


def _enough(name: str, window: Window, limits: Limits) -> Check:
    least = limits.min_requests
    return Check(
        name, "requests to judge by", str(window.requests), f"at least {least}", window.requests >= least
    )


def _yes(held: bool) -> str:
    return "yes" if held else "no"


def _ms(seconds: float | None, absent: str = "") -> str:
    return absent if seconds is None else f"{seconds * 1000:,.1f} ms"
