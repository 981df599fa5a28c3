"""The supervisor with real processes, sockets and signals, and roles that do next to nothing.

Run as a program, this file is an instance: its one argument is JSON with ``folder``, and
optionally ``count``, ``role`` and ``drain_timeout``. A worker answers each connection with
one line: its slot, pid and CPUs.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from edge_server.config.addresses import Address
from edge_server.config.load import Loaded
from edge_server.config.schema import Admin, Config, Edge, PackSource, Workers
from edge_server.errors import EdgeError
from edge_server.roles import Brief, Roles
from edge_server.shm.reload_record import Result
from edge_server.shm.scoreboard import Field, Gate, Row, Scoreboard, WorkerState
from edge_server.shm.segment import owner_of, remove_stale
from edge_server.supervisor import main as supervisor_main
from edge_server.supervisor.main import serve
from tests.servers import START_WITHIN_S, eventually, is_alive


def lives(brief: Brief) -> int:
    """A role: serve until SIGTERM, then take what the queue holds, and end."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    row = brief.scoreboard.row(brief.row)
    row.set(Field.STATE, WorkerState.SERVING)
    while not told:
        select.select([brief.listener], [], [], 0.05)
        answer_all(brief)
    row.set(Field.STATE, WorkerState.DRAINING)
    answer_all(brief)
    return 0


def answer_all(brief: Brief) -> None:
    cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    while True:
        try:
            connection, _ = brief.listener.accept()
        except BlockingIOError:
            return
        with connection:
            connection.sendall(f"{brief.slot} {os.getpid()} {cpus}\n".encode())


def ignores_sigterm(brief: Brief) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    brief.scoreboard.row(brief.row).set(Field.STATE, WorkerState.SERVING)
    while True:
        time.sleep(1)


def dies_at_once(brief: Brief) -> int:
    return 3


def dies_when_it_serves(brief: Brief) -> int:
    brief.scoreboard.row(brief.row).set(Field.STATE, WorkerState.SERVING)
    return 3


def dies_in_the_second_generation(brief: Brief) -> int:
    return lives(brief) if brief.catalog.generation != 2 or brief.slot == 0 else 3


def raises(brief: Brief) -> int:
    raise RuntimeError("no such luck")


def leaves_an_orphan(brief: Brief) -> int:
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.2)
        os._exit(0)
    os.wait()
    return lives(brief)


WORKERS = {
    role.__name__: role
    for role in (
        *(lives, ignores_sigterm, dies_at_once, dies_when_it_serves, raises, leaves_an_orphan),
        dies_in_the_second_generation,
    )
}


def main(asked: dict[str, Any]) -> int:
    config = Config(
        bind_addr=Address("127.0.0.1", asked.get("port", 0)),
        metrics_addr=Address("127.0.0.1", 0),
        edge=Edge(packs=(PackSource(path=asked["folder"]),)),
        workers=Workers(count=asked.get("count", 2), drain_timeout=asked.get("drain_timeout", 5.0)),
        admin=Admin(drain_file=asked.get("drain_file")),
    )
    if asked.get("is_reaper"):
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans come to us, as to the first process
    if asked.get("slow_boot"):
        supervisor_main._import_for_children = lambda: time.sleep(30)
    try:
        roles = Roles(worker=WORKERS[asked.get("role", "lives")], sidecar=lives)
        return serve(config, roles, lambda: Loaded(config, {}), ["a warning"])
    except EdgeError as error:
        print(error, file=sys.stderr)
        return error.exit_code


class Running:
    """An instance in a process of its own, and what it logs."""

    def __init__(self, out: Path, asked: dict[str, Any]) -> None:
        self.out = out
        with out.open("wb") as stdout:
            self.process = subprocess.Popen(
                [sys.executable, __file__, json.dumps(asked)],
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
            )

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.out.read_text().splitlines() if line.endswith("}")]
        return [line for line in lines if line["event"] == name]

    def wait_ready(self) -> dict[str, Any]:
        eventually(lambda: self.events("ready") or self.process.poll() is not None, START_WITHIN_S)
        assert self.events("ready"), self.out.read_text() + (self.process.communicate()[1] or "")
        return self.events("ready")[0]

    @property
    def board(self) -> Scoreboard:
        name = next(name for name in self.names() if name.endswith("-scoreboard"))
        return Scoreboard.attach(name)

    def names(self) -> list[str]:
        owned = [(name, owner_of(name)) for name in os.listdir("/dev/shm")]
        return [name for name, owner in owned if owner is not None and owner.pid == self.process.pid]

    def rows(self, state: WorkerState = WorkerState.SERVING) -> list[Row]:
        return [row for row in self.board.rows() if row.state is state and row.slot >= 0]

    def ask(self) -> tuple[int, int, str]:
        host, port = self.events("ready")[0]["bind_addr"].rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            slot, pid, cpus = connection.makefile().readline().split()
        return int(slot), int(pid), cpus

    def children(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def stop(self, within: float = 5) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within)

    def ends(self, within: float = 10) -> tuple[int, str]:
        """Wait for its end; return exit code and standard error. Nothing of it may be left."""
        _, told = self.process.communicate(timeout=within)
        assert self.names() == []
        return self.process.returncode, told


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    started: list[Running] = []

    def start_one(**asked: Any) -> Running:
        out = tmp_path / f"log-{len(started)}"
        started.append(Running(out, {"folder": str(folder), **asked}))
        return started[-1]

    yield start_one
    for running in started:
        running.process.kill()
        running.process.communicate()
    remove_stale()


def test_it_tells_when_it_is_ready_and_leaves_nothing_behind(start: Callable[..., Running]) -> None:
    running = start()
    ready = running.wait_ready()
    assert (ready["ready"], ready["workers"], ready["mode"]) == (1, 2, "offline")
    assert 0 < ready["start_ms"] < 5000
    assert {running.ask()[0] for _ in range(40)} == {0, 1}
    (begun,) = [event for event in running.events("start") if "workers" in event]
    assert begun["bind_addr"] == ready["bind_addr"]
    assert "a warning" in [event.get("reason") for event in running.events("start")]
    assert running.board.missing_gates == Gate(0)
    running.process.send_signal(signal.SIGTERM)
    assert running.ends() == (0, "")


def test_workers_begin_to_serve_quickly(start: Callable[..., Running]) -> None:
    running = start()
    running.wait_ready()
    beats = [row.get(Field.BEAT_NS) for row in running.rows()]
    assert max(beats) - min(beats) < 500e6, "forked one after the other without waiting"


def test_each_worker_sits_on_its_own_cpu_with_its_own_socket_and_name(start: Callable[..., Running]) -> None:
    running = start()
    running.wait_ready()
    usable = sorted(os.sched_getaffinity(0))
    for row in running.rows():
        assert os.sched_getaffinity(row.pid) == {usable[row.slot % len(usable)]}
        assert row.get(Field.CPU) == usable[row.slot % len(usable)] + 1
        process = psutil.Process(row.pid)
        assert [" ".join(process.cmdline()).strip()] == [f"svc-edge: worker {row.slot}"]
        assert len([place for place in process.net_connections() if place.status == "LISTEN"]) == 1
        soft, hard = process.rlimit(psutil.RLIMIT_NOFILE)
        assert soft == hard


def test_a_killed_worker_is_replaced_at_once_under_the_other_letter(start: Callable[..., Running]) -> None:
    running = start()
    running.wait_ready()
    victim = running.rows()[1]
    pid = victim.pid
    assert victim.identity == "1a"
    time.sleep(1.0)  # younger ones wait a second for their successor
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: [row.identity for row in running.rows()] == ["0a", "1b"], within=0.5)
    (told,) = running.events("worker_exit")
    assert (told["slot"], told["pid"], told["signal"]) == (1, pid, "SIGKILL")
    assert told["lived_s"] >= 1
    assert {running.ask()[0] for _ in range(40)} == {0, 1}
    eventually(lambda: not running.board.is_degraded)
    assert running.events("ready_changed") == [], "another worker served all the while"


def test_connections_wait_for_the_successor_in_the_queue_of_the_slot(start: Callable[..., Running]) -> None:
    running = start(count=1)
    running.wait_ready()
    (row,) = running.rows()
    os.kill(row.pid, signal.SIGKILL)  # within its first second: a second without any worker
    assert running.ask()[0] == 0
    eventually(lambda: [event["ready"] for event in running.events("ready_changed")] == [0, 1])


def test_a_worker_that_is_told_to_end_is_replaced(start: Callable[..., Running]) -> None:
    running = start()
    running.wait_ready()
    time.sleep(1.0)
    os.kill(running.rows()[0].pid, signal.SIGTERM)
    eventually(lambda: [row.identity for row in running.rows()] == ["0b", "1a"])
    eventually(lambda: [event["status"] for event in running.events("worker_exit")] == [0])


def test_a_killed_sidecar_is_replaced(start: Callable[..., Running]) -> None:
    running = start()
    running.wait_ready()
    board = running.board
    first = board.row(board.row_index(-1, "a"))
    time.sleep(1.0)
    os.kill(first.pid, signal.SIGKILL)
    second = board.row(board.row_index(-1, "b"))
    eventually(lambda: second.state is WorkerState.SERVING and first.state is WorkerState.EMPTY)
    assert [event["component"] for event in running.events("worker_exit")] == ["sidecar"]


def test_workers_that_die_after_having_served_are_tried_once_a_second(
    start: Callable[..., Running],
) -> None:
    running = start(role="dies_when_it_serves", count=1)
    eventually(lambda: len(running.events("worker_exit")) >= 3, within=10)
    assert running.process.poll() is None
    times = [event["ts"] for event in running.events("worker_exit")]
    assert len(set(times)) == len(times)
    assert running.board.is_degraded


def test_children_die_with_a_killed_supervisor_and_the_next_start_cleans_up(
    start: Callable[..., Running],
) -> None:
    running = start()
    running.wait_ready()
    children = running.children()
    assert len(children) == 3
    running.process.kill()
    running.process.wait()
    eventually(lambda: not any(map(is_alive, children)), within=2)
    left = running.names()
    assert sorted(name.rsplit("-", 1)[1] for name in left) == [
        "digests",
        "g1",
        "g1",
        "lock",
        "metrics",
        "scoreboard",
    ]
    after = start()
    after.wait_ready()
    assert running.names() == []
    assert len(after.names()) == len(left)


def ask_until_refused(place: tuple[str, int], answers: list[str]) -> None:
    """Connect again and again; note each answer, or what went wrong after the handshake."""
    while True:
        try:
            client = socket.create_connection(place, timeout=0.2)
        except OSError:
            return
        with client:
            client.settimeout(5)
            try:
                answers.append(client.makefile().readline())
            except OSError as error:
                answers.append(repr(error))


def test_every_connection_that_was_made_is_answered_through_a_sigterm(start: Callable[..., Running]) -> None:
    running = start()
    host, port = running.wait_ready()["bind_addr"].rsplit(":", 1)
    answers: list[str] = []
    clients = [
        threading.Thread(target=ask_until_refused, args=((host, int(port)), answers)) for _ in range(8)
    ]
    for client in clients:
        client.start()
    eventually(lambda: len(answers) > 100)
    running.process.send_signal(signal.SIGTERM)
    for client in clients:
        client.join(10)
    assert [answer for answer in answers if not answer.endswith("\n")] == []
    assert running.ends()[0] == 0


def test_readiness_fails_closed_at_once_at_sigterm(start: Callable[..., Running]) -> None:
    running = start(role="ignores_sigterm", drain_timeout=0.5)
    running.wait_ready()
    board = running.board
    running.process.send_signal(signal.SIGTERM)
    eventually(lambda: board.missing_gates == Gate.NOT_DRAINING and board.is_stopping, within=0.2)
    assert running.ends()[0] == 1


def test_workers_that_do_not_drain_in_time_are_killed(start: Callable[..., Running]) -> None:
    running = start(role="ignores_sigterm", drain_timeout=0.3)
    running.wait_ready()
    began = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    code, _ = running.ends()
    assert code == 1
    assert 1.3 <= time.monotonic() - began < 3
    assert [event.get("signal") for event in running.events("worker_exit")] == ["SIGKILL", "SIGKILL", None]


def test_a_second_stop_signal_ends_everything_at_once(start: Callable[..., Running]) -> None:
    running = start(role="ignores_sigterm", drain_timeout=30)
    running.wait_ready()
    children = running.children()
    running.process.send_signal(signal.SIGTERM)
    eventually(lambda: running.events("drain"))
    began = time.monotonic()
    running.process.send_signal(signal.SIGINT)
    assert running.ends()[0] == 1
    assert time.monotonic() - began < 1
    assert not any(map(is_alive, children))


def test_a_stop_signal_during_boot_ends_it(start: Callable[..., Running]) -> None:
    running = start(slow_boot=True)
    eventually(lambda: running.events("pack_mount"))
    running.process.send_signal(signal.SIGTERM)
    assert running.ends(within=3) == (0, "")


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        pytest.param({"role": "dies_at_once"}, 1, "worker 0 died 4 times before", id="dies-at-once"),
        pytest.param({"role": "raises"}, 1, "died 4 times before it served", id="raises"),
        pytest.param({"folder": "/nowhere/at/all"}, 78, "/nowhere/at/all", id="no-such-pack"),
    ],
)
def test_what_cannot_start_says_why(
    start: Callable[..., Running], asked: dict[str, Any], code: int, words: str
) -> None:
    running = start(count=1, **asked)
    ended, told = running.ends()
    assert ended == code
    assert words in told


def test_what_a_role_raises_is_logged(start: Callable[..., Running]) -> None:
    running = start(count=1, role="raises")
    eventually(lambda: running.events("worker_exit"))
    assert running.events("worker_exit")[0]["reason"] == "RuntimeError: no such luck"


def test_a_second_instance_on_the_same_port_is_refused(start: Callable[..., Running]) -> None:
    running = start()
    port = int(running.wait_ready()["bind_addr"].rsplit(":", 1)[1])
    second = start(port=port)
    code, told = second.ends()
    assert code == 69
    assert f"127.0.0.1:{port}: port in use" in told
    assert running.ask()[0] in (0, 1)


def test_sigusr2_fails_readiness_closed_and_a_second_one_opens_it(start: Callable[..., Running]) -> None:
    running = start()
    running.wait_ready()
    board = running.board
    running.process.send_signal(signal.SIGUSR2)
    eventually(lambda: board.missing_gates == Gate.NOT_DRAINING, within=0.5)
    assert running.ask()[0] in (0, 1), "it serves all the while"
    running.process.send_signal(signal.SIGUSR2)
    eventually(lambda: board.missing_gates == Gate(0), within=0.5)
    assert [event["ready"] for event in running.events("ready_changed")] == [0, 1]


def test_an_instance_that_starts_drained_is_up_and_not_ready(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    file = tmp_path / "drain"
    file.touch()
    running = start(drain_file=str(file))
    told = running.wait_ready()
    assert (told["ready"], told["missing"]) == (0, ["not_draining"])
    file.unlink()
    eventually(lambda: [event["ready"] for event in running.events("ready_changed")] == [1], within=0.5)


def test_logs_that_have_no_file_are_not_opened_again_and_that_is_said(start: Callable[..., Running]) -> None:
    running = start()
    running.wait_ready()
    before = running.children()
    running.process.send_signal(signal.SIGUSR1)
    eventually(lambda: [event for event in running.events("reload") if "no file" in event["reason"]])
    assert running.ask()[0] in (0, 1)
    assert running.children() == before


def test_a_generation_whose_workers_die_is_taken_back(start: Callable[..., Running]) -> None:
    running = start(role="dies_in_the_second_generation")
    running.wait_ready()
    board = running.board
    before = {row.slot: row.pid for row in running.rows()}
    running.process.send_signal(signal.SIGHUP)
    eventually(lambda: board.reloads.read().ended == 1, within=15)
    told = board.reloads.read()
    assert (told.result, told.generation) == (Result.FAILED, 1)
    assert "generation 2 dies before it serves" in told.reason
    eventually(lambda: {row.get(Field.GENERATION) for row in running.rows()} == {1})
    after = {row.slot: row.pid for row in running.rows()}
    assert (after[0] == before[0], after[1] == before[1]) == (False, True)
    assert board.generation == 1
    assert running.ask()[0] in (0, 1)
    eventually(lambda: not [name for name in running.names() if "catalog-g2" in name])
    running.process.send_signal(signal.SIGHUP)
    eventually(lambda: board.reloads.read().ended == 2, within=15)
    assert running.stop() == 0


def test_a_terminals_ctrl_c_drains_as_sigterm_does(start: Callable[..., Running]) -> None:
    running = start()
    running.wait_ready()
    for pid in (*running.children(), running.process.pid):
        os.kill(pid, signal.SIGINT)
    assert running.ends()[0] == 0
    assert {event["status"] for event in running.events("worker_exit")} == {0}


def test_orphans_are_reaped(start: Callable[..., Running]) -> None:
    running = start(role="leaves_an_orphan", is_reaper=True)
    running.wait_ready()
    eventually(lambda: len(running.children()) == 3)
    assert len(running.events("worker_exit")) == 0


def test_a_service_manager_is_told(start: Callable[..., Running], tmp_path: Path, monkeypatch: Any) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        running = start()
        assert manager.recv(1000).startswith(b"READY=1\nSTATUS=serving http://127.0.0.1:")
        running.process.send_signal(signal.SIGHUP)
        reloading = manager.recv(1000).decode().splitlines()
        assert reloading[0] == "RELOADING=1"
        name, _, moment = reloading[1].partition("=")
        assert name == "MONOTONIC_USEC"
        assert 0 <= time.monotonic() - int(moment) / 1e6 < 5
        assert manager.recv(1000).startswith(b"READY=1\nSTATUS=serving")
        running.process.send_signal(signal.SIGTERM)
        eventually(lambda: b"STOPPING=1" in manager.recv(1000))


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
