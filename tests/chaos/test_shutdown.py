"""SIGTERM under load: whoever was let in is served, whoever was not is refused, and nobody is cut.

No failure: a connection that is refused once the entrance is closed, and a connection that the
server closes while it is idle. A failure: a reset, a short body, a wrong one, and a request that
was sent in time on a living connection and got no answer.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from tests.chaos.downloads import SLOW_READS, SlowDownload
from tests.load import Client, Failure, Stalls, Target, failures, running, targets
from tests.servers import Server, eventually
from tests.wire import Connection, Cut
from tests.worlds import World, etag, make_world, noise, write

Serve = Callable[..., Server]

UNREADY_WITHIN_S = 0.2
HUNG_UP_AFTER_S = 0.25  # a connection that was silent for so long may be closed
SLOW_BYTES = 6 << 20
CYCLES = [
    pytest.param(delay_s, id=f"{delay_s * 1000:.0f} ms")
    for delay_s in (0, 0.03, 0.07, 0.1, 0.2, 0.35, 0.5, 0.6)
]


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = make_world(tmp_path)
    for number in range(20):
        made.files[f"{number}.bin"] = noise(number, 1000 + number * 20_000)
        write(made.folder / f"{number}.bin", made.files[f"{number}.bin"])
    write(made.folder / "slow.bin", noise(50, SLOW_BYTES))
    return made


@pytest.fixture
def asked(world: World) -> list[Target]:
    return targets(world)


def may_be(failure: Failure) -> bool:
    """Whether it was only an idle connection that the server had closed."""
    return failure.idle_s >= HUNG_UP_AFTER_S - 0.05 and failure.received == 0


@pytest.mark.parametrize("delay_s", CYCLES)
def test_no_request_fails_when_the_instance_is_told_to_stop(
    serve: Serve, world: World, asked: list[Target], delay_s: float
) -> None:
    server = serve("--workers", 2, *world.packs)
    busy = [Client(server.assets, asked, seed) for seed in range(4)]
    fresh = [Client(server.assets, asked, seed, keeps_alive=False, pause_s=0.001) for seed in (4, 5)]
    at_ease = [Client(server.assets, asked, seed, pause_s=0.05 * seed) for seed in (6, 7)]
    clients = [*busy, *fresh, *at_ease]
    slow = SlowDownload(server.assets, "slow.bin", pause_s=0.05)
    with running(*clients):
        slow.start()
        eventually(lambda: all(client.answered for client in clients) and slow.has_begun.is_set())
        time.sleep(delay_s)  # the moment is what varies
        assert server.stop() == 0
        slow.join(10)
        eventually(lambda: all(client.refused_s is not None for client in clients), within=10)
    assert slow.error is None
    assert slow.digest == blake3((world.folder / "slow.bin").read_bytes()).digest()
    assert [client.wrong for client in clients if client.wrong] == []
    assert failures(busy + fresh) == []
    assert [failure for failure in failures(at_ease) if not may_be(failure)] == []
    assert {line["status"] for line in server.events("worker_exit")} == {0}


class ReadinessWatch:
    """Asks /readyz on both planes, over and over, and says when each first told that it is not ready."""

    def __init__(self, server: Server) -> None:
        self._connections = {"assets": Connection(server.assets), "admin": Connection(server.admin)}
        self.unready_s: dict[str, float] = {}

    def look(self) -> bool:
        """Look once; return whether both have told."""
        for plane, connection in self._connections.items():
            if plane in self.unready_s:
                continue
            answer = connection.ask("/readyz")
            if answer.status == 503:
                self.unready_s[plane] = time.monotonic()
                assert json.loads(answer.body)["missing"] == ["not_draining"]
                assert answer["Retry-After"] == "1"
        return len(self.unready_s) == len(self._connections)

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()


@pytest.fixture
def slow(serve: Serve, world: World) -> Iterator[tuple[Server, SlowDownload]]:
    """An instance with a download that takes two seconds more."""
    server = serve("--workers", 2, *world.packs)
    download = SlowDownload(server.assets, "slow.bin", pause_s=2 / SLOW_READS)
    download.start()
    download.has_begun.wait(10)
    yield server, download
    download.join(20)


def test_readiness_fails_at_once_on_both_planes_while_downloads_finish(
    slow: tuple[Server, SlowDownload],
) -> None:
    server, download = slow
    watch, stalls = ReadinessWatch(server), Stalls()
    with running(stalls):
        assert not watch.look()
        told_s = time.monotonic()
        server.signal(signal.SIGTERM)
        eventually(watch.look)
        late_s = max(watch.unready_s.values()) - told_s - stalls.since(told_s)
    watch.close()
    assert late_s < UNREADY_WITHIN_S
    assert download.is_alive()
    assert json.loads(server.ask_admin("/api/status"))["stopping"]
    assert server.wait() == 0
    download.join(10)
    assert download.error is None
    assert len(download.digest) == 32


def test_kept_connections_are_asked_to_close(slow: tuple[Server, SlowDownload], world: World) -> None:
    server, _ = slow
    with Connection(server.assets) as connection:
        assert not connection.ask("/edge/assets/0.bin").is_last
        server.signal(signal.SIGTERM)
        answer = eventually(lambda: (told := connection.ask("/edge/assets/0.bin")).is_last and told)
        assert (answer.status, answer["ETag"]) == (200, etag(world.files["0.bin"]))
        assert connection.is_ended()
    assert server.wait() == 0


def test_an_idle_connection_is_hung_up_and_does_not_hold_the_instance(serve: Serve, world: World) -> None:
    server = serve("--workers", 2, *world.packs)
    idle = [Connection(server.assets) for _ in range(8)]
    for connection in idle[:4]:
        connection.ask("/edge/assets/hello.txt")
    begun_s = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun_s < 5
    for connection in idle:
        assert connection.is_ended()
        connection.close()


def test_nobody_gets_in_while_downloads_finish(slow: tuple[Server, SlowDownload]) -> None:
    server, download = slow
    server.signal(signal.SIGTERM)
    eventually(lambda: server.events("drain"))
    with pytest.raises(TimeoutError):
        Connection(server.assets, timeout=0.5)
    assert server.wait() == 0
    with pytest.raises((ConnectionRefusedError, Cut)):
        Connection(server.assets)
    download.join(10)
    assert download.error is None
