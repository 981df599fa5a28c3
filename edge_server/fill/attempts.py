"""Attempts: an answer for one fill, by as many attempts as its origin, breaker and budget let through.

Process      whichever runs the engine; called by its tasks.
Lifetime     the engine's; a breaker for each host and port.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from edge_server.config.schema import Config
from edge_server.errors import FillTimeout, FillUnavailable, Rejection, StoreUnavailable
from edge_server.fill.breaker import Breaker
from edge_server.fill.deadline import Cancellation, ConnectTimeout, Deadline
from edge_server.fill.fetch import Answer, Fetcher, StatusFailure
from edge_server.fill.hedging import first_of
from edge_server.fill.hooks import Hooks
from edge_server.fill.loop import Loop, Signal
from edge_server.fill.origins import Target
from edge_server.fill.receiving import Wanted
from edge_server.fill.request import Request
from edge_server.fill.retry import is_transient, wait_ms

_MAX_BREAKERS = 1024


class Order(NamedTuple):
    """What is to be fetched.

    Attributes:
        label: of the target, for metrics.
        deadline: may be moved meanwhile.
    """

    target: Target
    label: str
    request: Request
    deadline: Deadline


class Attempts:
    """Makes attempts.

    Args:
        config: sections `fill` and `retry`.
        fetcher: makes one.
        hooks: what is told of them.
        loop: in which a second attempt beside the first is made.
        take_extra: takes a place for that at a host, if there is one; returns what gives it back.
    """

    def __init__(
        self,
        config: Config,
        fetcher: Fetcher,
        hooks: Hooks,
        loop: Loop,
        take_extra: Callable[[str], Callable[[], None] | None],
    ) -> None:
        self._fill = config.fill
        self._retry = config.retry.live_fill
        self._fetcher = fetcher
        self._hooks = hooks
        self._loop = loop
        self._take_extra = take_extra
        self._breakers: dict[tuple[str, int], Breaker] = {}
        self._lock = threading.Lock()
        self._running: set[Cancellation] = set()
        self._resting: set[Signal] = set()
        self._is_closing = False

    def make(self, order: Order) -> tuple[Answer, int]:
        """Return an answer and the number of attempts it took, waiting between them inside the budget.

        Raises:
            Rejection: there is none.
        """
        attempt = 0
        while True:
            try:
                return self._attempt(order), attempt + 1
            except (StatusFailure, Rejection) as failure:
                rejection = failure.rejection if isinstance(failure, StatusFailure) else failure
                is_worth_it = is_transient(failure, self._retry) and attempt < self._retry.max_retries
                wait_s = wait_ms(attempt, self._retry, random.uniform) / 1000
                left_s = order.deadline.at_s - time.monotonic()
                if not is_worth_it or left_s <= wait_s or not self._rested(wait_s):
                    raise rejection from None
            attempt += 1
            self._hooks.retried()

    def close(self) -> None:
        """Fail what runs with FillUnavailable, and let nothing begin."""
        with self._lock:
            self._is_closing = True
            running, resting = list(self._running), list(self._resting)
        for cancellation in running:
            cancellation.cancel()
        for signal in resting:
            signal.tell()

    def _rested(self, wait_s: float) -> bool:
        """Wait before the next attempt; return False if there is to be none."""
        signal = Signal()
        with self._lock:
            self._resting.add(signal)
        if not self._is_closing:
            signal.wait(time.monotonic() + wait_s)
        with self._lock:
            self._resting.discard(signal)
        return not self._is_closing

    def _attempt(self, order: Order) -> Answer:
        """Make an attempt, or two that race, and tell the breaker how it went."""
        order.deadline.left_s()
        breaker = self._breaker(order.target)
        breaker.admit()
        try:
            if self._fill.hedge_after > 0:
                answer = first_of(
                    lambda cancellation: self._fetch(order, cancellation),
                    self._fill.hedge_after,
                    _discard,
                    lambda: self._begin_second(order),
                    self._loop.spawn,
                )
            else:
                answer = self._fetch(order, Cancellation())
        except FillTimeout as failure:
            self._hooks.timed_out("connect" if isinstance(failure, ConnectTimeout) else "fill")
            breaker.failed()
            raise
        except StoreUnavailable:
            breaker.abandoned()
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

    def _begin_second(self, order: Order) -> Callable[[], None] | None:
        ended = self._take_extra(order.target.authority)
        if ended is not None:
            self._hooks.hedged()
        return ended

    def _fetch(self, order: Order, cancellation: Cancellation) -> Answer:
        self._hooks.attempted(order.label)
        # PERF: tests/perf/bench_fill.py; a set changes in one step, and `close` takes what it has then.
        self._running.add(cancellation)
        try:
            if self._is_closing:
                raise FillUnavailable("the engine is closed")
            request = order.request
            wanted = Wanted(
                request.variant_fields, request.known, request.block, request.may_store, request.tags
            )
            return self._fetcher.fetch(order.target, wanted, order.deadline, cancellation)
        except Rejection as rejection:
            if cancellation.is_set:  # its socket was shut, which looks like a cut from within
                raise FillUnavailable("the attempt was cancelled") from rejection
            raise
        finally:
            self._running.discard(cancellation)

    def _breaker(self, target: Target) -> Breaker:
        key = (target.host, target.port)
        breaker = self._breakers.get(key)
        if breaker is None:
            if len(self._breakers) >= _MAX_BREAKERS:
                self._breakers.clear()
            breaker = self._breakers.setdefault(key, Breaker())
        return breaker


def _discard(answer: Answer) -> None:
    if answer.sink is not None:
        answer.sink.abort()
