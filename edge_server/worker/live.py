"""Live: what a worker does about a path that no pack has.

Process      a worker, in bjoern's loop; asked by the hit path once the catalog has said no.
Order        the fill index: fresh, or stale within its window: a hit. Else the request is parked, the sidecar
             is asked, and the replayed request finds what came of it.

`LiveAssets` stands in for `Assets`; what either of them gives is in ``live_answers.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import time
from typing import Any

from edge_server import guard
from edge_server.config.checks import disk_targets
from edge_server.config.schema import Config
from edge_server.errors import Amnesia, BadRequest, Miss, NotFound, Refused, Rejection
from edge_server.fill.blocks import LARGE
from edge_server.fill.cache_control import request_directives
from edge_server.fill.fields import SELECTING, forwarded
from edge_server.fill.messages import Ask, Done, Kind, Outcome
from edge_server.http.paths import asset_key
from edge_server.observe.logs import log
from edge_server.observe.metrics import MISS_CAUSES, metrics
from edge_server.shm.fill_index import FillIndex, key_id
from edge_server.worker.assets import Assets
from edge_server.worker.block_answers import BlockAnswer, Parts, range_wanted
from edge_server.worker.filled import Filled, fields_of
from edge_server.worker.live_answers import MAX_FIELD, LiveAnswer, Replayed, cache_control_of
from edge_server.worker.parking import Parking, Result, Want
from edge_server.worker.prepared import Answer, EmptyTile, Environ

_MAX_ROUNDS = 3  # of parking a request; what it asks for may be evicted before it is replayed


class Live:
    """The live part of one worker.

    Args:
        index: the fill index.
        filled: prepares answers from it.
        parking: where misses wait.
        config: of this worker's generation.
        outgoing: returns the traceparent that a fill for the request being answered goes on with.
    """

    def __init__(
        self,
        index: FillIndex,
        filled: Filled,
        parking: Parking,
        config: Config,
        outgoing: Callable[[], str] = str,
    ) -> None:
        self._outgoing = outgoing
        self.index = index
        self.filled = filled
        self.parking = parking
        self.parts = Parts(index, filled, config)
        self._budget_s = config.ingress.timeout_secs
        self._forward = config.fill.forward_headers
        names = dict.fromkeys((*SELECTING, *(name.lower() for name in self._forward)))
        self._wanted = tuple((name, "HTTP_" + name.upper().replace("-", "_")) for name in names)
        self._is_refused = config.security.amnesia and bool(disk_targets(config))
        # Whether the answer that was picked last stays right for REPEATED_S, whatever is asked meanwhile.
        self.is_lasting = False
        self.changes_before = 0  # of the index, read before that answer was found to stand
        self._repeated_since: tuple[int, int] | None = None  # changes of the index, second of the wall clock
        self._counts = dict.fromkeys(MISS_CAUSES, 0)
        self._counted = dict(self._counts)

    def request_fields(self, environ: Mapping[str, Any]) -> dict[str, str]:
        """Return the fields of a request that may select content."""
        given = fields_of(environ, self._wanted)
        return forwarded(
            {name: value for name, value in given.items() if len(value) <= MAX_FIELD}, self._forward
        )

    def wait(self, environ: Environ, miss: Miss, started: float, corr_id: str) -> Rejection | None:
        """Park the request being answered; return why it is refused instead, or None."""
        if miss.rounds == 0:
            self._counts[miss.cause] += 1
        control = cache_control_of(environ)
        if control and request_directives(control).only_if_cached:
            return Refused("fill_unavailable", "only-if-cached")
        if self._is_refused:
            return Amnesia()
        if miss.rounds >= _MAX_ROUNDS:
            return Refused("fill_unavailable", "evicted again and again")
        fields = self.request_fields(environ)
        want = Want(
            miss.key, tuple(fields.items()), control, "HTTP_AUTHORIZATION" in environ, range_wanted(environ)
        )

        def ask(ticket: int, deadline_s: float) -> Ask:
            return Ask(
                ticket,
                Kind.FILL,
                want.key,
                fields,
                control,
                want.has_authorization,
                deadline_s,
                corr_id,
                want.range,
                self._outgoing(),
            )

        reason = self.parking.park(want, ask, started + self._budget_s, corr_id, miss.rounds)
        if not reason:
            log("park", "debug", corr_id=corr_id, cause=miss.cause, rounds=miss.rounds)
        return Refused(reason) if reason else None

    def replayed(self, path_info: str) -> tuple[Replayed, str | None]:
        """Return what the request being answered, a replayed one, has waited for, and its correlation id."""
        result = self.parking.result()
        if result is None:
            result = Result(Done(0, Outcome.REFUSED, reason="timeout"), "", 0)
        return Replayed(self, path_info, result), result.corr_id or None

    def revalidate(self, key: str, environ: Environ, now_s: float) -> None:
        """Have an object that has been served stale fetched again; nobody waits."""
        parking = self.parking
        parking.tell(
            Ask(
                parking.new_ticket(),
                Kind.REVALIDATE,
                key,
                self.request_fields(environ),
                "",
                False,
                now_s + self._budget_s,
                "",
            )
        )

    def may_repeat(self) -> bool:
        """Return whether the guard may repeat the answer that was picked last, until `forget_repeats`."""
        if self.is_lasting and self._repeated_since is None:
            self._repeated_since = (self.changes_before, int(time()))
        return self.is_lasting

    def forget_repeats(self) -> None:
        """Have answers of filled objects made anew once their age or the index has changed."""
        if self._repeated_since not in (None, (self.index.changes, int(time()))):
            self._repeated_since = None
            guard.forget()

    def fold(self) -> None:
        """Write counts through, and let parking do its part; called at each tick."""
        self.forget_repeats()
        self.parking.sweep()
        for cause, count in self._counts.items():
            grown = count - self._counted[cause]
            if grown:
                metrics().edge_cache_misses_total.labels(cause).inc(grown)
                self._counted[cause] = count


class LiveAssets:
    """Prepares answers: of packs, else of filled objects."""

    def __init__(self, assets: Assets, live: Live) -> None:
        self._assets = assets
        self._live = live

    def is_absent(self, path_info: str) -> bool:
        """Return whether nothing is held for a path, so that whoever asks for it must be parked."""
        try:
            key = asset_key(path_info)
        except BadRequest:
            return False
        index = self._live.index
        is_held = index.locate(key_id(key)) is not None or index.locate(key_id(key, LARGE)) is not None
        return not is_held and not self._assets.is_known(key)

    def prepare(self, path_info: str) -> Answer | EmptyTile:
        """Return the answer for a path as WSGI gives it; see Assets.

        Raises:
            Miss: neither has it.
        """
        try:
            return self._assets.prepare(path_info)
        except NotFound:
            key = asset_key(path_info)
            try:
                return LiveAnswer(self._live, key)
            except Miss:
                return BlockAnswer(self._live, key)
