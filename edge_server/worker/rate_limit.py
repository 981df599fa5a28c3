"""The rate limit: one token bucket for all workers, of which each keeps its own account.

Process      a worker; asked once for each request that the limit concerns.
Writes       this worker's row of the ledger (shm/admission.py), which says how the level is known.

What this worker admits counts at once; what the others do is read again when the last reading is
REREAD_S old for each slot, or after a share of what is left that all together could take unseen
without emptying the bucket. Near the limit that is before every admission.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edge_server.shm.admission import THOUSANDTHS, Field, Ledger

REREAD_S = 50e-6  # for each slot: reading takes longer the more there are
_UNSEEN = 8  # part of the bucket that all workers together may take between two readings


def bind_rate_limit(
    ledger: Ledger,
    index: int,
    rate: int,
    burst: int,
    clock: Callable[[], float] = time.monotonic,
) -> Callable[[], bool]:
    """Return a function that takes one request's place, or returns False where there is none.

    Over any time the workers together admit at most ``burst + rate * seconds``, and one for each
    worker and an eighth of the burst if all of them begin at the same instant.

    Args:
        ledger: of this instance.
        index: of this process's own row.
        rate: requests a second, at least 1.
        burst: requests that an idle instance admits at once; 0 counts as 1.
        clock: CLOCK_MONOTONIC in seconds, which all processes share.

    PERF: tests/perf/bench_admission.py; one flat function, its state in its closure.
    """
    capacity, pace = float(max(1, burst)), float(rate)
    own = ledger.row(index)
    admitted_word, lost_word = int(Field.ADMITTED), int(Field.LOST)  # PERF: an enum's member costs a lookup
    admitted, lost = ledger.column(Field.ADMITTED), ledger.column(Field.LOST)
    began_s = ledger.began_s
    reread_s = REREAD_S * ledger.workers
    shares = _UNSEEN * ledger.workers
    count = own[admitted_word]
    spent = 0.0  # admitted by all, and lost, as far as this worker knows
    reread_at = float("-inf")
    share = 0.0

    def take() -> bool:
        nonlocal count, spent, reread_at, share
        now = clock()
        poured = pace * (now - began_s)
        if now >= reread_at or (share < 1 and poured - spent > 1 - capacity):
            spent = sum(admitted) + max(lost) / THOUSANDTHS
            if poured > spent:
                own[lost_word] = int((poured - spent) * THOUSANDTHS) + max(lost)
                spent = poured
            share = (capacity + poured - spent) / shares
            reread_at = now + reread_s
        if poured > spent:  # noqa: PLR1730  PERF: max() costs a sixth of the whole
            spent = poured
        if capacity + poured - spent < 1:
            return False
        share -= 1.0
        spent += 1.0
        count += 1
        own[admitted_word] = count
        return True

    return take
