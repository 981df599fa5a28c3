"""Traffic: how much goes through the instance now, and how that was in the last minutes.

Process      the sidecar's main thread: its tick takes a sample a second, its answers read them.
Memory       WINDOW_S samples of totals, and HISTORY_POINTS points of a dozen numbers made of them.
Lifetime     that of the sidecar: its successor begins with an empty history and a new `epoch`.

Rates are differences of totals of the metrics files over a second or WINDOW_S, percentiles come from the
differences of the latency histogram over WINDOW_S. So they agree with what Prometheus makes of a scrape.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from edge_server.observe.metrics import ASSETS, LATENCY_BUCKETS_S
from edge_server.observe.quantiles import quantile
from edge_server.shm.scoreboard import SIDECAR_SLOT, Field, Scoreboard
from edge_server.sidecar.totals import Totals, TotalsReader

STEP_S = 1.0  # between two samples
WINDOW_S = 10  # what rates and percentiles of now are of
HISTORY_POINTS = 300
PERCENTILES = (50, 95, 99)

# Of each point of the history, in this order.
SERIES = (
    *("requests_per_s", "rejected_per_s", "bytes_out_per_s"),
    *("p50_ms", "p95_ms", "p99_ms", "hit_ratio"),
    *("fills_per_s", "coalesced_per_s", "inflight", "parked", "loop_lag_ms"),
)
_BOUNDS = tuple(str(bound) for bound in (*LATENCY_BUCKETS_S, "+Inf"))


class Sample(NamedTuple):
    """Totals of one moment. `at_s` is monotonic; latencies are counts of each bucket alone."""

    at_s: float
    requests: float
    bytes_out: float
    latencies: tuple[float, ...]
    hits: Mapping[str, float]  # by kind
    misses: Mapping[str, float]  # by cause
    rejected: Mapping[str, float]  # by reason
    attempts: float
    succeeded: float
    fill_latencies: tuple[float, ...]
    coalesced: float
    retries: float
    writes: Mapping[str, float]  # by status
    evictions: Mapping[str, float]  # by tier
    by_process: Mapping[int, int]  # requests by pid


class Traffic:
    """Takes samples and tells what they show.

    Args:
        metrics_dir: folder of the multiprocess files.
        scoreboard: for the requests of each worker, and gauges.
    """

    def __init__(self, metrics_dir: str, scoreboard: Scoreboard) -> None:
        self._totals = TotalsReader(metrics_dir)
        self._scoreboard = scoreboard
        self._samples: deque[Sample] = deque(maxlen=WINDOW_S + 1)
        self._history: deque[tuple[float | None, ...]] = deque(maxlen=HISTORY_POINTS)
        self._points = 0
        self._due_s = 0.0
        self._epoch = time.monotonic_ns()

    def tick(self) -> None:
        """Take a sample if one is due."""
        now_s = time.monotonic()
        if now_s >= self._due_s:
            # The next one is due by the clock and not by this tick, or each would come a little later.
            self._due_s = max(self._due_s + STEP_S, now_s)
            self.sample(now_s)

    def sample(self, now_s: float) -> None:
        """Take a sample."""
        taken = _sample(now_s, self._totals.read(), self._scoreboard)
        before = self._samples[-1] if self._samples else None
        self._samples.append(taken)
        if before is not None:
            self._history.append(_point(before, self._samples[0], taken, self._scoreboard))
            self._points += 1

    def now(self) -> Now:
        """Return what the last samples show; taken now, if there is none yet."""
        if not self._samples:
            self.sample(time.monotonic())
        return Now(self._samples[0], self._samples[-1])

    def history(self, after: int) -> dict[str, Any]:
        """Return the points with numbers above `after`, oldest first.

        Numbers begin at 1 with each `epoch`. Of points that are no longer kept nothing is told; who knows
        an earlier epoch forgets it and asks again from 0.
        """
        first = max(after, self._points - len(self._history), 0) + 1
        skipped = first - 1 - (self._points - len(self._history))
        points = list(islice(self._history, max(0, skipped), None))
        columns: Sequence[Sequence[float | None]] = list(zip(*points, strict=True)) or [()] * len(SERIES)
        return {
            "epoch": self._epoch,
            "step_s": STEP_S,
            "last": self._points,
            "kept": HISTORY_POINTS,
            "series": dict(zip(SERIES, columns, strict=True)),
        }


class Now:
    """What two samples, about WINDOW_S apart, show."""

    def __init__(self, before: Sample, after: Sample) -> None:
        self._before, self._after = before, after
        self._elapsed_s = after.at_s - before.at_s

    def traffic(self) -> dict[str, Any]:
        """Return `traffic` of the status."""
        before, after = self._before, self._after
        hits, misses = sum(after.hits.values()), sum(after.misses.values())
        return {
            "window_s": round(self._elapsed_s, 3),
            "requests": int(after.requests),
            "requests_per_s": self._rate(before.requests, after.requests),
            "bytes_out": int(after.bytes_out),
            "bytes_out_per_s": self._rate(before.bytes_out, after.bytes_out),
            "latency_ms": _percentiles(before.latencies, after.latencies),
            "latency_bounds_ms": [LATENCY_BUCKETS_S[0] * 1000, LATENCY_BUCKETS_S[-1] * 1000],
            "hits": _whole(after.hits),
            "misses": _whole(after.misses),
            "hit_ratio": _ratio(hits - sum(before.hits.values()), misses - sum(before.misses.values())),
            "hit_ratio_total": _ratio(hits, misses),
            "rejected_per_s": self._rate(sum(before.rejected.values()), sum(after.rejected.values())),
            "rejected": [
                {
                    "reason": reason,
                    "total": int(total),
                    "per_s": self._rate(before.rejected.get(reason, 0), total),
                }
                for reason, total in sorted(after.rejected.items(), key=lambda pair: (-pair[1], pair[0]))
                if total
            ],
        }

    def fills(self) -> dict[str, Any]:
        """Return the counted part of `fills` of the status."""
        before, after = self._before, self._after
        succeeded = after.succeeded - before.succeeded
        return {
            "attempts": int(after.attempts),
            "succeeded": int(after.succeeded),
            "per_s": self._rate(before.succeeded, after.succeeded),
            "success_ratio": _ratio(succeeded, after.attempts - before.attempts - succeeded),
            "success_ratio_total": _ratio(after.succeeded, after.attempts - after.succeeded),
            "coalesced": int(after.coalesced),
            "retries": int(after.retries),
            "latency_ms": _percentiles(before.fill_latencies, after.fill_latencies),
        }

    def writes(self) -> dict[str, int]:
        """Return bodies given to the store, by status."""
        return _whole(self._after.writes)

    def evictions(self) -> dict[str, int]:
        """Return bodies that tiers gave up, by tier."""
        return _whole(self._after.evictions)

    def process_rate(self, pid: int) -> float | None:
        """Return requests a second of a process; None for one that was not there yet."""
        before, after = self._before.by_process.get(pid), self._after.by_process.get(pid)
        return None if before is None or after is None else self._rate(before, after)

    def _rate(self, before: float, after: float) -> float | None:
        return _rate(before, after, self._elapsed_s)


def _sample(now_s: float, totals: Totals, board: Scoreboard) -> Sample:
    return Sample(
        at_s=now_s,
        requests=totals.sum("http_requests_total", route=ASSETS),
        bytes_out=totals.sum("edge_bytes_out_total", route=ASSETS),
        latencies=_buckets(totals, "request_latency_seconds_bucket", route=ASSETS),
        hits=totals.by("kind", "edge_cache_hits_total"),
        misses=totals.by("cause", "edge_cache_misses_total"),
        rejected=totals.by("reason", "rejected_total"),
        attempts=totals.sum("edge_live_fill_attempts_total"),
        succeeded=totals.sum("edge_live_fill_success_total"),
        fill_latencies=_buckets(totals, "fill_latency_seconds_bucket"),
        coalesced=totals.sum("edge_fill_coalesced_total"),
        retries=totals.sum("backoff_retries_total"),
        writes=totals.by("status", "edge_cas_writes_total"),
        evictions=totals.by("tier", "edge_cas_evictions_total"),
        by_process={row.pid: row.get(Field.REQUESTS) for row in board.rows() if row.pid},
    )


def _buckets(totals: Totals, name: str, **labels: str) -> tuple[float, ...]:
    counts = totals.by("le", name, **labels)
    return tuple(counts.get(bound, 0.0) for bound in _BOUNDS)


def _point(before: Sample, oldest: Sample, after: Sample, board: Scoreboard) -> tuple[float | None, ...]:
    """Return one point: rates of the last second, ratios and percentiles of the window."""
    last, window = Now(before, after).traffic(), Now(oldest, after).traffic()
    elapsed_s = after.at_s - before.at_s
    workers = [row for row in board.rows() if row.slot != SIDECAR_SLOT]
    values: dict[str, float | None] = {
        **{name: last[name] for name in ("requests_per_s", "rejected_per_s", "bytes_out_per_s")},
        **{f"p{each}_ms": window["latency_ms"][f"p{each}"] for each in PERCENTILES},
        "hit_ratio": window["hit_ratio"],
        "fills_per_s": _rate(before.succeeded, after.succeeded, elapsed_s),
        "coalesced_per_s": _rate(before.coalesced, after.coalesced, elapsed_s),
        "inflight": sum(row.get(Field.INFLIGHT) for row in workers),
        "parked": sum(row.get(Field.PARKED) for row in workers),
        "loop_lag_ms": round(max((row.get(Field.LOOP_LAG_NS) for row in workers), default=0) / 1e6, 3),
    }
    return tuple(values[name] for name in SERIES)


def _percentiles(before: Sequence[float], after: Sequence[float]) -> dict[str, float | None]:
    counts = [max(0.0, now - then) for then, now in zip(before, after, strict=True)]
    found = {each: quantile(each / 100, LATENCY_BUCKETS_S, counts) for each in PERCENTILES}
    return {f"p{each}": None if value is None else round(value * 1000, 3) for each, value in found.items()}


def _rate(before: float, after: float, elapsed_s: float) -> float | None:
    return round(max(0.0, after - before) / elapsed_s, 2) if elapsed_s > 0 else None


def _ratio(good: float, other: float) -> float | None:
    """Return the share of the good; None where there is nothing."""
    return round(max(0.0, good) / (max(0.0, good) + max(0.0, other)), 5) if good + other > 0 else None


def _whole(counts: Mapping[str, float]) -> dict[str, int]:
    return {name: int(count) for name, count in sorted(counts.items())}
