"""Processes replaced under load: no request fails, no byte is wrong, and nothing piles up.

In a run of all tests each is bounded in time; SVC_EDGE_SOAK=1 makes it fifty replacements.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from tests.chaos.downloads import SLOW_READS, SlowDownload
from tests.load import Client, Target, failures, running, targets
from tests.scrapes import counts, sample
from tests.servers import SHM, Server, eventually, is_alive
from tests.wire import Connection, ask
from tests.worlds import World, make_world, noise, write

Serve = Callable[..., Server]

IS_SOAK = bool(os.environ.get("SVC_EDGE_SOAK"))
CLIENTS = 64
FOR_S = 8.0
TIMES = 50
RELOADED_WITHIN_S = 20
MOST_FILES = 2 * 6 + 2  # counters and histograms of both letters of three places, and of the supervisor


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture
def config(tmp_path: Path, world: World) -> Path:
    path = tmp_path / "svc-edge.yaml"
    packs = ", ".join(str(pack) for pack in world.packs)
    path.write_text(f"edge: {{packs: [{packs}]}}\nworkers: {{count: 2}}\n")
    return path


@pytest.fixture
def asked(world: World) -> list[Target]:
    return [target for target in targets(world) if len(target.body) < 100_000]


@pytest.fixture
def clients(asked: list[Target]) -> Callable[[Server], list[Client]]:
    def make(server: Server) -> list[Client]:
        busy = [Client(server.assets, asked, seed) for seed in range(CLIENTS - 2)]
        return [*busy, *(Client(server.assets, asked, seed, keeps_alive=False) for seed in (62, 63))]

    return make


def reload(server: Server) -> dict[str, object]:
    """Reload and return how that ended."""
    before = server.status()["last_reload"]["number"]
    server.signal(signal.SIGHUP)
    return eventually(
        lambda: (told := server.status()["last_reload"])["number"] > before and not told["running"] and told,
        within=RELOADED_WITHIN_S,
    )


def judge(clients: Sequence[Client]) -> None:
    """See that every request was answered, and right."""
    assert failures(clients) == []
    assert [client.wrong for client in clients if client.wrong] == []
    assert all(client.refused_s is None for client in clients)
    assert all(client.answered > 0 for client in clients)


class Holdings:
    """What the supervisor of an instance holds on to."""

    def __init__(self, server: Server) -> None:
        process = psutil.Process(server.pid)
        self.descriptors = process.num_fds()
        self.rss_bytes = process.memory_info().rss
        self.names = len(server.shared_names())
        (metrics,) = [name for name in server.shared_names() if name.endswith("-metrics")]
        self.files = len(os.listdir(SHM / metrics))


def settled(server: Server) -> bool:
    """Whether nobody drains any more."""
    return len(server.children()) == 3


def test_no_request_fails_while_the_instance_reloads(
    serve: Serve, config: Path, clients: Callable[[Server], list[Client]]
) -> None:
    server = serve("--config", config)
    for _ in range(2):  # both letters have their files then
        reload(server)
    eventually(lambda: settled(server), within=15)
    before, load, times = Holdings(server), clients(server), 0
    until_s = time.monotonic() + FOR_S
    with running(*load):
        while times < TIMES if IS_SOAK else time.monotonic() < until_s:
            assert reload(server)["result"] == "ok"
            times += 1
    judge(load)
    assert times > 3
    assert server.status()["generation"] == 3 + times
    eventually(lambda: settled(server), within=15)
    after = Holdings(server)
    assert (after.descriptors, after.names) == (before.descriptors, before.names)
    assert after.files <= MOST_FILES
    assert after.rss_bytes < before.rss_bytes + (4 << 20)
    assert counts(server)[sample("service_restarts_total", component="worker")] == 0
    grown_kib = (after.rss_bytes - before.rss_bytes) >> 10
    print(f"supervisor: {after.descriptors} descriptors, {grown_kib} KiB more than before")
    print(f"{times} reloads, {sum(client.answered for client in load)} requests")


def test_no_request_fails_while_workers_are_recycled(
    serve: Serve, config: Path, clients: Callable[[Server], list[Client]]
) -> None:
    server = serve("--config", config, "--set", "workers.max_requests=150")
    load = clients(server)
    until_s = time.monotonic() + FOR_S
    recycled = 0
    with running(*load):
        while recycled < TIMES if IS_SOAK else time.monotonic() < until_s:
            time.sleep(0.1)
            recycled = len(server.events("worker_exit"))
    judge(load)
    assert recycled > 5
    assert {line["status"] for line in server.events("worker_exit")} == {0}
    assert counts(server)[sample("service_restarts_total", component="worker")] == 0
    print(f"{recycled} recycled, {sum(client.answered for client in load)} requests")


def test_an_idle_connection_is_answered_once_more_by_whom_it_has(serve: Serve, config: Path) -> None:
    server = serve("--config", config)
    with Connection(server.assets) as connection:
        first = connection.ask("/edge/assets/hello.txt")
        assert reload(server)["result"] == "ok"
        time.sleep(0.6)  # longer than a stop would bear it
        last = connection.ask("/edge/assets/hello.txt")
        assert (first.is_last, last.is_last, last.body) == (False, True, first.body)
        assert last["X-Corr-ID"].split("-")[0] == first["X-Corr-ID"].split("-")[0]
    eventually(lambda: settled(server))


def test_what_began_with_old_bytes_ends_with_them(serve: Serve, config: Path, world: World) -> None:
    old, new = noise(7, 6 << 20), noise(8, 6 << 20)
    write(world.folder / "slow.bin", old)
    server = serve("--config", config)
    download = SlowDownload(server.assets, "slow.bin", pause_s=2 / SLOW_READS)
    download.start()
    assert download.has_begun.wait(10)
    (world.folder / "slow.bin").rename(world.folder / "was-slow.bin")  # not gone: it has a link
    write(world.folder / "slow.bin", new)
    assert reload(server)["result"] == "ok"
    assert ask(server.assets, "/edge/assets/slow.bin").body == new
    assert download.is_alive()
    download.join(20)
    assert download.error is None
    assert download.is_of(old)
    eventually(lambda: settled(server), within=5)
    assert not [name for name in server.shared_names() if "catalog-g1" in name]


def test_a_drain_is_not_cut_by_a_reload_and_a_stop_ends_both(serve: Serve, config: Path) -> None:
    server = serve("--config", config)
    children = server.children()
    server.signal(signal.SIGHUP)
    eventually(lambda: server.events("reload"))
    assert server.stop() == 0
    assert server.shared_names() == []
    assert not [child for child in children if is_alive(child.pid)]
