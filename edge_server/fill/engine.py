"""The fill engine: requests in, one fetch for all who want the same thing, an answer for each of them.

Process      whichever runs the engine (the sidecar); a loop in one thread, which may be the caller's.
Memory       at most `fill.queue` jobs that wait and `fill.concurrency` that run.
Consistency  a `done` is called exactly once if and only if `submit` returned True, whatever fails: by a task
             of the loop, or by `close`; that of the first in a group returns before the others are called.
Lifetime     until `close`, after which every `done` has been called.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import NamedTuple

from edge_server.config.schema import Config
from edge_server.errors import FillUnavailable, InternalError, Rejection
from edge_server.fill.address_guard import AddressGuard, Resolver, system_resolver
from edge_server.fill.attempts import Attempts, Order
from edge_server.fill.coalesce import Group, Groups, NotNeeded
from edge_server.fill.connections import Connections
from edge_server.fill.deadline import Deadline
from edge_server.fill.fetch import Fetcher
from edge_server.fill.hooks import Hooks
from edge_server.fill.loop import Loop
from edge_server.fill.origins import Origins, Target
from edge_server.fill.queueing import FillQueue
from edge_server.fill.receiving import OpenSink
from edge_server.fill.request import NO_DIGEST, Done, Fetched, Request
from edge_server.fill.vary import variant_of, varying

__all__ = ["Done", "Engine", "Fetched", "Hooks", "Request"]

# Whoever joins a fetch lets it go on until their own budget ends, but not for ever.
MAX_EXTENSION_S = 60.0
_CLOSING_S = 5.0
_PERIOD_S = 0.05  # of a loop of its own, while nothing happens


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
        open_sink: makes a sink for a body, see Receiver; called by tasks.
        hooks: what is told of the work.
        resolver: resolves names; the system's unless a test has its own.
        loop: run by the caller, who calls `close` in its thread, too; None for one in a thread of its own.

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
        loop: Loop | None = None,
    ) -> None:
        self._hooks = hooks or Hooks()
        self._origins = Origins(config.edge, config.fill)
        self._connections = Connections(config.fill, self._hooks.handshake_failed)
        self._guard = AddressGuard(config.fill.allow_private, resolver, config.fill.connect_timeout)
        self._loop = loop or Loop()
        self._thread: threading.Thread | None = None
        fetcher = Fetcher(config, self._origins, self._guard, self._connections, open_sink)
        self._attempts = Attempts(config, fetcher, self._hooks, self._loop, self._take_extra)
        self._queue: FillQueue[_Job] = FillQueue(
            config.fill.queue, config.fill.concurrency, config.fill.per_host
        )
        self._groups: Groups[tuple[_Waiter, _Job]] = Groups()
        self._is_closing = False
        if loop is None:
            self._thread = threading.Thread(target=self._run_loop, name="fill-loop", daemon=True)
            self._thread.start()

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
            done: gets the answer, from a task of the loop: it may give way, and must not block.
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
        """Fail what waits and what runs with FillUnavailable, and end what was begun."""
        for job in self._queue.close():
            self._settle(job, FillUnavailable("the engine is closed"))
        self._attempts.close()
        until_s = time.monotonic() + _CLOSING_S
        self._is_closing = True
        if self._thread is not None:
            self._thread.join(_CLOSING_S)
        else:
            self._loop.run(lambda: not self._queue.running or time.monotonic() >= until_s, _PERIOD_S)
        self._guard.close()
        self._connections.close()
        if self._thread is not None:
            self._loop.close()

    def _run_loop(self) -> None:
        self._loop.run(lambda: self._is_closing and not self._queue.running, _PERIOD_S)

    def _joined(self, request: Request) -> Callable[[Group[tuple[_Waiter, _Job]]], None]:
        def joined(group: Group[tuple[_Waiter, _Job]]) -> None:
            group.waiters[0][1].extend(request.deadline_s)
            self._hooks.coalesced()

        return joined

    def _start(self, job: _Job, waiter: _Waiter, is_admitted: bool) -> None:
        """Queue the job of a group that was opened; whoever joined meanwhile shares what happens."""
        try:
            self._put(job, is_admitted=is_admitted)
        except Rejection as rejection:
            others = [other for other, _ in self._groups.close(job.group) if other is not waiter]
            for other in others:
                self._tell(other, rejection)
            raise

    def _put(self, job: _Job, *, is_admitted: bool) -> None:
        """Queue a job, and have the loop begin it if it may."""
        self._begin(self._queue.put(job.target.authority, job, is_admitted=is_admitted))

    def _begin(self, taken: tuple[str, _Job] | None) -> None:
        """Begin what was taken from the queue, if there was something."""
        if taken is not None:
            self._loop.spawn(partial(self._work, *taken))

    def _take_extra(self, host: str) -> Callable[[], None] | None:
        return partial(self._give_back, host) if self._queue.take_extra(host) else None

    def _give_back(self, host: str) -> None:
        self._queue.done(host)
        self._begin(self._queue.take())

    def _work(self, host: str, job: _Job) -> None:
        """Do a job, and then what else may run."""
        taken: tuple[str, _Job] | None = (host, job)
        while taken is not None:
            host, job = taken
            outcome: Fetched | Rejection
            try:
                outcome = self._run(job)
            except Rejection as rejection:
                outcome = rejection
            except BaseException as error:
                self._hooks.broke(error)
                outcome = InternalError(f"the fill engine: {type(error).__name__}")
            self._settle(job, outcome)
            self._queue.done(host)
            taken = self._queue.take()

    def _settle(self, job: _Job, outcome: Fetched | Rejection) -> None:
        """Answer the first, then whoever joined until then, then those for whom it is not."""
        first = job.group.waiters[0][0]
        self._tell(first, outcome)
        others = self._groups.close(job.group)[1:]
        if not others:
            return
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
            self._put(job, is_admitted=True)
        except FillUnavailable as rejection:
            self._settle(job, rejection)

    def _tell(self, waiter: _Waiter, outcome: Fetched | Rejection) -> None:
        try:
            waiter.done(outcome)
        except Exception as error:
            self._hooks.broke(error)

    def _run(self, job: _Job) -> Fetched:
        began_s = time.monotonic()
        label = self._origins.label(job.target)
        try:
            answer, attempts = self._attempts.make(Order(job.target, label, job.request, job.deadline))
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


def _group_key(request: Request) -> Hashable:
    """Return what tells fetches apart: one that may not be stored is not shared with those that may."""
    return request.key, request.variant, request.known, request.block, request.may_store
