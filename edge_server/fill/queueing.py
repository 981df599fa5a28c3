"""The queue of fills: bounded, fair between hosts, and no host holds more threads than it may.

Process      whichever runs the engine: threads put and take under one lock of this process.
Memory       at most `limit` jobs that wait.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Generic, TypeVar

from edge_server.errors import Busy, FillUnavailable

J = TypeVar("J")


class FillQueue(Generic[J]):
    """Jobs in the order of their coming for each host, hosts in turn.

    Args:
        limit: jobs that may wait.
        concurrency: jobs at once.
        per_host: jobs at once of one host.
    """

    def __init__(self, limit: int, concurrency: int, per_host: int) -> None:
        self._limit = limit
        self._concurrency = concurrency
        self._per_host = per_host
        self._changed = threading.Condition(threading.Lock())
        self._waiting: OrderedDict[str, deque[J]] = OrderedDict()
        self._running: dict[str, int] = {}
        self._is_closed = False
        self.depth = 0
        self.running = 0

    def put(self, host: str, job: J, *, is_admitted: bool = False) -> None:
        """Let a job wait for its turn.

        Args:
            is_admitted: it stands for requests that were taken already and is not refused.

        Raises:
            Busy: it could not begin at once, and as many wait as may.
            FillUnavailable: the queue is closed.
        """
        with self._changed:
            if self._is_closed:
                raise FillUnavailable("the engine is closed")
            ready = self.running + self.depth < self._concurrency and self._has_room(host)
            if self.depth >= self._limit and not ready and not is_admitted:
                raise Busy("the fill queue is full")
            self._waiting.setdefault(host, deque()).append(job)
            self.depth += 1
            # PERF: tests/perf/bench_fill.py; a thread that finds nothing to do costs a fill two switches.
            if self._next_host() is not None:
                self._changed.notify()

    def take(self) -> tuple[str, J] | None:
        """Return a host and its next job when there is one that may run; None when the queue is closed."""
        with self._changed:
            while not self._is_closed:
                host = self._next_host()
                if host is not None:
                    return host, self._begin(host)
                self._changed.wait()
            return None

    def done(self, host: str) -> None:
        """Tell that a job of the host has ended; the thread that did it takes the next one itself."""
        with self._changed:
            self.running -= 1
            self._running[host] -= 1
            if not self._running[host]:
                del self._running[host]

    def close(self) -> list[J]:
        """Wake everybody; return the jobs that waited."""
        with self._changed:
            self._is_closed = True
            left = [job for jobs in self._waiting.values() for job in jobs]
            self._waiting.clear()
            self.depth = 0
            self._changed.notify_all()
            return left

    def _has_room(self, host: str) -> bool:
        taken = self._running.get(host, 0) + len(self._waiting.get(host, ()))
        return taken < self._per_host

    def _next_host(self) -> str | None:
        if self.running >= self._concurrency:
            return None
        return next((host for host in self._waiting if self._running.get(host, 0) < self._per_host), None)

    def _begin(self, host: str) -> J:
        jobs = self._waiting[host]
        job = jobs.popleft()
        if jobs:
            self._waiting.move_to_end(host)
        else:
            del self._waiting[host]
        self.depth -= 1
        self.running += 1
        self._running[host] = self._running.get(host, 0) + 1
        return job
