"""Filling: misses of all workers are fetched, stored, and told to everybody who waits.

Process      the sidecar: one thread reads the channels, fetches and stores, in one loop (fill/loop.py);
             others hash what an earlier instance has left. The only writer of fill index and store;
             one sidecar at a time, by the store's lock.
Writes       FILLING_NS and FILL_QUEUE in the sidecar's own row.
Consistency  every Ask that is read gets its Done, on every path. One that a killed sidecar has read is asked
             again by its worker, as FILLING_NS of the successor is another.
Lifetime     from the moment that the predecessor has let go of the store, until `stop`. What hangs then, with
             its disk, is left behind: the store takes nothing from it.
"""

from __future__ import annotations

import os
import socket
import threading
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic, monotonic_ns
from typing import Any, Protocol

from edge_server.cas.store import Store
from edge_server.cas.upkeep import Upkeep
from edge_server.errors import (
    Busy,
    EdgeError,
    FillUnavailable,
    MessageInvalid,
    NotFound,
    Rejection,
    ResourceError,
    TooLarge,
)
from edge_server.fill.engine import Fetched, Request
from edge_server.fill.loop import Loop
from edge_server.fill.messages import PACKET_BYTES, Ask, Done, Outcome
from edge_server.fill.threads import Threads
from edge_server.observe.logs import flush, log
from edge_server.observe.metrics import FILL, metrics
from edge_server.shm.scoreboard import Field, Row
from edge_server.sidecar.fill_blocks import BlockFills
from edge_server.sidecar.fill_results import Results, Standing
from edge_server.sidecar.journal import Journal
from edge_server.sidecar.outbox import Outbox

_PERIOD_S = 0.05  # of the thread, while nothing comes
_RETRY_S = 0.02  # while a predecessor has the store
_ASKS_A_TURN = 64  # of one channel, before the others have theirs
_HASHERS = 2  # threads that verify bodies of an earlier instance
_LETTING_GO_S = 1.0  # for the upkeep to end its step

WarmDone = Callable[[Done], None]


class Fetcher(Protocol):
    """What fetches: fill/engine.py."""

    @property
    def depth(self) -> int: ...

    def submit(
        self,
        request: Request,
        done: Callable[[Fetched | Rejection], None],
        *,
        is_missing: Callable[[], bool],
        is_admitted: bool = False,
    ) -> bool: ...

    def close(self) -> None: ...


class Filling:
    """The fills of one instance, while this sidecar does them.

    Args:
        row: the sidecar's own.
        channels: the far ends, by the worker's identity.
        store: not adopted yet.
        make_engine: makes the engine, which runs in this loop.
        results: turns what was fetched into what is stored.
        blocks: fetches ranges of what is too large to be fetched whole.
        journal: is told of each Ask.
    """

    def __init__(
        self,
        row: Row,
        channels: Mapping[str, socket.socket],
        store: Store,
        make_engine: Callable[[Loop], Fetcher],
        results: Results,
        blocks: BlockFills,
        journal: Journal,
    ) -> None:
        self._journal = journal
        self._row = row
        self._channels = channels
        self._store = store
        self._make_engine = make_engine
        self._results = results
        self._blocks = blocks
        self._outbox = Outbox(channels)
        self._pending: dict[int, str] = {}  # ticket -> identity
        self._lock = threading.Lock()
        self._hashers = Threads("verifying", _HASHERS)
        self._loop = Loop()
        self._is_stopping = False
        self._next_s = 0.0
        self._is_flushing = False
        self._engine: Fetcher | None = None
        self._thread = threading.Thread(target=self._run, name="filling", daemon=True)

    def start(self) -> None:
        """Begin in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Let go of everything soon, for a successor; does not wait for it."""
        # NOTE: no more than that, as a signal handler calls it: the loop looks each _PERIOD_S.
        self._is_stopping = True

    @property
    def is_over(self) -> bool:
        """Whether it has let go of everything."""
        return not self._thread.is_alive()

    @property
    def is_filling(self) -> bool:
        """Whether it has the store, and takes fills."""
        return self._engine is not None and not self._is_stopping

    def warm(self, ask: Ask, done: WarmDone) -> None:
        """Fetch what an operator wants to be there; `done` is called once, from any thread."""
        if not self.is_filling:
            done(Done(ask.ticket, Outcome.REFUSED, reason="fill_unavailable"))
        else:
            self._submit(ask, done)

    def _run(self) -> None:
        try:
            if self._adopt():
                self._serve()
        except BaseException as error:
            log("defect", "error", detail=repr(error), traceback=traceback.format_exc())
            flush()
            os._exit(1)  # a sidecar that cannot fill is of no use: its successor adopts what stands
        finally:
            self._row.set(Field.FILLING_NS, 0)

    def _adopt(self) -> bool:
        """Wait for the store; return False if it is over before that."""
        told = ""
        while not self._is_stopping:
            try:
                if self._store.adopt():
                    return True
                wait_s = _RETRY_S
            except ResourceError as error:
                if str(error) != told:
                    told = str(error)
                    log("live_fill", "error", reason=told)
                wait_s = 1.0
            threading.Event().wait(wait_s)
        return False

    def _serve(self) -> None:
        upkeep = Upkeep(self._store)
        upkeep.start()
        self._engine = self._make_engine(self._loop)
        self._row.set(Field.FILLING_NS, monotonic_ns())
        try:
            self._read_channels()
        finally:
            self._row.set(Field.FILLING_NS, 0)
            self._hand_over()
            self._engine.close()
            self._hashers.close()
            upkeep.stop(_LETTING_GO_S)
            self._store.close()

    def _read_channels(self) -> None:
        for identity, channel in self._channels.items():
            self._loop.watch(channel.fileno(), partial(self._read, identity))
        self._loop.run(self._is_over, _PERIOD_S)
        for channel in self._channels.values():
            self._loop.forget(channel.fileno())  # what comes now is for the successor

    def _is_over(self) -> bool:
        """Do what is to be done now and then; return whether that was all."""
        assert self._engine is not None
        now_s = monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + _PERIOD_S
            self._outbox.flush()
            self._results.forget_passed()
            self._row.set(Field.FILL_QUEUE, self._engine.depth)
        return self._is_stopping

    def _read(self, identity: str) -> None:
        channel = self._channels[identity]
        for _ in range(_ASKS_A_TURN):
            try:
                ask = Ask.unpack(channel.recv(PACKET_BYTES))
            except BlockingIOError:
                return
            except MessageInvalid as error:
                log("defect", "error", detail=str(error))
                continue
            self._take(identity, ask)

    def _take(self, identity: str, ask: Ask) -> None:
        with self._lock:
            self._pending[ask.ticket] = identity
        self._submit(ask, partial(self._answer, identity))

    def _submit(self, ask: Ask, answer: WarmDone) -> None:
        """Answer an Ask from the store, or have it fetched."""
        answer = self._journal.begin(ask, answer)
        if not (self._results.is_unverified(ask) or self._blocks.knows(ask)):
            self._look(ask, answer)
            return
        try:
            self._hashers.post(partial(self._look, ask, answer))
        except FillUnavailable as refusal:
            answer(refused(ask, refusal))

    def _look(self, ask: Ask, answer: WarmDone, has_changed: bool = False) -> None:
        try:
            changes = self._results.changes
            standing = self._results.standing(ask)
            if standing.is_usable and standing.is_absence:
                answer(Done(ask.ticket, Outcome.REFUSED, reason=NotFound.reason))
            elif standing.is_usable:
                answer(Done(ask.ticket, Outcome.STORED, standing.key_id))
            elif self._blocks.knows(ask):
                self._fetch_blocks(ask, answer, has_changed)
            else:
                self._fetch(ask, standing, answer, changes, has_changed)
        except Rejection as refusal:
            answer(refused(ask, refusal))
        except Exception as error:
            log("defect", "error", detail=repr(error), corr_id=ask.corr_id)
            answer(Done(ask.ticket, Outcome.REFUSED, reason="fill_unavailable"))

    def _fetch_blocks(self, ask: Ask, answer: WarmDone, has_changed: bool) -> None:
        """Have ranges fetched; an object that has changed since it was known is looked at anew, once."""
        assert self._engine is not None

        def finish(done: Done | Rejection) -> None:
            answer(refused(ask, done) if isinstance(done, Rejection) else done)

        changed = None if has_changed else partial(self._look, ask, answer, True)
        self._blocks.fetch(ask, self._engine.submit, finish, changed)

    def _fetch(
        self,
        ask: Ask,
        standing: Standing,
        answer: WarmDone,
        changes: int,
        has_changed: bool = False,
        *,
        is_admitted: bool = False,
    ) -> None:
        engine = self._engine
        assert engine is not None
        request = Request(
            key=ask.key,
            variant_fields=dict(ask.fields),
            cache_control=ask.cache_control,
            has_authorization=ask.has_authorization,
            deadline_s=ask.deadline_s,
            corr_id=ask.corr_id,
            known=standing.known,
            variant=standing.variant,
            tags=self._journal.tags(ask),
        )

        def finish(fetched: Fetched | Rejection) -> None:
            if isinstance(fetched, TooLarge) and ask.range:
                self._fetch_blocks(ask, answer, has_changed)
                return
            try:
                done = self._results.settle(ask, standing, fetched)
                if done is None:  # what was revalidated has gone meanwhile
                    again = standing.without_known()
                    self._fetch(ask, again, answer, self._results.changes - 1, has_changed, is_admitted=True)
                    return
            except Rejection as refusal:
                done = refused(ask, refusal)
            except EdgeError as error:
                log("live_fill", "error", reason=str(error), corr_id=ask.corr_id)
                done = Done(ask.ticket, Outcome.REFUSED, reason="fill_unavailable")
            except Exception as error:
                log("defect", "error", detail=repr(error), corr_id=ask.corr_id)
                done = Done(ask.ticket, Outcome.REFUSED, reason="fill_unavailable")
            answer(done)

        def is_missing() -> bool:
            # PERF: tests/perf/bench_fill.py; it was looked for a moment ago, and mostly nothing has changed.
            return changes == self._results.changes or not self._results.has(ask)

        try:
            is_taken = engine.submit(request, finish, is_missing=is_missing, is_admitted=is_admitted)
            if not is_taken:
                answer(Done(ask.ticket, Outcome.STORED, self._results.standing(ask).key_id))
        except Busy as busy:
            metrics().edge_queue_dropped_total.labels(FILL).inc()
            answer(refused(ask, busy))

    def _answer(self, identity: str, done: Done) -> None:
        with self._lock:
            is_waited_for = self._pending.pop(done.ticket, None) is not None
        if is_waited_for:
            self._outbox.post(identity, done.pack())
            # PERF: python -m bench.fills; what ends in one turn of the loop wakes a worker once.
            if not self._is_flushing:
                self._is_flushing = True
                self._loop.call(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        self._outbox.flush()

    def _hand_over(self) -> None:
        """Have everybody who waits ask the successor."""
        with self._lock:
            pending, self._pending = self._pending, {}
        for ticket, identity in pending.items():
            self._outbox.send(identity, Done(ticket, Outcome.AGAIN).pack())
        self._outbox.flush()


def refused(ask: Ask, refusal: Rejection) -> Done:
    """Return the Done for a refusal."""
    retry_after: Any = getattr(refusal, "retry_after_s", None)
    return Done(ask.ticket, Outcome.REFUSED, reason=refusal.reason, retry_after_s=int(retry_after or 0))
