"""Processes that are stopped or killed over and over: found, replaced, and nothing is left of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.kills import Casualties, Leftovers
from tests.load import Client, Stalls, Target, failures, running, targets
from tests.scrapes import counts, sample
from tests.servers import Server, eventually, is_alive
from tests.wire import Connection, ask
from tests.worlds import World, make_world

Serve = Callable[..., Server]

TIMEOUT_S = 1.0
WITHIN_S = TIMEOUT_S + 1.0
KILLS_FOR_S = 20.0
SLOTS = 4


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture
def asked(world: World) -> list[Target]:
    return [target for target in targets(world) if len(target.body) < 100_000]


@pytest.fixture
def server(serve: Serve, world: World) -> Server:
    return serve("--workers", 2, "--set", f"workers.heartbeat_timeout={TIMEOUT_S}s", *world.packs)


def resume_if_alive(pid: int) -> None:
    if is_alive(pid):
        os.kill(pid, signal.SIGCONT)


def test_a_worker_that_is_stopped_is_killed_and_its_queue_answered(
    server: Server, asked: list[Target]
) -> None:
    victim, other = (server.workers()[slot] for slot in (0, 1))
    stalls = Stalls()
    with running(stalls):
        os.kill(victim, signal.SIGSTOP)
        stopped_s = time.monotonic()
        # Some of these wait in the queue of the one that does not take them.
        connections = [Connection(server.assets) for _ in range(24)]
        for connection in connections:
            connection.send(f"/edge/assets/{asked[0].path}")
        answers = [connection.read() for connection in connections]
        took_s = time.monotonic() - stopped_s - stalls.since(stopped_s)
    for connection in connections:
        connection.close()
    assert all(asked[0].is_answered_by(answer) for answer in answers)
    assert took_s < WITHIN_S
    eventually(lambda: server.workers().get(0) not in (None, victim))
    assert server.workers()[1] == other
    (line,) = server.events("worker_exit")
    assert (line["pid"], line["signal"], line["reason"]) == (
        victim,
        "SIGKILL",
        "no heartbeat for 1 s: killed",
    )
    assert counts(server)[sample("service_restarts_total", component="worker")] == 1


def test_a_sidecar_that_is_stopped_is_replaced_and_no_hit_disturbed(
    server: Server, asked: list[Target]
) -> None:
    victim, stalls = server.sidecar(), Stalls()
    clients = [Client(server.assets, asked, seed) for seed in range(4)]
    with running(stalls, *clients):
        os.kill(victim, signal.SIGSTOP)
        stopped_s = time.monotonic()
        eventually(lambda: not is_alive(victim), within=10)
        eventually(lambda: ask(server.admin, "/healthz").status == 200)
        took_s = time.monotonic() - stopped_s - stalls.since(stopped_s)
    assert took_s < WITHIN_S
    assert failures(clients) == []
    assert [client.wrong for client in clients if client.wrong] == []
    assert counts(server)[sample("service_restarts_total", component="sidecar")] == 1


@pytest.mark.parametrize("everybody", [False, True], ids=["the-supervisor", "the-whole-group"])
def test_nobody_is_killed_because_the_supervisor_was_stopped(server: Server, everybody: bool) -> None:
    children = {child.pid for child in server.children()}
    stop = os.killpg if everybody else os.kill
    stop(server.pid, signal.SIGSTOP)
    time.sleep(TIMEOUT_S + 1.5)
    stop(server.pid, signal.SIGCONT)
    time.sleep(TIMEOUT_S / 2)
    assert {child.pid for child in server.children()} == children
    assert server.events("worker_exit") == []
    victim = server.workers()[1]
    os.kill(victim, signal.SIGSTOP)
    eventually(lambda: not is_alive(victim), within=TIMEOUT_S + 3)


def test_a_worker_that_crashes_over_and_over_is_forked_less_and_less_often(server: Server) -> None:
    def waits() -> list[float]:
        return [line.get("retry_in_s", 0) for line in server.events("worker_exit")]

    def kill_again() -> bool:
        victim = server.workers().get(0)
        if victim is not None and is_alive(victim):
            os.kill(victim, signal.SIGKILL)
        return 2 in waits()

    eventually(kill_again, within=20)
    assert [wait for wait in waits() if wait] == [1, 2]
    assert server.status()["degraded"]
    eventually(lambda: not server.status()["ready"], within=2)
    eventually(lambda: server.status()["ready"], within=6)


def test_children_end_with_a_killed_supervisor_during_a_reload_too(
    serve: Serve, world: World, server: Server
) -> None:
    server.signal(signal.SIGHUP)
    eventually(lambda: server.events("reload"))
    children = [*server.children()]
    server.kill()
    eventually(lambda: not [child for child in children if is_alive(child.pid)], within=2)
    serve("--bind", server.assets, "--metrics", server.admin, "--workers", 2, *world.packs)
    assert server.shared_names() == []


def test_kills_leave_nothing_behind(serve: Serve, world: World, asked: list[Target]) -> None:
    server = serve("--workers", SLOTS, *world.packs)
    casualties, before = Casualties(server), Leftovers(server)
    casualties.kill_for(KILLS_FOR_S)
    print(f"{casualties.kills} kills, {casualties.slowest_s:.3f} s to the slowest replacement")
    assert casualties.kills >= 10
    assert casualties.went_back == []
    assert ask(server.assets, f"/edge/assets/{asked[0].path}").body == asked[0].body
    before.check(Leftovers(server))
    assert sum(casualties.restarts().values()) == casualties.kills
    assert not [child for child in psutil.Process(server.pid).children() if child.status() == "zombie"]
