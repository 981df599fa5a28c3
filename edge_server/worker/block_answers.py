"""Answers from blocks: ranges of an object that is too large to be held whole.

Process      a worker, in bjoern's loop.
Memory       no body; an open file for each block of an answer, until it is sent.
Consistency  a block's id names the version that it is of, so one answer has bytes of one version only.
             What is open keeps its bytes, whatever is evicted or purged meanwhile.

Nobody has hashed the whole object, so an answer has no ETag, and If-Range never holds.

Specification: RFC 9110 sections 13.1.5, 14.2 and 15.3.7.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

from edge_server.config.schema import Config
from edge_server.errors import Miss, TooLarge
from edge_server.fill.blocks import BLOCK_BYTES, LARGE, blocks_of, spans_of, variant_of_block
from edge_server.fill.freshness import Verdict
from edge_server.guard import File
from edge_server.shm.fill_index import FillIndex, key_id
from edge_server.worker.bodies import Source
from edge_server.worker.filled import Filled, Held
from edge_server.worker.live_answers import HIT, MAX_FIELD, LiveAnswer, cache_control_of, judge
from edge_server.worker.prepared import FILLED, Environ, Prepared

if TYPE_CHECKING:
    from edge_server.worker.live import Live


class BlockSource:
    """The bytes of a large object, of which some blocks are here; it is read and streamed, not sent.

    Args:
        blocks: by the block's first byte.
    """

    __slots__ = ("_blocks", "guarded")

    def __init__(self, blocks: dict[int, Source]) -> None:
        self.guarded: File | None = None
        self._blocks = blocks

    def read(self, start: int, stop: int) -> bytes:
        """See Source."""
        pieces = []
        while start < stop:
            first = start - start % BLOCK_BYTES
            end = min(stop, first + BLOCK_BYTES)
            pieces.append(self._blocks[first].read(start - first, end - first))
            start = end
        return b"".join(pieces)

    send = read

    def need(self, start: int, stop: int) -> None:
        """See Source."""
        while start < stop:
            first = start - start % BLOCK_BYTES
            end = min(stop, first + BLOCK_BYTES)
            self._blocks[first].need(start - first, end - first)
            start = end

    def check(self) -> None:
        """See Source."""
        for block in self._blocks.values():
            block.check()


class Parts:
    """Makes answers of blocks.

    Args:
        config: `fill.max_object_bytes`, which bounds what one answer takes, and `http.enable_multi_range`.
    """

    def __init__(self, index: FillIndex, filled: Filled, config: Config) -> None:
        self._index = index
        self._filled = filled
        self._max_bytes = config.fill.max_object_bytes
        self._is_multi = config.http.enable_multi_range

    def answer(self, held: Held, key: str, environ: Environ, cache_status: str, rounds: int = 0) -> Prepared:
        """Return the answer to a request for ranges.

        Args:
            held: what is known of the object.

        Raises:
            TooLarge: it asks for all of it, or for too much.
            RangeNotSatisfiable: for what is not there.
            Miss: a block is not here.
        """
        total, etag = held.metadata.total, held.metadata.known.etag or ""
        wanted = range_wanted(environ)
        spans = spans_of(wanted, total, is_multi=self._is_multi) if wanted else None
        blocks = blocks_of(spans or (), total, self._max_bytes)
        if not blocks:
            raise TooLarge(f"{total} bytes")
        sources: dict[int, Source] = {}
        for block in blocks:
            try:
                found = self._filled.hold(key, key_id(key, variant_of_block(etag, block)))
            except Miss as miss:
                raise Miss(key, miss.cause, rounds) from miss
            if found is None:
                raise Miss(key, "cold", rounds)
            self._index.visited[found.place] = 1
            sources[block[0]] = found.prepared.source
        return held.told(cache_status, int(time() * 1000))._replace(source=BlockSource(sources))


class BlockAnswer:
    """A large object under one path.

    Raises:
        Miss: by the constructor, if the fill index knows of none.
    """

    __slots__ = ("_held", "_key", "_live")

    kind = FILLED

    def __init__(self, live: Live, key: str) -> None:
        self._live = live
        self._key = key
        self._held = self._look()

    def pick(self, environ: dict[str, Any]) -> Prepared:
        """Return the answer for a request.

        Raises:
            Miss: there is none that may be given without asking the origin.
            TooLarge, RangeNotSatisfiable: as `Parts.answer`.
        """
        live = self._live
        live.is_lasting = False  # an answer depends on several files
        if live.index.locate(key_id(self._key)) is not None:  # fetched whole since
            return LiveAnswer(live, self._key).pick(environ)
        if live.index.sequences[self._held.place] != self._held.sequence:
            self._held = self._look()
        held = self._held
        if not range_wanted(environ):
            raise Miss(self._key, "bypass")
        if judge(held, cache_control_of(environ), int(time() * 1000)) is not Verdict.FRESH:
            raise Miss(self._key, "stale")
        live.index.visited[held.place] = 1
        return live.parts.answer(held, self._key, environ, HIT)

    def _look(self) -> Held:
        held = self._live.filled.hold(self._key, key_id(self._key, LARGE))
        if held is None:
            raise Miss(self._key, "cold")
        return held


def range_wanted(environ: Environ) -> str:
    """Return the Range field of a request that may be answered with parts, or nothing."""
    if environ["REQUEST_METHOD"] != "GET" or "HTTP_IF_RANGE" in environ:
        return ""
    value: str = environ.get("HTTP_RANGE", "")
    return value if len(value) <= MAX_FIELD else ""
