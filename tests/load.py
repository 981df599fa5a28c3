"""Clients that keep an instance busy and check every byte that they get.

Each client is a thread with one request in flight at a time. A body must be the bytes on
the disk and hash to its entity tag. What goes wrong is recorded, not raised, and judged by
the test, which knows what it has done meanwhile.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from blake3 import blake3

from tests.servers import Place
from tests.wire import Answer, Connection, Cut
from tests.worlds import World, etag

Fields = Mapping[str, str]


class Target(NamedTuple):
    """A request with the answer that it must get; `tag` is that of the whole representation."""

    path: str
    fields: Fields
    status: int
    body: bytes
    tag: str

    def is_answered_by(self, answer: Answer) -> bool:
        """Whether an answer is right to the last byte."""
        if (answer.status, answer.body) != (self.status, self.body) or answer["ETag"] != self.tag:
            return False
        return self.status != 200 or self.tag == f'"b3:{blake3(answer.body).hexdigest()}"'


class Failure(NamedTuple):
    """A request without a whole answer.

    Attributes:
        began_s, ended_s: monotonic seconds when it was begun and when it was given up.
        process: what the ids of the process that answers on the connection begin with; empty
            where it had not answered yet.
        received: bytes of this answer that had come.
        idle_s: how long the connection had been silent before.
    """

    began_s: float
    ended_s: float
    process: str
    received: int
    idle_s: float
    error: str


def targets(world: World) -> list[Target]:
    """Return requests of every kind for a world: whole, in part, unchanged, tiles."""
    found = []
    for path, data in world.files.items():
        if not path.isascii() or "%" in path or path.startswith("style.css"):
            continue
        tag = etag(data)
        found.append(Target(path, {}, 200, data, tag))
        found.append(Target(path, {"If-None-Match": tag}, 304, b"", tag))
        if len(data) > 100:
            middle = len(data) // 2
            found.append(Target(path, {"Range": f"bytes={middle}-"}, 206, data[middle:], tag))
            found.append(Target(path, {"Range": "bytes=7-99"}, 206, data[7:100], tag))
    for tile_id, data in world.tiles.items():
        found.append(Target(world.tile_path(tile_id), {}, 200, data, etag(data)))
    return found


class Stoppable(Protocol):
    """A thread that ends when it is told to."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def join(self, timeout: float) -> None: ...
    def is_alive(self) -> bool: ...


class Client(threading.Thread):
    """Asks for one target after another until it is told to stop, or nobody listens any more.

    Args:
        keeps_alive: False opens a connection for each request.
        pause_s: how long it waits between two requests.

    Attributes:
        answered: requests with a right answer.
        wrong: paths that were answered with anything else.
        refused_s: when a connection was refused, which ends the client.
        slowest_s: the longest that a right answer took, connecting included.
    """

    def __init__(
        self,
        place: Place,
        asked: Sequence[Target],
        seed: int,
        *,
        keeps_alive: bool = True,
        pause_s: float = 0.0,
    ) -> None:
        super().__init__(name=f"client {seed}", daemon=True)
        self.answered = 0
        self.wrong: list[str] = []
        self.failures: list[Failure] = []
        self.refused_s: float | None = None
        self.slowest_s = 0.0
        self._place = place
        self._asked = asked
        self._random = random.Random(seed)
        self._keeps_alive = keeps_alive
        self._pause_s = pause_s
        self._is_told = threading.Event()
        self._connection: Connection | None = None
        self._process = ""
        self._last_s = 0.0

    def stop(self) -> None:
        """Finish the request in flight, then end."""
        self._is_told.set()

    def run(self) -> None:
        while not self._is_told.is_set():
            began_s = time.monotonic()
            try:
                self._ask(self._random.choice(self._asked))
            except ConnectionRefusedError:
                self.refused_s = time.monotonic()
                break
            except OSError as error:
                self._note(began_s, error)
            else:
                self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
            if self._pause_s:
                self._is_told.wait(self._pause_s)
        self._close()

    def _ask(self, target: Target) -> None:
        if self._connection is None:
            self._connection = Connection(self._place)
            self._last_s = time.monotonic()
        answer = self._connection.ask(f"/edge/assets/{target.path}", fields=target.fields)
        self._process = answer["X-Corr-ID"].split("-")[0]
        self._last_s = time.monotonic()
        if target.is_answered_by(answer):
            self.answered += 1
        else:
            self.wrong.append(f"{target.path} {answer.status} {answer.all('X-Reason')}")
        if answer.is_last or not self._keeps_alive:
            self._close()

    def _note(self, began_s: float, error: OSError) -> None:
        received = error.received if isinstance(error, Cut) else 0
        idle_s = began_s - self._last_s if self._connection is not None else 0.0
        self.failures.append(Failure(began_s, time.monotonic(), self._process, received, idle_s, repr(error)))
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._process = ""


class Stalls(threading.Thread):
    """How late this machine lets a thread run that wants to: what a time bound must be forgiven."""

    PERIOD_S = 0.01

    def __init__(self) -> None:
        super().__init__(name="stalls", daemon=True)
        self._is_told = threading.Event()
        self._seen: list[tuple[float, float]] = []

    def run(self) -> None:
        while not self._is_told.is_set():
            began_s = time.monotonic()
            time.sleep(self.PERIOD_S)
            late_s = time.monotonic() - began_s - self.PERIOD_S
            self._seen.append((began_s, late_s))

    def stop(self) -> None:
        """End."""
        self._is_told.set()

    def since(self, moment_s: float) -> float:
        """Return for how long threads have not run since then, summed over noticeable stalls."""
        return sum(late_s for began_s, late_s in self._seen if began_s >= moment_s - 1 and late_s > 0.02)


@contextmanager
def running(*threads: Stoppable) -> Iterator[None]:
    """Run clients meanwhile; all have ended afterwards."""
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


def failures(clients: Sequence[Client]) -> list[Failure]:
    """Return all failures."""
    return [failure for client in clients for failure in client.failures]
