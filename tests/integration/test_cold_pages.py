"""Bytes that are in no page cache: read by the sidecar, while the worker goes on with others."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from tests.cold import chill
from tests.scrapes import counts, sample
from tests.servers import Server, eventually
from tests.wire import Connection, ask
from tests.worlds import World, etag, make_world, noise, write

LARGE = noise(11, (6 << 20) + 123)  # six windows and a bit, of which the sidecar is to read each ahead
HUGE = noise(12, 9 << 20)  # too big to be hashed by a worker


@pytest.fixture
def cold_world(tmp_path: Path) -> World:
    """Packs of one test, whose files it may chill."""
    world = make_world(tmp_path)
    write(world.folder / "large.bin", LARGE)
    return world


def parks(server: Server, result: str) -> float:
    """Return how many requests waited with that result."""
    return counts(server).get(sample("edge_parks_total", result=result), 0)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Keep a process from running."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def hashed(server: Server) -> float:
    """Have tags computed, so that only sending needs the bytes; return how many requests waited for it."""
    for path in ("big.bin", "large.bin"):
        assert ask(server.assets, f"/edge/assets/{path}", "HEAD").status == 200
    return eventually(lambda: parks(server, "read"))


def test_a_small_cold_entry_is_read_ahead_and_served(serve: Callable[..., Server], cold_world: World) -> None:
    server = serve("--workers", 1, cold_world.folder)
    chill(cold_world.folder / "bytes.bin")
    answer = ask(server.assets, "/edge/assets/bytes.bin")
    data = cold_world.files["bytes.bin"]
    assert (answer.status, answer.body, answer["ETag"]) == (200, data, etag(data))
    eventually(lambda: parks(server, "read") == 1)  # at the next tick
    chill(cold_world.folder / "bytes.bin")
    assert (
        ask(server.assets, "/edge/assets/bytes.bin").body == data
    )  # whoever has its tag needs its bytes as well
    eventually(lambda: parks(server, "read") == 2)


def test_what_is_in_memory_is_served_without_a_detour(
    serve: Callable[..., Server], cold_world: World
) -> None:
    server = serve("--workers", 1, cold_world.folder)
    for path in ("bytes.bin", "edge.bin"):
        for _ in range(3):
            assert ask(server.assets, f"/edge/assets/{path}").body == cold_world.files[path]
    served = sample("http_requests_total", route="/edge/assets", method="GET", status="200")
    eventually(lambda: counts(server).get(served) == 6)
    assert parks(server, "read") == parks(server, "direct") == 0


def test_a_long_cold_body_goes_out_window_by_window(serve: Callable[..., Server], cold_world: World) -> None:
    server = serve("--workers", 1, cold_world.folder)
    hashed(server)
    chill(cold_world.folder / "large.bin")
    answer = ask(server.assets, "/edge/assets/large.bin", fields={"Range": f"bytes=5-{len(LARGE) - 3}"})
    assert (answer.status, answer.body) == (206, LARGE[5:-2])
    assert parks(server, "direct") == 0


def test_a_cold_tile_is_read_ahead_whether_it_is_sent_as_it_is_or_decoded(
    serve: Callable[..., Server], cold_world: World
) -> None:
    server = serve("--workers", 1, cold_world.archive)
    for coding in ("gzip", "identity"):
        chill(cold_world.archive)
        answer = ask(
            server.assets, f"/edge/assets/{cold_world.tile_path(3)}", fields={"Accept-Encoding": coding}
        )
        assert answer.status == 200
        if coding == "identity":
            assert answer.body == cold_world.tiles[3]
    eventually(lambda: parks(server, "read") >= 2)


def test_while_a_disk_hangs_what_is_in_memory_is_served(
    serve: Callable[..., Server], cold_world: World
) -> None:
    server = serve("--workers", 1, cold_world.folder)
    before = hashed(server)
    with Connection(server.assets) as hits, Connection(server.assets) as cold:
        assert hits.ask("/edge/assets/hello.txt").status == 200
        chill(cold_world.folder / "big.bin")
        sidecar = server.sidecar()
        with stopped(sidecar):  # it reads as long as a disk that hangs: the worker has nobody else to ask
            cold.send("/edge/assets/big.bin")
            begun = monotonic()
            for _ in range(50):
                assert hits.ask("/edge/assets/hello.txt").body == cold_world.files["hello.txt"]
            assert monotonic() - begun < 0.9  # of the second after which the worker would read itself
            cold.socket.settimeout(0.05)
            with pytest.raises(TimeoutError):
                cold.read_head()
            cold.socket.settimeout(10)
        assert cold.read().body == cold_world.files["big.bin"]
    eventually(lambda: parks(server, "read") + parks(server, "direct") > before)


def test_a_worker_reads_itself_when_the_sidecar_has_died(
    serve: Callable[..., Server], cold_world: World
) -> None:
    server = serve("--workers", 1, cold_world.folder)
    hashed(server)
    chill(cold_world.folder / "big.bin")
    chill(cold_world.folder / "large.bin")
    os.kill(server.sidecar(), signal.SIGSTOP)  # its successor comes after the heartbeat timeout of 5 s
    begun = monotonic()
    assert ask(server.assets, "/edge/assets/big.bin").body == cold_world.files["big.bin"]
    assert ask(server.assets, "/edge/assets/large.bin").body == LARGE
    assert 0.5 < monotonic() - begun < 4
    eventually(lambda: server.events("worker_exit"), within=20)
    eventually(lambda: parks(server, "direct") >= 2, within=20)


def test_who_leaves_while_the_disk_is_waited_for_is_forgotten(
    serve: Callable[..., Server], cold_world: World
) -> None:
    server = serve("--workers", 1, cold_world.folder)
    hashed(server)
    chill(cold_world.folder / "big.bin")
    with stopped(server.sidecar()):
        with Connection(server.assets) as gone:
            gone.send("/edge/assets/big.bin")
            assert ask(server.assets, "/healthz").status == 200
        assert ask(server.assets, "/edge/assets/hello.txt").status == 200
    eventually(lambda: parks(server, "gone") == 1)
    assert ask(server.assets, "/edge/assets/big.bin").body == cold_world.files["big.bin"]


def test_an_entry_too_big_to_be_hashed_by_a_worker_is_hashed_by_the_sidecar_while_others_are_served(
    serve: Callable[..., Server], cold_world: World
) -> None:
    write(cold_world.folder / "middle.bin", HUGE[: 3 << 20])
    write(cold_world.folder / "huge.bin", HUGE)
    server = serve("--workers", 1, cold_world.folder)
    for path, data in (("middle.bin", HUGE[: 3 << 20]), ("huge.bin", HUGE)):
        answer = ask(server.assets, f"/edge/assets/{path}")
        assert (answer.status, answer["ETag"], answer.body) == (200, etag(data), data)
    eventually(lambda: parks(server, "read") >= 1)
    assert parks(server, "direct") == 0


def test_a_burst_for_one_cold_entry_is_one_errand(serve: Callable[..., Server], cold_world: World) -> None:
    server = serve("--workers", 1, cold_world.folder)
    hashed(server)
    chill(cold_world.folder / "big.bin")
    connections = [Connection(server.assets) for _ in range(40)]
    with stopped(server.sidecar()):
        for connection in connections:
            connection.send("/edge/assets/big.bin")
        assert ask(server.assets, "/healthz").status == 200
    for connection in connections:
        assert connection.read().body == cold_world.files["big.bin"]
        connection.close()


def test_live_mode_has_cold_pages_too(serve: Callable[..., Server], cold_world: World) -> None:
    server = serve(
        "--workers", 1, "--set", "edge.mode=live", "--set", "edge.allow=origin.test", cold_world.folder
    )
    chill(cold_world.folder / "bytes.bin")
    assert ask(server.assets, "/edge/assets/bytes.bin").body == cold_world.files["bytes.bin"]
    eventually(lambda: parks(server, "read") == 1)
