"""The queue of fills: bounded, fair between hosts, and no host gets more at once than it may.

Process      whichever runs the engine: put by whoever asks, taken by its tasks, under one lock.
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
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, deque[J]] = OrderedDict()
        self._running: dict[str, int] = {}
        self._is_closed = False
        self.depth = 0
        self.running = 0

    def put(self, host: str, job: J, *, is_admitted: bool = False) -> tuple[str, J] | None:
        """Let a job wait for its turn; return what runs from now on, as `take` does: mostly this very job.

        Args:
            is_admitted: it stands for requests that were taken already and is not refused.

        Raises:
            Busy: it could not begin at once, and as many wait as may.
            FillUnavailable: the queue is closed.
        """
        with self._lock:
            if self._is_closed:
                raise FillUnavailable("the engine is closed")
            ready = self.running + self.depth < self._concurrency and self._has_room(host)
            if self.depth >= self._limit and not ready and not is_admitted:
                raise Busy("the fill queue is full")
            self._waiting.setdefault(host, deque()).append(job)
            self.depth += 1
            return self._take()

    def take(self) -> tuple[str, J] | None:
        """Return a host and its next job, which runs from now on; None if none may."""
        with self._lock:
            return None if self._is_closed else self._take()

    def take_extra(self, host: str) -> bool:
        """Take a place beside a job of a host, for a second attempt; return whether there is one."""
        with self._lock:
            is_free = self.running < self._concurrency and self._has_room(host)
            if is_free:
                self._occupy(host)
            return is_free

    def done(self, host: str) -> None:
        """Tell that a job of the host, or what was beside it, has ended."""
        with self._lock:
            self.running -= 1
            self._running[host] -= 1
            if not self._running[host]:
                del self._running[host]

    def close(self) -> list[J]:
        """Take no more, and give no more; return the jobs that waited."""
        with self._lock:
            self._is_closed = True
            left = [job for jobs in self._waiting.values() for job in jobs]
            self._waiting.clear()
            self.depth = 0
            return left

    def _has_room(self, host: str) -> bool:
        taken = self._running.get(host, 0) + len(self._waiting.get(host, ()))
        return taken < self._per_host

    def _next_host(self) -> str | None:
        if self.running >= self._concurrency:
            return None
        for host in self._waiting:
            if self._running.get(host, 0) < self._per_host:
                return host
        return None

    def _take(self) -> tuple[str, J] | None:
        host = self._next_host()
        if host is None:
            return None
        jobs = self._waiting[host]
        job = jobs.popleft()
        if jobs:
            self._waiting.move_to_end(host)
        else:
            del self._waiting[host]
        self.depth -= 1
        self._occupy(host)
        return host, job

    def _occupy(self, host: str) -> None:
        self.running += 1
        self._running[host] = self._running.get(host, 0) + 1
