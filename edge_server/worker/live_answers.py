"""Answers in live mode: a filled object under its path, and what a replayed request has waited for.

Process      a worker. The cache of prepared answers keeps a `LiveAnswer`; `Replayed` is made for one request.
Memory       the variants of a path, prepared; see filled.py.

Specification: RFC 9111 section 4; what is stale when is decided by ``fill/freshness.py``.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

from edge_server import guard
from edge_server.errors import Miss, NotFound, Refused
from edge_server.fill.freshness import Verdict, verdict
from edge_server.fill.messages import Outcome
from edge_server.fill.vary import variant_of
from edge_server.http.paths import asset_key
from edge_server.shm.fill_index import Flag, key_id
from edge_server.worker.filled import Held
from edge_server.worker.parking import Result
from edge_server.worker.prepared import FETCHED, FILLED, Environ, Prepared

if TYPE_CHECKING:
    from edge_server.worker.live import Live

# PERF: plain numbers; `int & IntFlag` is a call of Python code, and costs a hit several microseconds.
_VARIES, _NEGATIVE, _NO_CACHE = int(Flag.VARIES), int(Flag.NEGATIVE), int(Flag.NO_CACHE)
_LARGE = int(Flag.LARGE)
_ASKS_FIRST = _NO_CACHE | _NEGATIVE

HIT = "svc-edge; hit"
_TOLD = {
    Outcome.STORED: "svc-edge; fwd=miss; stored",
    Outcome.REVALIDATED: "svc-edge; fwd=stale; fwd-status=304",
    Outcome.STALE: "svc-edge; fwd=stale",
    Outcome.PASSED: "svc-edge; fwd=bypass",
}
_MAX_VARIANTS = 32  # of one path, prepared at once
_REVALIDATE_EVERY_S = 1.0  # a worker asks so often for an object that it serves stale
REPEATED_S = 1.5  # the guard repeats an answer for a second, and until the next tick
MAX_FIELD = 512  # a longer field of a request selects nothing here


class LiveAnswer:
    """A filled object under one path, in all of its variants.

    Raises:
        Miss: by the constructor, if the fill index has nothing for the key.
    """

    __slots__ = ("_asked_s", "_base", "_key", "_live", "_second", "_sequences", "_told", "_variants")

    kind = FILLED

    def __init__(self, live: Live, key: str) -> None:
        self._live = live
        self._key = key
        self._sequences = live.index.sequences
        self._variants: dict[str, Held] = {}
        self._asked_s = 0.0
        self._second = -1
        self._told: Prepared | None = None
        self._base: Held
        self._look()

    def pick(self, environ: dict[str, Any]) -> Prepared:
        """Return the answer for a request.

        Raises:
            Miss: there is none that may be given without asking the origin.
            NotFound: the origin has said so lately.
        """
        self._live.changes_before = self._live.index.changes
        base = self._base
        if self._sequences[base.place] != base.sequence:
            self._look()
            base = self._base
        now_s = time()
        is_plain = "HTTP_CACHE_CONTROL" not in environ and "HTTP_PRAGMA" not in environ
        flags = base.record.flags
        if flags & _VARIES:
            held = self._variant(environ)
            flags = held.record.flags
        else:
            held = base
        self._live.is_lasting = is_plain and is_lasting(held, now_s)
        if not is_plain or now_s * 1000 >= held.record.fresh_ms or flags & _NO_CACHE:
            self._judge(held, environ, now_s)
        if flags & _NEGATIVE:
            raise NotFound("its origin does not have it")
        if "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MATCH" in environ or "HTTP_IF_RANGE" in environ:
            held.translate(environ)
        if held is not base:
            self._live.index.visited[held.place] = 1
            return held.told(HIT, int(now_s * 1000))
        # PERF: age and visited byte change once a second, and are not made for each request.
        if int(now_s) != self._second or self._told is None:
            self._second = int(now_s)
            self._live.index.visited[held.place] = 1
            self._told = held.told(HIT, int(now_s * 1000))
        return self._told

    def _look(self) -> None:
        self._variants.clear()
        self._told = None
        held = self._live.filled.hold(self._key, key_id(self._key))
        if held is None:
            raise Miss(self._key, "cold")
        self._base = held

    def _variant(self, environ: Environ) -> Held:
        variant = variant_of(self._base.metadata.vary, self._live.request_fields(environ))
        held = self._variants.get(variant)
        if held is not None and self._sequences[held.place] == held.sequence:
            return held
        held = self._live.filled.hold(self._key, key_id(self._key, variant))
        if held is None or held.record.flags & _VARIES:
            raise Miss(self._key, "cold")
        if len(self._variants) >= _MAX_VARIANTS:
            self._variants.clear()
        self._variants[variant] = held
        return held

    def _judge(self, held: Held, environ: Environ, now_s: float) -> None:
        """Raise Miss if a stored response may not be used; see to it that a stale one is fetched again."""
        found = judge(held, cache_control_of(environ), int(now_s * 1000))
        if found is Verdict.FRESH:
            return
        if found is not Verdict.STALE_REVALIDATE_IN_BACKGROUND:
            raise Miss(self._key, "stale" if now_s * 1000 >= held.record.fresh_ms else "bypass")
        if now_s - self._asked_s >= _REVALIDATE_EVERY_S or now_s < self._asked_s:
            self._asked_s = now_s
            self._live.revalidate(self._key, environ, guard.arrived())


class Replayed:
    """What a replayed request is given: the answer that it has waited for, or why there is none."""

    __slots__ = ("_live", "_path_info", "_result")

    kind = FETCHED

    def __init__(self, live: Live, path_info: str, result: Result) -> None:
        self._live = live
        self._path_info = path_info
        self._result = result

    def pick(self, environ: dict[str, Any]) -> Prepared:
        """Return the answer, however fresh it is: it was fetched, or confirmed, for this request.

        Raises:
            Refused: there is none.
            NotFound: its origin does not have it.
            Miss: it has gone again since.
        """
        done, _, rounds = self._result
        if done.outcome is Outcome.REFUSED:
            raise Refused(done.reason, retry_after_s=done.retry_after_s)
        key = asset_key(self._path_info)
        try:
            held = self._live.filled.hold(key, done.key_id)
        except Miss as miss:
            raise Miss(key, miss.cause, rounds) from miss
        if held is None:
            raise Miss(key, "cold", rounds)
        if held.record.flags & _NEGATIVE:
            raise NotFound("its origin does not have it")
        if held.record.flags & _LARGE:
            return self._live.parts.answer(held, key, environ, _TOLD[done.outcome], rounds)
        held.translate(environ)
        return held.told(_TOLD[done.outcome], int(time() * 1000))


def is_lasting(held: Held, now_s: float) -> bool:
    """Return whether a stored response is fresh for longer than its answer is repeated."""
    no_cache = held.record.flags & _ASKS_FIRST
    return not no_cache and (now_s + REPEATED_S) * 1000 < held.record.fresh_ms


def judge(held: Held, control: str, now_ms: int) -> Verdict:
    """Return what is to be done with a stored response for a request's Cache-Control."""
    record = held.record
    return verdict(
        stored_ms=record.stored_ms,
        age_s=record.age_s,
        fresh_ms=record.fresh_ms,
        swr_ms=record.swr_ms,
        now_ms=now_ms,
        must_revalidate=bool(record.flags & Flag.MUST_REVALIDATE),
        no_cache=bool(record.flags & _NO_CACHE),
        has_validator=not held.metadata.known.is_empty,
        request_cache_control=control,
    )


def cache_control_of(environ: Environ) -> str:
    """Return a request's Cache-Control; Pragma stands in for it. Source: RFC 9111 section 5.4."""
    control: str | None = environ.get("HTTP_CACHE_CONTROL")
    if control is None:
        return "no-cache" if "no-cache" in environ.get("HTTP_PRAGMA", "").lower() else ""
    return control[:MAX_FIELD]
