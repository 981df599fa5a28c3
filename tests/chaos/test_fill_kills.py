"""Sidecars and workers killed in the middle of fills: what is served is always what the origin has."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import Authority, Live, Origin, flags, https_origin
from tests.origins import ok
from tests.servers import Server, eventually
from tests.wire import Answer, Connection, Cut
from tests.worlds import etag

SECONDS = 8
KEYS = 60
MEMORY_BYTES = "2MiB"  # of bodies of up to 300 KiB: things are evicted all the time


def content(path: str) -> bytes:
    """Return what the origin has at a path; sizes differ, and so does every byte of them."""
    chance = random.Random(path)
    return chance.randbytes(chance.choice((10, 3_000, 70_000, 300_000)))


@pytest.fixture
def live(serve: Callable[..., Server], tmp_path: Path) -> Iterator[Live]:
    authority = Authority(tmp_path)
    with https_origin(authority) as origin:
        origin.default = lambda path: answer(origin, path)
        given = flags(origin, authority, cas__memory_bytes=MEMORY_BYTES, cas__path=tmp_path / "cas")
        yield Live(serve(*given), origin)


def answer(origin: Origin, path: str) -> bytes:
    """Answer late, as an origin far away does, and with little time to be fresh."""
    time.sleep(random.random() / 20)
    return ok(content(path), "Cache-Control: max-age=1, stale-while-revalidate=1")


class Reader(threading.Thread):
    """A client that asks for keys at random, and keeps what is not right."""

    def __init__(self, live: Live, seed: int) -> None:
        super().__init__(daemon=True)
        self._live = live
        self._chance = random.Random(seed)
        self._is_stopped = threading.Event()
        self.right = 0
        self.cut = 0
        self.refused: list[str] = []
        self.wrong: list[tuple[str, int]] = []

    def run(self) -> None:
        while not self._is_stopped.is_set():
            try:
                with Connection(self._live.server.assets, 15) as connection:
                    while not self._is_stopped.is_set():
                        self._ask(connection, f"k{self._chance.randrange(KEYS)}")
            except (Cut, OSError):
                self.cut += 1  # its worker was killed

    def stop(self) -> None:
        self._is_stopped.set()
        self.join(20)

    def _ask(self, connection: Connection, key: str) -> None:
        told = connection.ask(f"/edge/assets/{key}")
        if told.status == 200:
            self._judge(key, told)
        else:
            self.refused.append(told["X-Reason"])

    def _judge(self, key: str, told: Answer) -> None:
        body = content(f"/{key}")
        if told.body == body and told["ETag"] == etag(body):
            self.right += 1
        else:
            self.wrong.append((key, len(told.body)))


def test_whatever_is_killed_every_body_is_the_origins_and_hashes_to_its_tag(live: Live) -> None:
    readers = [Reader(live, seed) for seed in range(6)]
    for reader in readers:
        reader.start()
    until_s = time.monotonic() + SECONDS
    kills = 0
    chance = random.Random(7)
    while time.monotonic() < until_s:
        time.sleep(0.3 + chance.random() * 0.5)
        children = [child for child in live.server.children() if "svc-edge" in child.name()]
        roles = {child.name(): child for child in children}
        victim = roles.get("svc-edge: sidec") or chance.choice(children)
        if kills % 3 == 2:
            victim = chance.choice(children)
        os.kill(victim.pid, signal.SIGKILL)
        kills += 1
    eventually(lambda: len(live.server.workers()) == 2, within=15)
    for reader in readers:
        reader.stop()
    assert [wrong for reader in readers for wrong in reader.wrong] == []
    assert sum(reader.right for reader in readers) > 100
    assert kills > 5
    allowed = {"timeout", "fill_unavailable", "busy"}
    assert {reason for reader in readers for reason in reader.refused} <= allowed
    fresh = live.get("after-all-that")
    assert (fresh.status, fresh.body) == (200, content("/after-all-that"))
