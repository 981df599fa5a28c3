"""Results: what stands in the store for an Ask, and what becomes of what was fetched for it.

Process      the sidecar; called from any of its threads. The store is thread-safe.
Rules        fill/storing.py plans what may be stored and for how long; here it becomes records.

A response that may not be stored is kept in the store under an id of its own until those who wait have
had time to send it.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict, deque
from time import monotonic, time
from typing import NamedTuple

from edge_server.cas.store import Store
from edge_server.cas.writer import Writer
from edge_server.config.schema import Fill
from edge_server.errors import FillUnavailable, NotFound, Rejection
from edge_server.fill.engine import Fetched
from edge_server.fill.freshness import Verdict, verdict
from edge_server.fill.messages import Ask, Done, Outcome
from edge_server.fill.metadata import Metadata
from edge_server.fill.storing import Known, Plan, merged, plan
from edge_server.fill.vary import variant_of
from edge_server.observe.logs import log
from edge_server.shm.fill_index import (
    KEY_ID_BYTES,
    MEMORY,
    META_MAX,
    NO_DIGEST,
    FillIndex,
    FillRecord,
    Flag,
    key_id,
)
from edge_server.sidecar.journal import Journal
from edge_server.sidecar.sinks import StoreSink

# Refusals for which a stale response may stand in (RFC 5861 section 4: 500, 502, 503 and 504); no answer, and
# one that is not to be believed, are as bad.
STANDS_IN_FOR = frozenset({"upstream_5xx", "timeout", "fill_unavailable", "integrity", "etag_invalid"})


_SETTLED_KEPT = 1024  # of what has been fetched, for those who joined

Settled = tuple[Outcome, bytes, str]  # as of Done


class Standing(NamedTuple):
    """What the store has for an Ask.

    Attributes:
        key_id: under which it stands.
        variant: of the request, where the key is known to vary.
        record: None where there is nothing.
        known: its validators, where it is to be revalidated.
        is_usable: whether it can be served as it is.
    """

    key_id: bytes
    variant: str
    record: FillRecord | None
    known: Known | None
    is_usable: bool

    @property
    def is_absence(self) -> bool:
        """Whether it says that the origin does not have it."""
        return self.record is not None and bool(self.record.flags & Flag.NEGATIVE)

    def without_known(self) -> Standing:
        """Return it as it is once it has gone."""
        return self._replace(record=None, known=None, is_usable=False)


class Results:
    """See above.

    Args:
        index: of the store.
        fill: the settings.
        budget_s: how long a request may take; what may not be stored is kept for longer.
        journal: is told of each fill.
    """

    def __init__(self, store: Store, index: FillIndex, fill: Fill, budget_s: float, journal: Journal) -> None:
        self._journal = journal
        self._store = store
        self._index = index
        self._fill = fill
        self._kept_s = 2 * budget_s
        self._passed: deque[tuple[float, bytes]] = deque()
        self._lock = threading.Lock()
        self._settled: OrderedDict[tuple[object, ...], Settled] = OrderedDict()

    def is_unverified(self, ask: Ask) -> bool:
        """Whether a body must be hashed before the store says that it has it."""
        record = self._find(ask)[2]
        return record is not None and bool(record.flags & Flag.UNVERIFIED)

    def standing(self, ask: Ask) -> Standing:
        """Return what the store has; a damaged body is gone after that."""
        found_id, variant, found = self._find(ask)
        record = None if found is None else self._store.find(found_id)
        if record is None or record.flags & Flag.VARIES:
            return Standing(found_id, variant, None, None, False)
        metadata = Metadata.unpack(record.meta)
        judged = verdict_of(record, metadata, ask.cache_control)
        known = None if metadata.known.is_empty or record.flags & Flag.NEGATIVE else metadata.known
        return Standing(found_id, variant, record, known, judged is Verdict.FRESH)

    def has(self, ask: Ask) -> bool:
        """Whether what is asked for can be served as it is, as far as the index tells."""
        _, _, record = self._find(ask)
        if record is None or record.flags & (Flag.VARIES | Flag.UNVERIFIED):
            return False
        return verdict_of(record, Metadata.unpack(record.meta), ask.cache_control) is Verdict.FRESH

    def settle(self, ask: Ask, standing: Standing, fetched: Fetched | Rejection) -> Done | None:
        """Store what was fetched; return what to tell, or None if it must be fetched once more, whole.

        Raises:
            Rejection: there is nothing to serve.
            NoRoom: the store does not take it.
        """
        if isinstance(fetched, Rejection):
            return self._stand_in(ask, standing, fetched)
        settled = self._once(fetched, ask, standing)
        return None if settled is None else Done(ask.ticket, *settled)

    def forget_passed(self) -> None:
        """Remove what may not be stored, once those who waited have had it."""
        while self._passed and self._passed[0][0] <= monotonic():
            self._store.forget(self._passed.popleft()[1])

    def _once(self, fetched: Fetched, ask: Ask, standing: Standing) -> Settled | None:
        """Settle what several Asks are answered with, once: for the first, before the others are told."""
        name = (ask.key, id(fetched.sink), fetched.request_ms, fetched.response_ms)
        if not fetched.is_first:
            with self._lock:
                if name not in self._settled:
                    raise FillUnavailable("what was fetched could not be stored")
                return self._settled[name]
        try:
            made = self._settle(fetched, ask, standing)
        finally:
            if fetched.sink is not None:
                fetched.sink.abort()  # nothing, where it was committed
        if made is not None:
            with self._lock:
                self._settled[name] = made
                if len(self._settled) > _SETTLED_KEPT:
                    self._settled.popitem(last=False)
        return made

    def _settle(self, fetched: Fetched, ask: Ask, standing: Standing) -> Settled | None:
        if fetched.not_modified:
            return self._confirm(fetched, ask, standing)
        planned = self._plan(fetched.status, fetched.fields, fetched, ask)
        if planned.is_negative:
            return self._remember_absence(planned, fetched, ask)
        if not planned.may_store:
            return self._pass(planned, fetched, ask)
        found_id = key_id(ask.key, planned.variant)
        self._store.commit(writer_of(fetched), found_id, record_of(planned, fetched.status), ask.key)
        if planned.names:
            self._store.remember(key_id(ask.key), _varying(planned), ask.key)
        self._journal.filled(ask, fetched)
        return Outcome.STORED, found_id, ""

    def _confirm(self, fetched: Fetched, ask: Ask, standing: Standing) -> Settled | None:
        record = self._index.find(standing.key_id)
        if record is None or standing.known is None:
            return None
        stored = Metadata.unpack(record.meta)
        fields = merged(stored.end_to_end(), standing.known, fetched.fields)
        planned = self._plan(record.status, fields, fetched, ask)
        made = record_of(planned, record.status)
        if not planned.may_store or planned.names != stored.vary:
            return None  # it may not be kept as it is: fetched again, and then passed on
        changes = made._asdict()
        for name in ("digest", "size", "tier"):
            del changes[name]
        if self._store.refresh(standing.key_id, changes) is None:
            return None
        self._journal.filled(ask, fetched)
        return Outcome.REVALIDATED, standing.key_id, ""

    def _pass(self, planned: Plan, fetched: Fetched, ask: Ask) -> Settled:
        one_time = secrets.token_bytes(KEY_ID_BYTES)
        record = record_of(planned, fetched.status)
        record = record._replace(flags=record.flags | Flag.PASSED)
        self._store.commit(writer_of(fetched), one_time, record, "")
        self._passed.append((monotonic() + self._kept_s, one_time))
        self._journal.filled(ask, fetched)
        return Outcome.PASSED, one_time, ""

    def _remember_absence(self, planned: Plan, fetched: Fetched, ask: Ask) -> Settled:
        found_id = key_id(ask.key)
        record = record_of(planned, fetched.status)._replace(flags=Flag.NEGATIVE, meta=b"")
        self._store.remember(found_id, record, ask.key)
        self._journal.filled(ask, fetched)
        return Outcome.REFUSED, b"", NotFound.reason

    def _stand_in(self, ask: Ask, standing: Standing, refusal: Rejection) -> Done:
        """Return that the stale response stands in for a failing origin.

        Raises:
            Rejection: it may not.
        """
        record = standing.record
        can_stand_in = (
            record is not None
            and refusal.reason in STANDS_IN_FOR
            and not record.flags & (Flag.MUST_REVALIDATE | Flag.NO_CACHE | Flag.NEGATIVE)
            and time() * 1000 < record.sie_ms
        )
        if not can_stand_in:
            raise refusal
        log("live_fill", "warning", reason=refusal.reason, stale=True, corr_id=ask.corr_id)
        return Done(ask.ticket, Outcome.STALE, standing.key_id)

    def _find(self, ask: Ask) -> tuple[bytes, str, FillRecord | None]:
        """Return id, variant and record of what an Ask is for."""
        found_id, variant = key_id(ask.key), ""
        record = self._index.find(found_id)
        if record is not None and record.flags & Flag.VARIES:
            variant = variant_of(Metadata.unpack(record.meta).vary, ask.fields)
            found_id = key_id(ask.key, variant)
            record = self._index.find(found_id)
        return found_id, variant, record

    def _plan(self, status: int, fields: list[tuple[str, str]], fetched: Fetched, ask: Ask) -> Plan:
        return plan(
            status,
            fields,
            request_ms=fetched.request_ms,
            response_ms=fetched.response_ms,
            fill=self._fill,
            variant_fields=ask.fields,
            has_authorization=ask.has_authorization,
            request_cache_control=ask.cache_control,
        )


def writer_of(fetched: Fetched) -> Writer:
    """Return the writer of a body that was fetched, for `Store.commit`."""
    assert isinstance(fetched.sink, StoreSink)
    return fetched.sink.writer


def record_of(planned: Plan, status: int) -> FillRecord:
    """Return the record of what is planned; `Store.commit` adds the body."""
    flags = Flag(0)
    if planned.must_revalidate:
        flags |= Flag.MUST_REVALIDATE
    if planned.no_cache:
        flags |= Flag.NO_CACHE
    meta = Metadata.of(planned.fields, planned.known, planned.names).pack(META_MAX)
    return FillRecord(
        digest=NO_DIGEST,
        size=0,
        tier=MEMORY,
        flags=flags,
        stored_ms=planned.stored_ms,
        age_s=planned.age_s,
        fresh_ms=planned.fresh_ms,
        swr_ms=planned.swr_ms,
        sie_ms=planned.sie_ms,
        status=status,
        meta=meta,
    )


def _varying(planned: Plan) -> FillRecord:
    """Return the record that says by which fields the responses of a key are told apart."""
    meta = Metadata.of([], Known(None, None), planned.names).pack(META_MAX)
    return record_of(planned, 0)._replace(flags=Flag.VARIES, meta=meta)


def verdict_of(record: FillRecord, metadata: Metadata, cache_control: str) -> Verdict:
    """Return what is to be done with a record for a request's Cache-Control."""
    return verdict(
        stored_ms=record.stored_ms,
        age_s=record.age_s,
        fresh_ms=record.fresh_ms,
        swr_ms=record.swr_ms,
        now_ms=int(time() * 1000),
        must_revalidate=bool(record.flags & Flag.MUST_REVALIDATE),
        no_cache=bool(record.flags & Flag.NO_CACHE),
        has_validator=not metadata.known.is_empty,
        request_cache_control=cache_control,
    )
