"""Under systemd and in containers: what the manager hears, process 1, and few CPUs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.servers import COMMAND, HOST, SHM, Server, eventually, is_alive, run
from tests.wire import ask
from tests.worlds import World

Serve = Callable[..., Server]

CPUS = sorted(os.sched_getaffinity(0))
WATCHDOG_S = 1.0
PLACES = ("--bind", f"{HOST}:0", "--metrics", f"{HOST}:0")


class Message(NamedTuple):
    """One datagram of sd_notify(3)."""

    text: str
    pid: int
    at_s: float


class Manager:
    """The end of systemd: every message, with its sender and when it came."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self.heard: list[Message] = []

    def listen(self) -> list[Message]:
        """Take what has come; return all that ever came."""
        try:
            while True:
                data, ancillary, _, _ = self._channel.recvmsg(4096, 256)
                ((_, _, credentials),) = ancillary
                pid = struct.unpack("3i", credentials)[0]  # unix(7): struct ucred
                self.heard.append(Message(data.decode(), pid, time.monotonic()))
        except BlockingIOError:
            return self.heard

    def texts(self) -> list[str]:
        """Return what was said but that the watchdog was fed."""
        return [message.text for message in self.listen() if message.text != "WATCHDOG=1"]

    def beats(self) -> int:
        """Return how often the watchdog was fed."""
        return len(self.listen()) - len(self.texts())


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        channel.bind(str(tmp_path / "notify"))
        channel.setblocking(False)
        yield Manager(channel)


@pytest.fixture
def managed(serve: Serve, world: World, tmp_path: Path, manager: Manager) -> Server:
    """An instance that was started by the manager, which expects to hear of it once a second."""
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
    return serve("--workers", 2, *world.packs, environ=environ)


def test_a_service_manager_hears_of_the_whole_life(managed: Server, manager: Manager) -> None:
    serving = f"STATUS=serving http://{managed.assets} with 2 workers, admin http://{managed.admin}"
    assert eventually(manager.texts) == [f"READY=1\n{serving}"]
    managed.signal(signal.SIGUSR2)
    eventually(lambda: manager.texts()[1:] == ["STATUS=not ready: not_draining"])
    managed.signal(signal.SIGUSR2)
    eventually(lambda: manager.texts()[2:] == [serving])
    assert managed.stop() == 0
    assert [text for text in manager.texts()[3:] if "STOPPING" in text] == ["STOPPING=1\nSTATUS=draining"]
    assert {message.pid for message in manager.heard} == {managed.pid}  # NotifyAccess=main hears no other


def test_the_watchdog_hears_twice_an_interval_while_the_loop_turns(managed: Server, manager: Manager) -> None:
    eventually(lambda: manager.beats() > 4)
    beats = [message.at_s for message in manager.heard if message.text == "WATCHDOG=1"]
    assert (beats[-1] - beats[0]) / (len(beats) - 1) < WATCHDOG_S * 0.9
    managed.signal(signal.SIGSTOP)
    try:
        time.sleep(0.1)  # what was under way
        before = manager.beats()
        time.sleep(WATCHDOG_S)
        assert manager.beats() == before
    finally:
        managed.signal(signal.SIGCONT)
    eventually(lambda: manager.beats() > before)


def test_the_watchdog_hears_of_a_drain_until_its_end(managed: Server, manager: Manager, world: World) -> None:
    with socket.create_connection(managed.assets) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /edge/assets/big.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: client.recv(1))  # the rest keeps the instance from ending
        managed.signal(signal.SIGTERM)
        eventually(lambda: "STOPPING=1\nSTATUS=draining" in manager.texts())
        before = manager.beats()
        eventually(lambda: manager.beats() >= before + 3)
        assert managed.process.poll() is None
    assert managed.wait() == 0


def test_a_manager_that_is_gone_is_no_reason_to_end(
    managed: Server, manager: Manager, tmp_path: Path
) -> None:
    (tmp_path / "notify").unlink()
    managed.signal(signal.SIGUSR2)
    eventually(lambda: managed.events("ready_changed"))
    assert ask(managed.assets, "/edge/assets/hello.txt").status == 200


# The first process of a container: whatever is orphaned becomes its child.

# Before it becomes the server it forks a child, which forks another once there is a file "fork", and
# leaves it; that one ends once there is a file "end". Nobody waits for longer than a minute.
FIRST = """
import ctypes, os, sys, time
how, folder, *command = sys.argv[1:]

def wait_for(name):
    for _ in range(6000):
        if os.path.exists(os.path.join(folder, name)):
            return
        time.sleep(0.01)

if how == "subreaper":
    PR_SET_CHILD_SUBREAPER = 36  # prctl(2); it is kept by exec
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
else:
    assert os.getpid() == 1
if os.fork() == 0:
    wait_for("fork")
    if os.fork() == 0:
        wait_for("end")
    os._exit(0)
os.execv(command[0], command)
"""
UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def may_unshare() -> bool:
    """Whether this process may make PID namespaces."""
    if shutil.which(UNSHARE[0]) is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


class First(NamedTuple):
    """An instance that orphans come to: what was started, the supervisor, and its first child's folder."""

    server: Server
    supervisor: psutil.Process
    folder: Path

    def tell(self, word: str) -> None:
        """Let who waits for a word go on."""
        (self.folder / word).touch()

    def children(self) -> set[int]:
        """Return who has not been reaped, by the pids of this namespace."""
        return {child.pid for child in self.supervisor.children()}


@pytest.fixture(params=["namespace", "subreaper"])
def first(request: pytest.FixtureRequest, serve: Serve, world: World, tmp_path: Path) -> First:
    folder = tmp_path / "words"
    folder.mkdir()
    command = [sys.executable, "-c", FIRST, request.param, str(folder), *COMMAND, "serve", *PLACES]
    command += ["--workers", "2", *map(str, world.packs)]
    if request.param == "subreaper":
        server = serve(bare=command)
        return First(server, psutil.Process(server.pid), folder)
    if not may_unshare():
        pytest.skip("PID namespaces are not permitted here (unshare --pid); the subreaper stands in")
    server = serve(bare=[*UNSHARE, *command])
    (supervisor,) = psutil.Process(server.pid).children()
    return First(server, supervisor, folder)


def test_the_first_process_reaps_orphans_and_drains(first: First) -> None:
    at_first = first.children()
    assert len(at_first) == 4  # sidecar, two workers, and the one that waits
    first.tell("fork")
    (orphan,) = eventually(lambda: first.children() - at_first)
    eventually(lambda: len(first.children()) == 4)  # the one that waited is reaped
    assert is_alive(orphan)
    first.tell("end")
    eventually(lambda: len(first.children()) == 3)
    assert not psutil.pid_exists(orphan)
    assert first.server.events("worker_exit") == []
    assert ask(first.server.assets, "/edge/assets/hello.txt").status == 200
    first.supervisor.send_signal(signal.SIGTERM)
    assert first.server.wait() == 0
    assert len(first.server.events("worker_exit")) == 3


def test_the_first_process_replaces_a_worker_and_leaves_nothing(first: First) -> None:
    first.tell("end")
    first.tell("fork")
    eventually(lambda: len(first.children()) == 3)
    victim = next(child for child in first.supervisor.children() if "worker 0" in " ".join(child.cmdline()))
    victim.kill()
    eventually(lambda: first.server.events("worker_exit"))
    assert first.server.events("worker_exit")[0]["signal"] == "SIGKILL"
    eventually(lambda: len(first.children()) == 3)
    named = re.compile(rf"svc-edge-[0-9a-f]+-{first.server.events('ready')[0]['pid']}-")
    begun_s = first.supervisor.create_time()
    own = [path for path in SHM.iterdir() if named.match(path.name) and path.stat().st_mtime >= begun_s]
    assert own
    first.supervisor.send_signal(signal.SIGTERM)
    assert first.server.wait() == 0
    assert [path for path in own if path.exists()] == []


# Few CPUs


@pytest.mark.skipif(
    shutil.which("taskset") is None, reason="taskset is not installed (apt-get install util-linux)"
)
@pytest.mark.parametrize("cpus", [CPUS[:1], CPUS[-1:], CPUS[:2]], ids=["the first", "the last", "two"])
def test_the_affinity_decides_how_many_workers_there_are_and_where(
    serve: Serve, world: World, cpus: list[int]
) -> None:
    few = ["taskset", "--cpu-list", ",".join(map(str, cpus))]
    server = serve(bare=[*few, *COMMAND, "serve", *PLACES, *map(str, world.packs)])
    workers = server.workers()
    assert len(workers) <= len(cpus)  # a quota may allow less than the affinity
    assert server.events("ready")[0]["workers"] == len(workers) >= 1
    pinned = [os.sched_getaffinity(pid) for pid in workers.values()]
    assert all(len(each) == 1 for each in pinned)
    assert len(set.union(*pinned)) == len(workers)
    assert set.union(*pinned) <= set(cpus)
    assert {told["cpu"] for told in server.status()["workers"]} == set.union(*pinned)


def test_a_cpu_that_may_not_be_used_is_refused(world: World, tmp_path: Path) -> None:
    config = tmp_path / "svc-edge.yaml"
    config.write_text(f"workers:\n  pin: [{CPUS[-1] + 1000}]\n")
    done = run("serve", "--config", config, *PLACES, *world.packs)
    assert done.returncode == 78
    assert "workers.pin" in done.stderr
