"""Processes killed under load: who notices, and for how long.

A killed worker takes with it the requests that it was answering, and nothing else: what waits
in its socket's queue is answered by its successor, other workers do not notice, and no answer
is ever wrong. A killed sidecar takes nothing with it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from tests.load import Client, Failure, Stalls, Target, failures, running, targets
from tests.scrapes import counts, grown, sample
from tests.servers import Server, age_s, eventually, is_alive
from tests.wire import Connection
from tests.worlds import make_world, noise, write

Serve = Callable[..., Server]

KILLS = 20
SLOTS = 3
BACK_WITHIN_S = 1.0
ADMIN_BACK_WITHIN_S = 2.0
QUEUED = 24  # connections opened right after a kill: that none meets the dead slot is a matter of 2 ** -14
SETTLED_S = 1.2  # a worker that dies younger is not replaced at once


@pytest.fixture
def asked(tmp_path: Path) -> list[Target]:
    world = make_world(tmp_path)
    for number in range(40):
        path = f"many/{number}.bin"
        world.files[path] = noise(number, 100 + number * number * 150)
        write(world.folder / path, world.files[path])
    return targets(world)


@pytest.fixture
def server(serve: Serve, asked: list[Target], tmp_path: Path) -> Server:
    return serve("--workers", SLOTS, tmp_path / "assets", tmp_path / "world.pmtiles")


class Kill:
    """One kill: when, and what the ids of the victim begin with."""

    def __init__(self, pid: int, process: str) -> None:
        self.process = process
        self.at_s = time.monotonic()
        os.kill(pid, signal.SIGKILL)

    def explains(self, failure: Failure) -> bool:
        """Whether a request failed because it was on the victim."""
        if failure.process:
            return failure.process == self.process
        return failure.began_s <= self.at_s <= failure.ended_s


def processes(server: Server) -> dict[int, str]:
    """Return by pid of each worker what its correlation ids begin with."""
    found: dict[int, str] = {}
    workers = server.workers()
    connections = []
    while len(found) < len(workers):
        connection = Connection(server.assets)
        connections.append(connection)
        process = connection.ask("/healthz")["X-Corr-ID"].split("-")[0]
        port = connection.socket.getsockname()[1]
        if process not in found.values():
            (pid,) = [pid for pid in workers.values() if port in client_ports(pid)]
            found[pid] = process
    for connection in connections:
        connection.close()
    return found


def client_ports(pid: int) -> set[int]:
    """Return the ports of the clients that a process has a connection with."""
    return {end.raddr.port for end in psutil.Process(pid).net_connections("tcp") if end.raddr}


def settle(pid: int) -> None:
    """Wait until a process is old enough that its death is answered at once."""
    eventually(lambda: age_s(pid) > SETTLED_S)


def ask_at_once(server: Server, asked: Target, count: int) -> set[str]:
    """Open connections, then send a request on each, then read; return who has answered."""
    connections = [Connection(server.assets) for _ in range(count)]
    for connection in connections:
        connection.send(f"/edge/assets/{asked.path}", fields=asked.fields)
    answers = [connection.read() for connection in connections]
    for connection in connections:
        connection.close()
    assert all(asked.is_answered_by(answer) for answer in answers)
    return {answer["X-Corr-ID"].split("-")[0] for answer in answers}


def judge(clients: Sequence[Client], kills: Sequence[Kill]) -> None:
    """See that every answer was right and that only what was in flight on a victim failed."""
    assert [client.wrong for client in clients if client.wrong] == []
    assert all(client.refused_s is None for client in clients)
    assert all(client.answered > KILLS for client in clients)
    unexplained = [one for one in failures(clients) if not any(kill.explains(one) for kill in kills)]
    assert unexplained == []
    for kill in kills:
        # One request in flight each; one more may be sent before the reset of the first is seen.
        assert all(sum(map(kill.explains, client.failures)) <= 2 for client in clients)


def test_a_killed_worker_takes_only_its_requests_with_it(server: Server, asked: list[Target]) -> None:
    clients = [Client(server.assets, asked, seed) for seed in range(5)]
    clients += [Client(server.assets, asked, seed, keeps_alive=False, pause_s=0.002) for seed in (5, 6)]
    kills: list[Kill] = []
    stalls = Stalls()
    with running(stalls, *clients):
        for number in range(KILLS):
            victim = eventually(lambda slot=number % SLOTS: server.workers().get(slot))
            settle(victim)
            before = processes(server)
            kills.append(Kill(victim, before[victim]))
            answered_by = ask_at_once(server, asked[0], QUEUED)
            took_s = time.monotonic() - kills[-1].at_s
            assert took_s - stalls.since(kills[-1].at_s) < BACK_WITHIN_S
            assert answered_by - set(before.values()), "nobody has asked the successor"
            assert before[victim] not in answered_by
            assert not is_alive(victim)
    judge(clients, kills)
    restarts = sample("service_restarts_total", component="worker")
    assert counts(server)[restarts] == KILLS
    assert len(server.workers()) == SLOTS


def test_a_killed_sidecar_disturbs_no_request(server: Server, asked: list[Target]) -> None:
    clients = [Client(server.assets, asked, seed) for seed in range(4)]
    clients += [Client(server.assets, asked, 4, keeps_alive=False, pause_s=0.002)]
    stalls = Stalls()
    with running(stalls, *clients):
        for _ in range(3):
            before, sidecar = counts(server), server.sidecar()
            settle(sidecar)
            killed_s = time.monotonic()
            os.kill(sidecar, signal.SIGKILL)
            # A connection waits in the queue until there is somebody to answer it.
            assert eventually(lambda sidecar=sidecar: has_successor(server, sidecar), within=10)
            took_s = time.monotonic() - killed_s
            assert took_s - stalls.since(killed_s) < ADMIN_BACK_WITHIN_S
            assert not [by for by in grown(before, counts(server)).values() if by < 0]
    judge(clients, [])
    assert counts(server)[sample("service_restarts_total", component="sidecar")] == 3
    assert counts(server)[sample("service_restarts_total", component="worker")] == 0


def has_successor(server: Server, sidecar: int) -> bool:
    try:
        return server.sidecar() != sidecar
    except OSError:  # a connection that the one who was killed had taken
        return False


def test_all_workers_killed_at_once_come_back(server: Server, asked: list[Target]) -> None:
    victims = server.workers().values()
    for victim in victims:
        settle(victim)
    stalls = Stalls()
    with running(stalls):
        killed_s = time.monotonic()
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        ask_at_once(server, asked[0], QUEUED)
        assert time.monotonic() - killed_s - stalls.since(killed_s) < BACK_WITHIN_S
    assert set(server.workers().values()).isdisjoint(victims)
