"""Repeats: answers that the guard gives again by itself, and how they are counted and logged.

Process      a worker. The hit path tells the guard which answers may be repeated; the guard
             counts what it repeats and samples it, and each tick adds that to tally and log.
Memory       24 MiB of heads at most, in the guard.
Lifetime     an answer is forgotten with its file's place in the cache of prepared answers, and all
             are when the generation changes; of filled objects, see `Live.forget_repeats`.

Nothing is repeated where each request must be decided here: with a rate limit, or where more than
a few of all requests are logged.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_server import guard
from edge_server.observe.logs import AccessLog
from edge_server.observe.metrics import ASSETS, LATENCY_BUCKETS_S
from edge_server.observe.tally import Tally
from edge_server.worker.prepared import FILLED, PACK

_TOLD = [(source, status) for source in (PACK, FILLED) for status in (200, 206, 304, 204)]
KINDS = {told: kind for kind, told in enumerate(_TOLD)}
LARGEST_SAMPLE = 0.05  # of all requests in the log; the guard keeps 256 lines a tick


class Repeats:
    """Counts and logs what the guard has repeated.

    Args:
        is_wanted: whether anything may be repeated.
        access_sample: part of all requests that is logged; with tracing the guard tells more of them.
        generation: one u64 in shared memory.

    Attributes:
        are_on: whether the hit path should tell the guard what to remember.
    """

    def __init__(
        self,
        tally: Tally,
        access_log: AccessLog,
        *,
        is_wanted: bool,
        access_sample: float,
        generation: Sequence[int],
    ) -> None:
        self._outcomes = [tally.outcome(ASSETS, "GET", status, source) for source, status in _TOLD]
        self._access_log = access_log
        self._generation = generation
        self._seen_generation = generation[0]
        self.are_on = is_wanted and access_sample <= LARGEST_SAMPLE
        if self.are_on:
            sample_every = round(1 / access_log.share) if access_log.share > 0 else 0
            guard.repeat(len(_TOLD), LATENCY_BUCKETS_S, sample_every)

    def fold(self) -> None:
        """Add what was repeated since the last call; called at each tick."""
        if not self.are_on:
            return
        if self._generation[0] != self._seen_generation:
            self._seen_generation = self._generation[0]
            guard.forget()
        kinds, samples = guard.repeated()
        for outcome, (within, latency_s, bytes_out) in zip(self._outcomes, kinds, strict=True):
            outcome.add(within, latency_s, bytes_out)
        for kind, (address, _), corr_id, etag, latency_s, bytes_out in samples:
            if not self._access_log.wants_repeated():
                continue
            self._access_log.request(
                route=ASSETS,
                method="GET",
                status=_TOLD[kind][1],
                corr_id=corr_id,
                peer_addr=address,
                latency_s=latency_s,
                bytes_out=bytes_out,
                etag=etag,
                cache=_TOLD[kind][0],
            )
