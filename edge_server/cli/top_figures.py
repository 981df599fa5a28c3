"""The figures of `svc-edge top`: what looks at an instance, one a second, say of the last seconds.

Arithmetic on what ``/api/status`` and ``/metrics`` have answered; reads nothing but the CPU time of
processes, where those are on this machine. Rates are of the last look, percentiles and the hit ratio of the
last `WINDOW_S`, so that a quiet second does not make them jump.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import psutil

from edge_server.cli import local_process
from edge_server.observe.metrics import ASSETS
from edge_server.observe.scrapes import Interval, Sample, by_label, total

KEPT = 61  # looks: the minute of the sparklines
WINDOW_S = 10.0
SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
TRENDS = ("requests", "p95_ms", "rejects", "fills")

Status = Mapping[str, Any]


class Look(NamedTuple):
    """What an instance told at one moment; `at_s` is monotonic, `cpu_s` the CPU time by pid."""

    at_s: float
    status: Status
    samples: Mapping[Sample, float]
    cpu_s: Mapping[int, float]


@dataclass(frozen=True)
class Worker:
    """One process that answers; rates a second, None where there is nothing to compare with."""

    slot: int
    identity: str
    pid: int
    state: str
    cpu_percent: float | None
    requests: float | None
    bytes: float | None
    inflight: int
    parked: int
    loop_lag_ms: float


@dataclass(frozen=True)
class Figures:
    """An instance over the last seconds: rates a second, latencies in ms, sizes in bytes.

    Attributes:
        requests: by class of status, e.g. ``2xx``.
        latency_ms: by name of percentile; None where nothing was answered.
        hit_ratio: of what was looked up, answered without asking an origin.
        trends: by name of `TRENDS`, one value a look of the last minute, the oldest first.
    """

    ready: bool
    missing: list[str]
    requests: dict[str, float]
    latency_ms: dict[str, float | None]
    hit_ratio: float | None
    rejects: dict[str, float]
    fills: float
    bytes_out: float
    inflight: float
    cas_bytes: dict[str, float]
    workers: list[Worker]
    trends: dict[str, list[float]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return asdict(self)


class History:
    """The looks of the last minute, and the figures that they give."""

    def __init__(self) -> None:
        self._looks: deque[Look] = deque(maxlen=KEPT)
        self._trends: dict[str, deque[float]] = {name: deque(maxlen=KEPT - 1) for name in TRENDS}

    def add(self, look: Look) -> Figures:
        """Take a look, later than those before, and return the figures."""
        last = self._looks[-1] if self._looks else None
        self._looks.append(look)
        recent = None if last is None else _between(last, look)
        figures = _figures(look, last, recent, self._window())
        if recent is not None:
            self._note(figures, recent)
        return figures

    def _window(self) -> Interval | None:
        now = self._looks[-1]
        first = next(look for look in self._looks if now.at_s - look.at_s <= WINDOW_S)
        if first is now and len(self._looks) > 1:
            first = self._looks[-2]
        return None if first is now else _between(first, now)

    def _note(self, figures: Figures, recent: Interval) -> None:
        p95_s = recent.quantile(SHARES["p95"], "request_latency_seconds", route=ASSETS)
        values = (
            sum(figures.requests.values()),
            (p95_s or 0.0) * 1000,
            sum(figures.rejects.values()),
            figures.fills,
        )
        for name, value in zip(TRENDS, values, strict=True):
            self._trends[name].append(value)
            figures.trends[name] = list(self._trends[name])


def cpu_seconds(pids: Iterable[int]) -> dict[int, float]:
    """Return the CPU time of those that are processes of this service on this machine, in seconds."""
    found: dict[int, float] = {}
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = local_process.find(pid)
            if process is not None:
                times = process.cpu_times()
                found[pid] = times.user + times.system
    return found


def _between(before: Look, after: Look) -> Interval:
    return Interval(before.samples, after.samples, max(1e-3, after.at_s - before.at_s))


def _figures(look: Look, last: Look | None, recent: Interval | None, window: Interval | None) -> Figures:
    gates = look.status.get("gates", {})
    parked = by_label(look.samples, "edge_parked", "slot")
    return Figures(
        ready=look.status.get("ready") is True,
        missing=[name for name, holds in gates.items() if not holds],
        requests={} if recent is None else _by_class(recent),
        latency_ms=_latencies(window),
        hit_ratio=None if window is None else _hit_ratio(window),
        rejects={} if recent is None else recent.rates("rejected_total", "reason"),
        fills=0.0 if recent is None else recent.rate("edge_live_fill_success_total"),
        bytes_out=0.0 if recent is None else recent.rate("edge_bytes_out_total"),
        inflight=total(look.samples, "edge_inflight", endpoint="assets"),
        cas_bytes=by_label(look.samples, "edge_cas_bytes", "tier"),
        workers=[_worker(row, look, last, parked) for row in look.status.get("workers", ())],
    )


def _by_class(recent: Interval) -> dict[str, float]:
    classes: dict[str, float] = {}
    for status, rate in sorted(recent.rates("http_requests_total", "status").items()):
        name = f"{status[:1]}xx"
        classes[name] = classes.get(name, 0.0) + rate
    return classes


def _latencies(window: Interval | None) -> dict[str, float | None]:
    if window is None:
        return dict.fromkeys(SHARES)
    found = {
        name: window.quantile(share, "request_latency_seconds", route=ASSETS)
        for name, share in SHARES.items()
    }
    return {name: None if value is None else value * 1000 for name, value in found.items()}


def _hit_ratio(window: Interval) -> float | None:
    hits, misses = window.increase("edge_cache_hits_total"), window.increase("edge_cache_misses_total")
    return hits / (hits + misses) if hits + misses else None


def _worker(row: Status, look: Look, last: Look | None, parked: Mapping[str, float]) -> Worker:
    pid = row.get("pid", 0)
    earlier: Status = {}
    seconds = 0.0
    if last is not None:
        earlier = next((each for each in last.status.get("workers", ()) if each.get("pid") == pid), {})
        seconds = look.at_s - last.at_s

    def rate(now: float | None, before: float | None) -> float | None:
        return None if now is None or before is None or seconds <= 0 else max(0.0, now - before) / seconds

    used = rate(look.cpu_s.get(pid), None if last is None else last.cpu_s.get(pid))
    return Worker(
        slot=row.get("slot", -1),
        identity=str(row.get("identity", "?")),
        pid=pid,
        state=str(row.get("state", "?")),
        cpu_percent=None if used is None else used * 100,
        requests=rate(row.get("requests"), earlier.get("requests")),
        bytes=rate(row.get("bytes_out"), earlier.get("bytes_out")),
        inflight=row.get("inflight", 0),
        parked=int(parked.get(str(row.get("slot")), 0)),
        loop_lag_ms=row.get("loop_lag_ms", 0.0),
    )
