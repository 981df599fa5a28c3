"""The tally: what a worker counts while it answers, in plain numbers.

Process      one a worker, written by its single thread; `fold` may run in a signal handler.
Memory       a few dozen small objects, one for each kind of outcome seen.
Consistency  numbers only grow and `fold` adds what grew since the last one, so a fold that
             interrupts an increment loses and doubles nothing.
Lifetime     a worker's; a worker that is killed takes at most one tick of counts with it.

PERF: tests/perf/bench_tally.py. An outcome counts a request in a fiftieth of prometheus_client's time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edge_server.observe.metrics import ASSETS, LATENCY_BUCKETS_S, METHODS, OTHER, ROUTES, metrics

if TYPE_CHECKING:
    from prometheus_client import Counter

FAST_S = LATENCY_BUCKETS_S[0]


class Outcome:
    """How a request can end: a route, a method, a status, and what it was answered from.

    A hot path holds the outcomes that it knows and counts a request inline::

        if latency_s <= FAST_S:
            outcome.fast += 1
        else:
            outcome.slow(latency_s)
        outcome.latency_s += latency_s
        outcome.bytes_out += length

    The number of requests is that of latencies counted, so one of the first two is due.

    Attributes:
        fast: requests that took at most FAST_S.
        latency_s: sum of all latencies.
        bytes_out, bytes_in: bytes of answer and request bodies.
    """

    __slots__ = ("_folded", "_slow", "_targets", "bytes_in", "bytes_out", "fast", "key", "latency_s")

    def __init__(self, route: str, method: str, status: int, hit: str) -> None:
        self.key = (route, method, status, hit)
        self.fast = 0
        self.latency_s = 0.0
        self.bytes_out = 0
        self.bytes_in = 0
        self._slow = [0] * len(LATENCY_BUCKETS_S)
        self._folded: tuple[float, ...] = (0,) * (len(LATENCY_BUCKETS_S) + 4)
        self._targets: _Targets | None = None

    def slow(self, latency_s: float) -> None:
        """Count a request that took more than FAST_S."""
        self._slow[bisect_left(LATENCY_BUCKETS_S, latency_s) - 1] += 1

    def add(self, within: Sequence[int], latency_s: float, bytes_out: int) -> None:
        """Count many requests at once.

        Args:
            within: how many took up to each of LATENCY_BUCKETS_S and no less, then how many longer.
        """
        self.fast += within[0]
        for index, count in enumerate(within[1:]):
            self._slow[index] += count
        self.latency_s += latency_s
        self.bytes_out += bytes_out

    @property
    def requests(self) -> int:
        """How many ended this way."""
        return self.fast + sum(self._slow)

    def fold(self) -> None:
        """Add what grew since the last call to this process's metrics."""
        now = (self.fast, *self._slow, self.latency_s, self.bytes_out, self.bytes_in)
        if now != self._folded:
            grown = [new - old for new, old in zip(now, self._folded, strict=True)]
            self._folded = now
            if self._targets is None:
                self._targets = _Targets(*self.key)
            self._targets.add(grown[:-3], *grown[-3:])


class _Targets:
    """The children of prometheus_client that one outcome adds to, looked up once."""

    def __init__(self, route: str, method: str, status: int, hit: str) -> None:
        declared = metrics()
        self._counts: list[Counter] = [declared.http_requests_total.labels(route, method, str(status))]
        if hit:
            is_partial = "true" if status == 206 else "false"
            self._counts.append(declared.edge_cache_hits_total.labels(hit, is_partial))
        if status in (206, 416) and route == ASSETS:
            self._counts.append(declared.edge_range_requests_total.labels(str(status)))
        self._histogram: Any = declared.request_latency_seconds.labels(route, method)
        self._bytes_out = declared.edge_bytes_out_total.labels(route)
        self._bytes_in = declared.edge_bytes_in_total.labels(route)

    def add(self, buckets: list[float], latency_s: float, bytes_out: float, bytes_in: float) -> None:
        requests = sum(buckets)
        for counter in self._counts:
            counter.inc(requests)
        # NOTE: prometheus_client has no public way to add many observations at once.
        for cell, grown in zip(self._histogram._buckets, buckets, strict=True):
            if grown:
                cell.inc(grown)
        self._histogram._sum.inc(latency_s)
        if bytes_out:
            self._bytes_out.inc(bytes_out)
        if bytes_in:
            self._bytes_in.inc(bytes_in)


class Tally:
    """All outcomes and rejections of one worker.

    Attributes:
        requests: requests counted up to the last fold.
        bytes_out: body bytes counted up to the last fold.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.bytes_out = 0
        self._outcomes: dict[tuple[str, str, int, str], Outcome] = {}
        self._rejections: dict[str, int] = {}
        self._folded_rejections: dict[str, int] = {}

    def outcome(self, route: str, method: str, status: int, hit: str = "") -> Outcome:
        """Return the one outcome of this kind.

        Args:
            route: one of ROUTES; another is counted as ``other``.
            method: one of METHODS; another is counted as ``other``.
            status: HTTP status code.
            hit: what the answer came from, ``pack``; empty where it was no hit.
        """
        key = (
            route if route in ROUTES else OTHER,
            method if method in METHODS else OTHER,
            status,
            hit,
        )
        found = self._outcomes.get(key)
        if found is None:
            found = self._outcomes[key] = Outcome(*key)
        return found

    def record(
        self,
        route: str,
        method: str,
        status: int,
        latency_s: float,
        bytes_out: int = 0,
        *,
        bytes_in: int = 0,
        reason: str = "",
        hit: str = "",
    ) -> None:
        """Count one request; `reason` is that of a refused one. For paths that are not hot."""
        outcome = self.outcome(route, method, status, hit)
        if latency_s <= FAST_S:
            outcome.fast += 1
        else:
            outcome.slow(latency_s)
        outcome.latency_s += latency_s
        outcome.bytes_out += bytes_out
        outcome.bytes_in += bytes_in
        if reason:
            self._rejections[reason] = self._rejections.get(reason, 0) + 1

    def fold(self) -> None:
        """Write what was counted since the last call through to the metrics files."""
        outcomes = list(self._outcomes.values())
        for outcome in outcomes:
            outcome.fold()
        for reason, count in list(self._rejections.items()):
            metrics().rejected_total.labels(reason).inc(count - self._folded_rejections.get(reason, 0))
            self._folded_rejections[reason] = count
        self.requests = sum(outcome.requests for outcome in outcomes)
        self.bytes_out = sum(outcome.bytes_out for outcome in outcomes)
