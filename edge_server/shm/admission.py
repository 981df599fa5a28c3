"""The ledger of admissions: what all workers have let in, from which each knows the one rate limit.

Process      a row is written by the process that has its identity; the header by the supervisor,
             before the first fork.
Memory       one segment: a header of 128 bytes, then a row of 128 bytes for each identity of a
             worker, so that no two writers share a cache line or the pair that is prefetched with it.
Consistency  each field is one aligned 8-byte store, and only grows. Nobody ever clears a row: a
             process goes on from what the last one of its identity wrote, so one that is killed
             at any instruction takes nothing with it and leaves nothing behind.
Lifetime     created before the first fork, unlinked by the supervisor when it exits. The rate
             belongs to it: whoever changes the limit makes a new one.

There is one token bucket, and it is nowhere: with `rate` and `burst` its level at time t is

    burst + rate * (t - began) - admitted - lost

where `admitted` is the sum of all rows and `lost` what was not put in because the bucket was full.
Whoever sees that it is full knows what has been lost since `began`, whatever it was before, and the
greatest of what anyone has seen is true. So nothing is ever added to by two, and no shares are dealt.
"""

from __future__ import annotations

import time
from enum import IntEnum

from edge_server.shm.scoreboard import LETTERS
from edge_server.shm.segment import Segment

ROW_BYTES = 128
# How long a request may wait since its turn of the loop began; before that as long again, at worst: the
# objectives are 40 ms for p95 and 80 ms for p99.
PATIENCE_S = 0.04
THOUSANDTHS = 1000  # of a request, the unit of LOST

MAGIC = int.from_bytes(b"edgeadms", "little")
VERSION = 1

_WORDS = ROW_BYTES // 8  # of a row, and of the header


class Head(IntEnum):
    """Words of the header, as indices into its u64 array."""

    MAGIC = 0
    VERSION = 1
    WORKERS = 2
    BEGAN_NS = 3  # CLOCK_MONOTONIC


class Field(IntEnum):
    """Words of a row, as indices into its u64 array."""

    ADMITTED = 0  # requests let in by all processes of this identity
    LOST = 1  # thousandths of requests that the bucket had no room for, as far as this one has seen
    DROPPED = 2  # connections that the kernel dropped at the slot's socket and that are counted


class Ledger:
    """The rows, and when they began; made by `create`.

    Attributes:
        began_s: CLOCK_MONOTONIC when the bucket was full for the first time.
        workers: how many slots there are; each has two rows, as in the scoreboard.
    """

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._words = segment.buf.cast("Q")
        self.workers = self._words[Head.WORKERS]
        self.began_s = self._words[Head.BEGAN_NS] / 1e9

    @classmethod
    def create(cls, workers: int, name: str, began_s: float | None = None) -> Ledger:
        """Return a new ledger for `workers` slots, in which nothing has been admitted yet.

        Args:
            began_s: CLOCK_MONOTONIC; now unless given.

        Raises:
            ResourceError: the segment cannot be created.
        """
        segment = Segment.create(name, (1 + len(LETTERS) * workers) * ROW_BYTES)
        words = segment.buf.cast("Q")
        words[Head.WORKERS] = workers
        words[Head.BEGAN_NS] = time.monotonic_ns() if began_s is None else round(began_s * 1e9)
        words[Head.VERSION] = VERSION
        words[Head.MAGIC] = MAGIC
        return cls(segment)

    def successor(self, name: str) -> Ledger:
        """Return a ledger for another rate, in which only the dropped connections are counted already.

        Raises:
            ResourceError: the segment cannot be created.
        """
        made = Ledger.create(self.workers, name)
        for index in range(len(LETTERS) * self.workers):
            made.row(index)[Field.DROPPED] = self.row(index)[Field.DROPPED]
        return made

    def row(self, index: int) -> memoryview:
        """Return the 16 u64 of the identity that has this index in the scoreboard."""
        start = (1 + index) * _WORDS
        return self._words[start : start + _WORDS]

    def column(self, field: Field) -> memoryview:
        """Return one field of all rows, in their order."""
        return self._words[_WORDS + field :: _WORDS]

    def close(self) -> None:
        """Drop this process's mapping; rows handed out live until they are gone."""
        self._words.release()
        self.segment.close()
