"""The processes of an instance: where they run, what they hold, how they end, what they leave."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.servers import SHM, Server, eventually, is_alive
from tests.wire import Connection, ask
from tests.worlds import World

Serve = Callable[..., Server]

CPUS = sorted(os.sched_getaffinity(0))


def listening(pid: int) -> set[int]:
    """Return the inodes of the TCP sockets of a process that listen."""
    # proc(5), net/tcp: field 3 is the state, 0A is LISTEN; field 9 the inode
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    inodes = {int(fields[9]) for fields in map(str.split, lines) if fields[3] == "0A"}
    return inodes & sockets(pid)


def sockets(pid: int) -> set[int]:
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()


def test_one_worker_a_cpu_each_with_its_own_socket_and_name(serve: Serve, world: World) -> None:
    server = serve(*world.packs)
    workers = server.workers()
    assert sorted(workers) == list(range(len(workers)))
    assert 1 <= len(workers) <= len(CPUS)
    pinned = [os.sched_getaffinity(pid) for pid in workers.values()]
    assert all(len(cpus) == 1 for cpus in pinned)
    assert len(set.union(*pinned)) == len(workers)
    assert all({told["cpu"]} == os.sched_getaffinity(told["pid"]) for told in server.status()["workers"])
    assert [title(workers[slot]) for slot in sorted(workers)] == [
        f"svc-edge: worker {slot}" for slot in sorted(workers)
    ]
    assert title(server.sidecar()) == "svc-edge: sidecar"


def test_workers_asked_for_share_the_cpus(serve: Serve, world: World) -> None:
    server = serve("--workers", 3, *world.packs)
    pinned = [os.sched_getaffinity(pid) for _, pid in sorted(server.workers().items())]
    assert pinned == [{CPUS[slot % len(CPUS)]} for slot in range(3)]


def test_no_process_holds_another_ones_socket(serve: Serve, world: World) -> None:
    server = serve("--workers", 3, *world.packs)
    held = {pid: listening(pid) for pid in (*server.workers().values(), server.sidecar())}
    assert all(len(inodes) == 1 for inodes in held.values())
    assert len(set.union(*held.values())) == 4
    assert listening(server.pid) == set.union(*held.values())
    victim = server.workers()[1]
    os.kill(victim, signal.SIGKILL)
    successor = eventually(lambda: (now := server.workers().get(1)) not in (None, victim) and now)
    assert listening(successor) == held[victim]
    with Connection(server.assets) as connection:
        connection.ask("/healthz")
        clients = [len(sockets(pid) - listening(pid)) for pid in server.workers().values()]
        assert sum(clients) >= 1


def test_a_drained_instance_leaves_nothing(serve: Serve, world: World) -> None:
    server = serve("--workers", 2, *world.packs)
    names = server.shared_names()
    assert {name.rsplit("-", 1)[1] for name in names} >= {"metrics", "scoreboard", "digests"}
    for name in names:
        assert stat.S_IMODE((SHM / name).stat().st_mode) & 0o077 == 0
    children = server.children()
    assert len(children) == 3
    assert server.stop() == 0
    assert server.shared_names() == []
    assert not [child for child in children if is_alive(child.pid)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stop_signal_drains(serve: Serve, world: World, number: signal.Signals) -> None:
    server = serve("--workers", 1, *world.packs)
    with Connection(server.assets) as connection:
        assert connection.ask("/edge/assets/hello.txt").status == 200
        server.signal(number)
        assert server.wait() == 0
    assert server.events("drain")[0]["reason"] == number.name


def test_a_terminals_interrupt_of_the_whole_group_drains(serve: Serve, world: World) -> None:
    server = serve("--workers", 2, *world.packs)
    os.killpg(server.pid, signal.SIGINT)
    assert server.wait() == 0
    assert {line["status"] for line in server.events("worker_exit")} == {0}


def test_a_second_stop_signal_ends_at_once_with_1(serve: Serve, world: World) -> None:
    server = serve("--workers", 1, *world.packs)
    with Connection(server.assets, receive_buffer=4096) as connection:
        connection.send("/edge/assets/big.bin")
        connection.read_head()  # and nothing of the body: the drain must wait
        server.signal(signal.SIGTERM)
        eventually(lambda: server.events("drain"))
        assert server.process.poll() is None
        server.is_killed = True
        begun = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait(2) == 1
        assert time.monotonic() - begun < 2
    assert server.shared_names() == []


def test_a_drain_that_takes_too_long_ends_with_1(serve: Serve, world: World, tmp_path: Path) -> None:
    config = tmp_path / "svc-edge.yaml"
    config.write_text("workers:\n  count: 1\n  drain_timeout: 300ms\n")
    server = serve("--config", config, *world.packs)
    with Connection(server.assets, receive_buffer=4096) as connection:
        connection.send("/edge/assets/big.bin")
        connection.read_head()
        server.is_killed = True
        server.signal(signal.SIGTERM)
        assert server.wait(10) == 1
    assert any("timeout" in line["reason"] for line in server.events("drain"))
    assert server.shared_names() == []


def test_children_die_with_their_supervisor_and_the_next_start_cleans_up(serve: Serve, world: World) -> None:
    server = serve("--workers", 2, *world.packs)
    children = server.children()
    server.kill()
    eventually(lambda: not [child for child in children if is_alive(child.pid)], within=2)
    with pytest.raises(ConnectionRefusedError):
        Connection(server.assets)
    places = ("--bind", server.assets, "--metrics", server.admin)
    successor = serve(*places, "--workers", 2, *world.packs)
    assert (successor.assets, successor.admin) == (server.assets, server.admin)
    assert ask(successor.assets, "/edge/assets/hello.txt").status == 200
    assert server.shared_names() == []  # whoever starts first has removed them


def test_a_running_instance_keeps_its_names_when_another_starts(serve: Serve, world: World) -> None:
    first = serve("--workers", 1, *world.packs)
    names = first.shared_names()
    serve("--workers", 1, *world.packs)
    assert first.shared_names() == names
    assert ask(first.assets, "/edge/assets/hello.txt").status == 200


def written_since(begun_ns: int, *roots: Path) -> list[Path]:
    """Return files and folders below `roots` that changed since then."""
    return [
        path for root in roots for path in (root, *root.rglob("*")) if path.lstat().st_ctime_ns >= begun_ns
    ]


def open_for_writing(pid: int) -> set[str]:
    """Return the paths of regular files that a process holds open for writing."""
    found = set()
    for file in psutil.Process(pid).open_files():
        if "r" not in file.mode or "+" in file.mode or "a" in file.mode or "w" in file.mode:
            found.add(file.path)
    return found


def test_nothing_is_written_to_a_disk(serve: Serve, world: World, tmp_path: Path) -> None:
    home, here, scratch = (tmp_path / name for name in ("home", "here", "scratch"))
    for folder in (home, here, scratch):
        folder.mkdir()
        folder.chmod(0o555)  # counts for whoever is not root; the times count for everyone
    begun_ns = time.time_ns()
    environ = {
        "HOME": str(home),
        "TMPDIR": str(scratch),
        "XDG_CACHE_HOME": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    server = serve("--workers", 2, "--amnesia", *world.packs, environ=environ, cwd=here)
    with Connection(server.assets) as connection:
        for path in (
            "hello.txt",
            "big.bin",
            "nothing.txt",
            "world.pmtiles",
            "world.json",
            world.tile_path(7),
        ):
            connection.ask(f"/edge/assets/{path}")
    ask(server.admin, "/metrics")
    pids = (server.pid, *server.workers().values(), server.sidecar())
    shared = {f"{SHM}/{name}" for name in server.shared_names()}
    for pid in pids:
        others = open_for_writing(pid) - {str(server.out)}
        assert not [path for path in others if not any(path.startswith(name) for name in shared)]
    assert server.stop() == 0
    assert written_since(begun_ns, home, here, scratch, world.archive.parent) == []
