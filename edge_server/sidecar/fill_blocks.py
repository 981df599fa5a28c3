"""Block fills: the blocks of a large object that an Ask needs, each fetched and stored as a response.

Process      the sidecar; any of its threads, and the engine's tasks: these leave it to a thread to look for
             blocks of an earlier instance, which are hashed then.
Order        what is known of the object, asked of its origin with a range of one byte where it is not known,
             or stale; then the blocks that are not here, with If-Range, so that all are of that version.
Lifetime     a `_Fill` lasts for one Ask. The engine lets equal blocks of several be one fetch.

Specification: RFC 9110 sections 13.1.5 and 15.3.7.3: parts are put together under a strong tag only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from edge_server.cas.store import Store
from edge_server.config.schema import Config
from edge_server.errors import (
    AnotherVersion,
    EdgeError,
    FillTimeout,
    FillUnavailable,
    IntegrityError,
    RangeNotSatisfiable,
    Rejection,
    TooLarge,
)
from edge_server.fill.blocks import LARGE, PROBE, Block, blocks_of, part_of, spans_of, variant_of_block
from edge_server.fill.engine import Fetched, Request
from edge_server.fill.freshness import Verdict
from edge_server.fill.loop import current_loop
from edge_server.fill.messages import Ask, Done, Outcome
from edge_server.fill.metadata import Metadata
from edge_server.fill.storing import Known, Plan, plan
from edge_server.fill.threads import Threads
from edge_server.fill.vary import ACCEPT_ENCODING
from edge_server.observe.logs import log
from edge_server.shm.fill_index import META_MAX, FillIndex, FillRecord, Flag, key_id
from edge_server.sidecar.fill_results import commit, record_of, verdict_of
from edge_server.sidecar.journal import Journal

Answer = Callable[["Done | Rejection"], None]


class Submit(Protocol):
    """How a fetch is begun: `Engine.submit`."""

    def __call__(
        self,
        request: Request,
        done: Callable[[Fetched | Rejection], None],
        *,
        is_missing: Callable[[], bool],
    ) -> bool: ...


class BlockFills:
    """Fetches blocks.

    Args:
        index: of the store.
        config: `fill`, and `http.enable_multi_range`.
        journal: is told of each block.
    """

    def __init__(self, store: Store, index: FillIndex, config: Config, journal: Journal) -> None:
        self.journal = journal
        self.store = store
        self.index = index
        self.fill = config.fill
        self._is_multi = config.http.enable_multi_range
        self._hasher = Threads("verifying-blocks", 1)

    def knows(self, ask: Ask) -> bool:
        """Whether an Ask is for ranges of an object that is known to be large."""
        return bool(ask.range) and self.head(ask.key) is not None

    def fetch(self, ask: Ask, submit: Submit, answer: Answer, changed: Callable[[], None] | None) -> None:
        """Fetch what an Ask for ranges needs, and store it.

        Args:
            answer: called once, from any thread, unless `changed` is.
            changed: called instead once the object has turned out to be another than that which was
                known, and nothing of that is left; None where that is a refusal.
        """
        fetching = _Fill(self, ask, submit, answer, changed)
        fetching.guarded(fetching.begin)

    def head(self, key: str) -> FillRecord | None:
        """Return what is known of a large object."""
        record = self.index.find(key_id(key, LARGE))
        return record if record is not None and record.flags & Flag.LARGE else None

    def remember(self, ask: Ask, fetched: Fetched) -> Metadata:
        """Store what a partial answer tells of the object, and return it.

        Raises:
            IntegrityError: it may not be held in blocks.
        """
        planned = self.planned(ask, fetched)
        etag = planned.known.etag
        if etag is None or etag.startswith("W/"):
            raise IntegrityError("a large object without a strong tag")
        if not set(planned.names) <= {ACCEPT_ENCODING}:  # of which identity alone is asked for
            raise IntegrityError("a large object that varies")
        told = Metadata.of(planned.fields, planned.known, planned.names)
        told = told._replace(total=part_of(fetched.fields).total)
        record = record_of(planned, fetched.status)
        record = record._replace(flags=record.flags | Flag.LARGE, meta=told.pack(META_MAX))
        self.store.remember(key_id(ask.key, LARGE), record, ask.key)
        return told

    def planned(self, ask: Ask, fetched: Fetched) -> Plan:
        """Return how a part is stored: as the whole would be.

        Raises:
            IntegrityError: it may not be.
        """
        planned = plan(
            200,
            fetched.fields,
            request_ms=fetched.request_ms,
            response_ms=fetched.response_ms,
            fill=self.fill,
            variant_fields=ask.fields,
            has_authorization=ask.has_authorization,
            request_cache_control=ask.cache_control,
        )
        if not planned.may_store:
            raise IntegrityError("a large object that may not be stored")
        return planned

    def blocks(self, ask: Ask, total: int) -> list[Block]:
        """Return the blocks that an Ask needs; none where its worker has to refuse it."""
        try:
            spans = spans_of(ask.range, total, is_multi=self._is_multi)
        except RangeNotSatisfiable:
            return []
        return blocks_of(spans or (), total, self.fill.max_object_bytes)

    def missing(self, ids: Mapping[Block, bytes], until_s: float) -> list[Block]:
        """Return which blocks are not here.

        Args:
            ids: under which they stand.
            until_s: CLOCK_MONOTONIC until when a task waits for a thread that hashes them.

        Raises:
            FillTimeout: that takes too long.
        """

        def look() -> list[Block]:
            return [block for block, found_id in ids.items() if self.store.find(found_id) is None]

        if current_loop() is None or not any(map(self._is_unverified, ids.values())):
            return look()
        try:
            return self._hasher.run(look, until_s)
        except TimeoutError as error:
            raise FillTimeout("hashing blocks of an earlier instance takes too long") from error

    def _is_unverified(self, found_id: bytes) -> bool:
        record = self.index.find(found_id)
        return record is not None and bool(record.flags & Flag.UNVERIFIED)


class _Fill:
    """The fetches for one Ask."""

    def __init__(
        self,
        fills: BlockFills,
        ask: Ask,
        submit: Submit,
        answer: Answer,
        changed: Callable[[], None] | None,
    ) -> None:
        self._fills = fills
        self._ask = ask
        self._submit = submit
        self._answer = answer
        self._changed = changed
        self._etag: str | None = None
        self._lock = threading.Lock()
        self._left = 0
        self._failure: Rejection | None = None

    def guarded(self, step: Callable[[], None]) -> None:
        """Run a step, and answer if it raises."""
        failure = _failure_of(step, self._ask)
        if failure is not None:
            self._fail(failure)

    def begin(self) -> None:
        """Fetch blocks of what is known and fresh, else ask how large the object is."""
        head = self._fills.head(self._ask.key)
        if head is not None:
            told = Metadata.unpack(head.meta)
            self._etag = told.known.etag
            if verdict_of(head, told, self._ask.cache_control) is Verdict.FRESH:
                self._fetch_blocks(told)
                return
        self._submit(self._request(PROBE), self._probed, is_missing=lambda: True)

    def _probed(self, fetched: Fetched | Rejection) -> None:
        def step() -> None:
            part = _part(fetched)
            try:
                told = self._fills.remember(self._ask, part)
            finally:
                _drop(part)
            self._etag = told.known.etag
            self._fetch_blocks(told)

        self.guarded(step)

    def _fetch_blocks(self, told: Metadata) -> None:
        wanted = self._fills.blocks(self._ask, told.total)
        missing = self._fills.missing({block: self._id(block) for block in wanted}, self._ask.deadline_s)
        self._left = len(missing)
        if not missing:
            self._finish()
        for block in missing:
            self._fetch_block(block)

    def _fetch_block(self, block: Block) -> None:
        has = self._fills.index.find

        def submit() -> None:
            is_fetched = self._submit(
                self._request(block),
                partial(self._fetched, block),
                is_missing=lambda: has(self._id(block)) is None,
            )
            if not is_fetched:
                self._arrived(None)

        failure = _failure_of(submit, self._ask)
        if failure is not None:
            self._arrived(failure)

    def _fetched(self, block: Block, fetched: Fetched | Rejection) -> None:
        self._arrived(_failure_of(lambda: self._store(block, fetched), self._ask))

    def _store(self, block: Block, fetched: Fetched | Rejection) -> None:
        part = _part(fetched)
        if not part.is_first:
            return
        try:
            record = record_of(self._fills.planned(self._ask, part), part.status)
            commit(self._fills.store, part, self._id(block), record, self._ask.key)
            self._fills.journal.filled(self._ask, part)
        finally:
            _drop(part)

    def _arrived(self, failure: Rejection | None) -> None:
        """Count a block, or why it is not here; after the last one there is an answer."""
        with self._lock:
            self._left -= 1
            if failure is not None and not isinstance(self._failure, AnotherVersion):
                self._failure = failure
            if self._left:
                return
        if self._failure is None:
            self._finish()
        else:
            self._fail(self._failure)

    def _finish(self) -> None:
        self._answer(Done(self._ask.ticket, Outcome.STORED, key_id(self._ask.key, LARGE)))

    def _fail(self, failure: Rejection) -> None:
        is_another = self._etag is not None and isinstance(failure, AnotherVersion | TooLarge)
        if is_another:
            self._fills.store.purge(self._ask.key)
        if is_another and self._changed is not None:
            self._changed()
        else:
            self._answer(failure)

    def _id(self, block: Block) -> bytes:
        return key_id(self._ask.key, variant_of_block(self._etag or "", block))

    def _request(self, block: Block) -> Request:
        ask = self._ask
        return Request(
            key=ask.key,
            variant_fields=dict(ask.fields),
            cache_control=ask.cache_control,
            has_authorization=ask.has_authorization,
            deadline_s=ask.deadline_s,
            corr_id=ask.corr_id,
            known=None if self._etag is None else Known(self._etag, None),
            block=block,
            tags=self._fills.journal.tags(ask),
        )


def _part(fetched: Fetched | Rejection) -> Fetched:
    """Return a partial answer.

    Raises:
        AnotherVersion: it is one of another kind: the whole, which is small now, or that there is none.
        Rejection: there is none.
    """
    if isinstance(fetched, Rejection):
        raise fetched
    if fetched.status != 206:
        _drop(fetched)
        raise AnotherVersion(f"status {fetched.status} instead of a part")
    return fetched


def _drop(fetched: Fetched) -> None:
    if fetched.sink is not None and fetched.is_first:
        fetched.sink.abort()  # nothing, where it was committed


def _failure_of(step: Callable[[], None], ask: Ask) -> Rejection | None:
    """Run a step; return why it has failed."""
    try:
        step()
    except Rejection as rejection:
        return rejection
    except EdgeError as error:
        log("live_fill", "error", reason=str(error), corr_id=ask.corr_id)
        return FillUnavailable(str(error))
    except Exception as error:
        log("defect", "error", detail=repr(error), corr_id=ask.corr_id)
        return FillUnavailable("a defect")
    return None
