"""What the drill asks for, and whether an answer is the right one to the last byte.

Objects are fetched whole once, before anything is broken; from then on every answer is held
against those bytes, against BLAKE3 (the entity tag is ``"b3:<hex>"``), and against the range or
condition that was asked for. Packs must not change meanwhile.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from blake3 import blake3

from edge_server.config.addresses import Address
from edge_server.drill.answers import Answer, fetch

PREFIX = "/edge/assets/"
CODINGS = "gzip, br"
WHOLE_MAX_BYTES = 256 << 10  # larger ones are asked for in ranges, so that the drill stays light
RANGE_MAX_BYTES = 64 << 10
OBJECT_MAX_BYTES = 16 << 20
MAX_OBJECTS = 64

_TILE_ZOOMS = 3  # below the least zoom of an archive
_PARTIAL, _UNCHANGED = 0.35, 0.1  # shares of requests; the others ask for the whole
_REJECTED = (429, 503)


class Object(NamedTuple):
    """One thing to ask for, as it was at the start."""

    target: str
    tag: str
    body: bytes


class Question(NamedTuple):
    """One request and what its answer must be.

    Attributes:
        start, stop: the bytes asked for, half-open; the whole representation but for a 206.
    """

    of: Object
    fields: Mapping[str, str]
    status: int
    start: int
    stop: int

    def fault_of(self, answer: Answer) -> str:
        """Return what is wrong with an answer; empty where it is right or a proper refusal."""
        if answer.status != self.status:
            if is_rejection(answer):
                return ""
            return f"status {answer.status}, not {self.status} ({answer.fields.get('x-reason', 'no reason')})"
        if answer.fields.get("etag") != self.of.tag:
            return f"ETag {answer.fields.get('etag')}, not {self.of.tag}"
        if self.status == 206:
            wanted = f"bytes {self.start}-{self.stop - 1}/{len(self.of.body)}"
            if answer.fields.get("content-range") != wanted:
                return f"Content-Range {answer.fields.get('content-range')}, not {wanted}"
        if self.status == 200 and self.of.tag != tag_of(answer.body):
            return "the body does not hash to its ETag"
        expected = memoryview(self.of.body)[self.start : self.stop]
        return "" if answer.body == expected else "other bytes than at the start"


def is_rejection(answer: Answer) -> bool:
    """Whether an answer refuses a request for now, properly: with reason and Retry-After."""
    return answer.status in _REJECTED and "x-reason" in answer.fields and "retry-after" in answer.fields


def tag_of(body: bytes) -> str:
    """Return the entity tag that a representation must have."""
    return f'"b3:{blake3(body).hexdigest()}"'


class Questions:
    """An endless mix of requests: whole objects, ranges, conditional ones.

    Args:
        seed: the same seed gives the same requests in the same order.
    """

    def __init__(self, objects: Sequence[Object], seed: int) -> None:
        assert objects
        self._objects = objects
        self._random = random.Random(seed)

    def next(self) -> Question:
        """Return the next one."""
        of = self._random.choice(self._objects)
        size, kind = len(of.body), self._random.random()
        if kind < _UNCHANGED:
            fields = {"Accept-Encoding": CODINGS, "If-None-Match": of.tag}
            return Question(of, fields, 304, 0, 0)
        if size and (kind < _UNCHANGED + _PARTIAL or size > WHOLE_MAX_BYTES):
            start = self._random.randrange(size)
            stop = min(size, start + self._random.randint(1, RANGE_MAX_BYTES))
            fields = {"Accept-Encoding": CODINGS, "Range": f"bytes={start}-{stop - 1}"}
            return Question(of, fields, 206, start, stop)
        return Question(of, {"Accept-Encoding": CODINGS}, 200, 0, size)


async def discover(
    assets: Address, packs: Sequence[Mapping[str, Any]], paths: Sequence[str]
) -> tuple[list[Object], list[str]]:
    """Return what can be asked for, and what is wrong with the objects among it.

    Args:
        packs: what ``/api/status`` tells of them; archives of tiles list what they have.
        paths: further paths below ``/edge/assets/``; a directory cannot be listed from outside.

    Raises:
        OSError, EOFError, asyncio.TimeoutError, BadAnswer: the asset plane does not answer.
    """
    objects: list[Object] = []
    problems: list[str] = []
    for target, is_required in [
        *((PREFIX + quote(path.lstrip("/")), True) for path in paths),
        *[(target, False) for pack in packs async for target in _of_pack(assets, pack)],
    ][:MAX_OBJECTS]:
        answer = await fetch(assets, target, {"Accept-Encoding": CODINGS}, within_s=30)
        if answer.status != 200:
            if is_required:
                problems.append(f"{target}: status {answer.status}")
        elif answer.fields.get("etag") != tag_of(answer.body):
            problems.append(f"{target}: the body does not hash to its ETag")
        else:
            objects.append(Object(target, tag_of(answer.body), answer.body))
    return objects, problems


async def _of_pack(assets: Address, pack: Mapping[str, Any]) -> AsyncIterator[str]:
    """Yield targets of an archive of tiles: the archive if it is small, and tiles near its top."""
    if pack.get("kind") != "pmtiles":
        return
    base = PREFIX + quote(str(pack["name"]))
    if pack.get("bytes", OBJECT_MAX_BYTES + 1) <= OBJECT_MAX_BYTES:
        yield f"{base}.pmtiles"
    answer = await fetch(assets, f"{base}.json")
    if answer.status != 200:
        return
    document = json.loads(answer.body)
    suffix = str(document["tiles"][0]).rpartition(".")[2]
    for z, x, y in _top_tiles(int(document["minzoom"]), int(document["maxzoom"])):
        yield f"{base}/{z}/{x}/{y}.{suffix}"


def _top_tiles(min_zoom: int, max_zoom: int) -> Iterator[tuple[int, int, int]]:
    for z in range(min_zoom, min(max_zoom + 1, min_zoom + _TILE_ZOOMS)):
        side = 1 << z
        step = max(1, side // 4)
        for x in range(0, side, step):
            for y in range(0, side, step):
                yield z, x, y
