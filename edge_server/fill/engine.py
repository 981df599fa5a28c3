"""The fill engine: requests in, one fetch for all who want the same thing, an answer for each of them.

Process      whichever runs it (the sidecar); a bounded pool of threads, begun when they are needed.
Memory       at most `fill.queue` jobs that wait and `fill.concurrency` that run.
Consistency  a `done` is called exactly once if and only if `submit` returned True, from a thread of the
             engine, whatever fails; that of the first in a group returns before the others are called.
Lifetime     until `close`, after which every `done` has been called.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Hashable
from typing import NamedTuple

from edge_server.config.schema import Config
from edge_server.errors import FillTimeout, FillUnavailable, InternalError, Rejection
from edge_server.fill.address_guard import AddressGuard, Resolver, system_resolver
from edge_server.fill.breaker import Breaker
from edge_server.fill.cache_control import request_directives
from edge_server.fill.coalesce import Group, Groups, NotNeeded
from edge_server.fill.connections import Connections, ConnectTimeout
from edge_server.fill.deadline import Cancellation, Deadline
from edge_server.fill.fetch import Answer, Fetcher, StatusFailure
from edge_server.fill.hedging import first_of
from edge_server.fill.hooks import Hooks
from edge_server.fill.origins import Origins, Target
from edge_server.fill.queueing import FillQueue
from edge_server.fill.receiving import OpenSink, Wanted
from edge_server.fill.request import NO_DIGEST, Done, Fetched, Request
from edge_server.fill.retry import is_transient, wait_ms
from edge_server.fill.vary import variant_of, varying

__all__ = ["Done", "Engine", "Fetched", "Hooks", "Request"]

# Whoever joins a fetch lets it go on until their own budget ends, but not for ever.
MAX_EXTENSION_S = 60.0
_CLOSING_S = 5.0
_MAX_BREAKERS = 1024


class _Waiter(NamedTuple):
    request: Request
    done: Done


class _Job:
    """A fetch for a group; `deadline` moves when somebody joins whose budget is longer."""

    __slots__ = ("deadline", "group", "latest_s", "request", "target")

    def __init__(self, target: Target, request: Request) -> None:
        self.target = target
        self.request = request
        self.deadline = Deadline(request.deadline_s)
        self.latest_s = request.deadline_s + MAX_EXTENSION_S
        self.group: Group[tuple[_Waiter, _Job]]

    def extend(self, deadline_s: float) -> None:
        self.deadline.at_s = max(self.deadline.at_s, min(deadline_s, self.latest_s))


class Engine:
    """Fetches what is missing.

    Args:
        config: sections `edge`, `fill`, `retry` and `ingress`.
        open_sink: makes a sink for a body, given its length if it is known; called from threads.
        hooks: what is told of the work.
        resolver: resolves names; the system's unless a test has its own.

    Raises:
        OSError: `fill.ca_bundle` cannot be read.
    """

    def __init__(
        self,
        config: Config,
        *,
        open_sink: OpenSink,
        hooks: Hooks | None = None,
        resolver: Resolver = system_resolver,
    ) -> None:
        self._fill = config.fill
        self._retry = config.retry.live_fill
        self._hooks = hooks or Hooks()
        self._origins = Origins(config.edge, config.fill)
        self._connections = Connections(config.fill, self._hooks.handshake_failed)
        guard = AddressGuard(config.fill.allow_private, resolver)
        self._fetcher = Fetcher(config, self._origins, guard, self._connections, open_sink)
        self._queue: FillQueue[_Job] = FillQueue(
            config.fill.queue, config.fill.concurrency, config.fill.per_host
        )
        self._groups: Groups[tuple[_Waiter, _Job]] = Groups()
        self._breakers: dict[tuple[str, int], Breaker] = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._running: set[Cancellation] = set()
        self._closing = threading.Event()

    @property
    def depth(self) -> int:
        """Fills that wait for their turn."""
        return self._queue.depth

    def submit(
        self,
        request: Request,
        done: Done,
        *,
        is_missing: Callable[[], bool] = lambda: True,
        is_admitted: bool = False,
    ) -> bool:
        """Fetch what is wanted, or join a fetch of it that is under way.

        Args:
            request: what is wanted.
            done: gets the answer, from a thread of the engine.
            is_missing: asked where no fetch is under way, so that one which has just ended, and
                whose first `done` has stored its answer, is not made again. Must not block.
            is_admitted: it goes on with a request that was taken already, and is not refused.

        Returns:
            False if `is_missing` said no; `done` will then not be called.

        Raises:
            NotFound, NotAllowed: no origin for the key, or one off the allow-list.
            Busy: the queue is full.
            FillUnavailable: the engine is closed.
        """
        target = self._origins.target(request.key)
        job = _Job(target, request)
        waiter = _Waiter(request, done)
        try:
            group = self._groups.join(
                _group_key(request), (waiter, job), is_needed=is_missing, joined=self._joined(request)
            )
        except NotNeeded:
            return False
        if group is not None:
            job.group = group
            self._start(job, waiter, is_admitted)
        return True

    def close(self) -> None:
        """Fail what waits and what runs with FillUnavailable, and end the threads."""
        self._closing.set()
        for job in self._queue.close():
            self._settle(job, FillUnavailable("the engine is closed"))
        with self._lock:
            running, threads = list(self._running), list(self._threads)
        for cancellation in running:
            cancellation.cancel()
        until_s = time.monotonic() + _CLOSING_S
        for thread in threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        self._connections.close()

    def _joined(self, request: Request) -> Callable[[Group[tuple[_Waiter, _Job]]], None]:
        def joined(group: Group[tuple[_Waiter, _Job]]) -> None:
            group.waiters[0][1].extend(request.deadline_s)
            self._hooks.coalesced()

        return joined

    def _start(self, job: _Job, waiter: _Waiter, is_admitted: bool) -> None:
        """Queue the job of a group that was opened; whoever joined meanwhile shares what happens."""
        try:
            self._queue.put(job.target.authority, job, is_admitted=is_admitted)
        except Rejection as rejection:
            others = [other for other, _ in self._groups.close(job.group) if other is not waiter]
            for other in others:
                self._tell(other, rejection)
            raise
        self._ensure_threads()

    def _ensure_threads(self) -> None:
        with self._lock:
            wanted = min(self._queue.running + self._queue.depth, self._fill.concurrency)
            while len(self._threads) < wanted and not self._closing.is_set():
                name = f"fill-{len(self._threads)}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _work(self) -> None:
        while (taken := self._queue.take()) is not None:
            host, job = taken
            outcome: Fetched | Rejection
            try:
                outcome = self._run(job)
            except Rejection as rejection:
                outcome = rejection
            except BaseException as error:
                self._hooks.broke(error)
                outcome = InternalError(f"the fill engine: {type(error).__name__}")
            # PERF: tests/perf/bench_fill.py; this thread takes the next job itself, so none is woken for it.
            self._settle(job, outcome)
            self._queue.done(host)

    def _settle(self, job: _Job, outcome: Fetched | Rejection) -> None:
        """Answer the first, then whoever joined until then, then those for whom it is not."""
        first = job.group.waiters[0][0]
        self._tell(first, outcome)
        others = self._groups.close(job.group)[1:]
        if not isinstance(outcome, Fetched):
            for waiter, _ in others:
                self._tell(waiter, outcome)
            return
        shared = outcome._replace(is_first=False)
        names = varying(outcome.fields) or ()
        variant = variant_of(names, job.request.variant_fields)
        for waiter, own_job in others:
            if variant_of(names, waiter.request.variant_fields) == variant:
                self._tell(waiter, shared)
            else:
                self._again(waiter, own_job, variant_of(names, waiter.request.variant_fields))

    def _again(self, waiter: _Waiter, job: _Job, variant: str) -> None:
        """Fetch for one who joined a fetch that turned out to be of another variant."""
        key = _group_key(waiter.request._replace(variant=variant))
        group = self._groups.join(
            key, (waiter, job), is_needed=lambda: True, joined=self._joined(waiter.request)
        )
        if group is None:
            return
        job.group = group
        try:
            self._queue.put(job.target.authority, job, is_admitted=True)
        except FillUnavailable as rejection:
            self._settle(job, rejection)
            return
        self._ensure_threads()

    def _tell(self, waiter: _Waiter, outcome: Fetched | Rejection) -> None:
        try:
            waiter.done(outcome)
        except Exception as error:
            self._hooks.broke(error)

    def _run(self, job: _Job) -> Fetched:
        began_s = time.monotonic()
        label = self._origins.label(job.target)
        try:
            answer, attempts = self._attempts(job, label)
        except Rejection as rejection:
            self._hooks.failed(label, job.request.corr_id, rejection)
            raise
        self._hooks.succeeded(label, time.monotonic() - began_s)
        sink = answer.sink
        return Fetched(
            status=answer.status,
            fields=answer.fields,
            sink=sink,
            digest=NO_DIGEST if sink is None else sink.digest(),
            size=0 if sink is None else sink.size,
            url_host=answer.target.host,
            request_ms=answer.request_ms,
            response_ms=answer.response_ms,
            not_modified=answer.status == 304,
            attempts=attempts,
        )

    def _attempts(self, job: _Job, label: str) -> tuple[Answer, int]:
        """Return an answer and the number of attempts it took, waiting between them inside the budget."""
        attempt = 0
        while True:
            try:
                return self._attempt(job, label), attempt + 1
            except (StatusFailure, Rejection) as failure:
                rejection = failure.rejection if isinstance(failure, StatusFailure) else failure
                is_worth_it = is_transient(failure, self._retry) and attempt < self._retry.max_retries
                wait_s = wait_ms(attempt, self._retry, random.uniform) / 1000
                left_s = job.deadline.at_s - time.monotonic()
                if not is_worth_it or left_s <= wait_s or self._closing.wait(wait_s):
                    raise rejection from None
            attempt += 1
            self._hooks.retried()

    def _attempt(self, job: _Job, label: str) -> Answer:
        """Make an attempt, or two that race, and tell the breaker how it went."""
        job.deadline.left_s()
        breaker = self._breaker(job.target)
        breaker.admit()
        try:
            if self._fill.hedge_after > 0:
                answer = first_of(
                    lambda cancellation: self._fetch(job, label, cancellation),
                    self._fill.hedge_after,
                    _discard,
                    self._hooks.hedged,
                )
            else:
                answer = self._fetch(job, label, Cancellation())
        except FillTimeout as failure:
            self._hooks.timed_out("connect" if isinstance(failure, ConnectTimeout) else "fill")
            breaker.failed()
            raise
        except FillUnavailable:
            breaker.failed()
            raise
        except StatusFailure as failure:
            if failure.status >= 500:
                breaker.failed()
            else:
                breaker.succeeded()
            raise
        except BaseException:
            breaker.abandoned()
            raise
        breaker.succeeded()
        return answer

    def _fetch(self, job: _Job, label: str, cancellation: Cancellation) -> Answer:
        self._hooks.attempted(label)
        with self._lock:
            self._running.add(cancellation)
        try:
            if self._closing.is_set():
                raise FillUnavailable("the engine is closed")
            request = job.request
            wanted = Wanted(request.variant_fields, request.known, request.block)
            return self._fetcher.fetch(job.target, wanted, job.deadline, cancellation)
        except Rejection as rejection:
            if cancellation.is_set:  # its socket was shut, which looks like a cut from within
                raise FillUnavailable("the attempt was cancelled") from rejection
            raise
        finally:
            with self._lock:
                self._running.discard(cancellation)

    def _breaker(self, target: Target) -> Breaker:
        with self._lock:
            breaker = self._breakers.get((target.host, target.port))
            if breaker is None:
                if len(self._breakers) >= _MAX_BREAKERS:
                    self._breakers.clear()
                breaker = self._breakers[target.host, target.port] = Breaker()
            return breaker


def _group_key(request: Request) -> Hashable:
    """Return what tells fetches apart: one that may not be stored is not shared with those that may."""
    is_unstored = request.has_authorization or request_directives(request.cache_control).no_store
    return request.key, request.variant, request.known, request.block, is_unstored


def _discard(answer: Answer) -> None:
    if answer.sink is not None:
        answer.sink.abort()
