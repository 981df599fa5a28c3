"""`log.file`: every process writes to it, and SIGUSR1 has all of them open it again."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server, eventually, run
from tests.wire import Connection, ask
from tests.worlds import World

Serve = Callable[..., Server]


def told(*paths: Path) -> list[dict[str, Any]]:
    """Return the whole lines of some files; each must be one JSON object."""
    texts = (path.read_text() for path in paths if path.exists())
    whole = [text[: text.rfind("\n") + 1] for text in texts]  # the last line may be half there
    return [json.loads(line) for text in whole for line in text.splitlines()]


def has(path: Path, text: str) -> bool:
    """Whether a file is there, with a text in it."""
    return path.exists() and text in path.read_text()


def with_file(serve: Serve, world: World, path: Path, *more: str) -> Server:
    """Start an instance that logs every request to a file."""
    settings = ("--set", f"log.file={path}", "--set", "log.access_sample=1", *more)
    server = serve("--workers", 2, *settings, *world.packs, log=path)
    assert server.assets
    assert server.admin
    return server


def test_every_process_writes_to_the_file_and_nothing_to_standard_output(
    serve: Serve, world: World, tmp_path: Path
) -> None:
    path = tmp_path / "edge.log"
    server = with_file(serve, world, path)
    for _ in range(20):
        assert ask(server.assets, "/edge/assets/hello.txt").status == 200
    assert server.stop() == 0
    lines = told(path)
    assert {line["slot"] for line in lines if line["event"] == "request"} == {0, 1}
    assert {"start", "ready", "pack_mount", "drain", "worker_exit"} <= {line["event"] for line in lines}
    assert server.out.read_text() == ""
    assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0


def test_a_file_that_is_moved_away_is_followed_until_sigusr1_and_no_line_is_lost(
    serve: Serve, world: World, tmp_path: Path
) -> None:
    path, moved = tmp_path / "edge.log", tmp_path / "edge.log.1"
    server = with_file(serve, world, path)
    is_over = threading.Event()
    asked = [0, 0]

    def storm(number: int) -> None:
        while not is_over.is_set():
            with Connection(server.assets) as connection:
                for _ in range(10):
                    assert connection.ask("/edge/assets/absent").status == 404
                    asked[number] += 1

    threads = [threading.Thread(target=storm, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: sum(asked) > 200)
    path.rename(moved)
    before = sum(asked)
    eventually(lambda: sum(asked) > before + 200)
    assert not path.exists()
    server.signal(signal.SIGUSR1)
    eventually(lambda: path.exists() and {line.get("slot") for line in told(path)} >= {0, 1, None}, within=10)
    old = moved.stat().st_size
    before = sum(asked)
    eventually(lambda: sum(asked) > before + 200)
    is_over.set()
    for thread in threads:
        thread.join()
    assert moved.stat().st_size == old
    assert server.stop() == 0
    lines = told(moved, path)
    assert len([line for line in lines if line["event"] == "reject"]) == sum(asked)
    assert not [line for line in lines if line["event"] == "log_dropped"]
    assert [line["reason"] for line in lines if line["event"] == "logs_reopened"] == ["SIGUSR1"]
    assert {line["event"] for line in told(path)} >= {"drain", "worker_exit"}
    assert any(line["event"] == "worker_exit" and line["component"] == "sidecar" for line in told(path))


def test_a_file_that_cannot_be_opened_again_is_told_and_the_old_one_is_written_on(
    serve: Serve, world: World, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "edge.log"
    server = with_file(serve, world, path)
    folder.rename(tmp_path / "moved")
    server.signal(signal.SIGUSR1)
    moved = tmp_path / "moved" / "edge.log"
    eventually(lambda: [line for line in told(moved) if line["event"] == "logs_reopened"])
    ask(server.assets, "/edge/assets/absent")
    eventually(lambda: [line for line in told(moved) if line["event"] == "reject"])
    troubles = [line for line in told(moved) if line["event"] == "logs_reopened" and line["level"] == "error"]
    assert troubles
    assert all("cannot open" in line["reason"] for line in troubles)


def test_a_reload_takes_over_another_file(serve: Serve, world: World, tmp_path: Path) -> None:
    first, second, config = tmp_path / "first.log", tmp_path / "second.log", tmp_path / "svc-edge.yaml"
    config.write_text(f"log:\n  file: {first}\n")
    server = serve("--workers", 1, "--config", config, *world.packs, log=first)
    config.write_text(f"log:\n  file: {second}\n")
    server.signal(signal.SIGHUP)
    eventually(lambda: second.exists() and server.status()["generation"] == 2, within=15)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert {line.get("component") for line in told(second)} >= {"worker", "sidecar"}


def test_a_folder_that_is_not_there_is_a_configuration_error(world: World, tmp_path: Path) -> None:
    ended = run("check", "--set", f"log.file={tmp_path}/absent/edge.log", *world.packs)
    assert ended.returncode == 78
    assert "log.file" in ended.stderr
    assert "make the folder" in ended.stderr


def test_under_amnesia_nothing_is_written_to_a_log_file(serve: Serve, world: World, tmp_path: Path) -> None:
    path = tmp_path / "edge.log"
    settings = ("--set", f"log.file={path}", "--set", "security.amnesia=true")
    server = serve("--workers", 1, *settings, *world.packs)
    assert not path.exists()
    assert [line for line in server.events("start") if "log.file" in line.get("reason", "")]
    assert ask(server.admin, "/readyz").status == 503
    os.kill(server.pid, signal.SIGUSR1)
    eventually(lambda: server.events("logs_reopened"))
    assert not path.exists()


def test_the_rotation_that_is_shipped_works_with_logrotate(
    serve: Serve, world: World, tmp_path: Path
) -> None:
    logrotate = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    if logrotate is None:
        pytest.skip("logrotate is not installed: apt-get install logrotate")
    folder = tmp_path / "svc-edge"
    folder.mkdir(mode=0o755)
    audit = folder / "audit.log"
    settings = ("--set", "audit.enabled=true", "--set", f"audit.path={audit}")
    server = with_file(serve, world, folder / "edge.log", *settings)
    shipped = (Path(__file__).parents[2] / "deploy" / "svc-edge.logrotate").read_text()
    signalled = re.sub(r"systemctl kill .*", f"kill -USR1 {server.pid}", shipped)
    assert signalled != shipped
    config = tmp_path / "logrotate.conf"
    config.write_text(f"su root root\n{signalled}".replace("/var/log/svc-edge", str(folder)))
    if os.getuid() != 0:
        config.write_text(config.read_text().replace("su root root\n", ""))
    for number in range(3):
        ask(server.assets, "/edge/assets/absent", fields={"X-Corr-ID": f"c-{number}"})
        eventually(partial(has, audit, f"c-{number}"))
        eventually(partial(has, server.log, f"c-{number}"))
        rotate = [logrotate, "--force", "--state", str(tmp_path / "state"), str(config)]
        subprocess.run(rotate, check=True, capture_output=True)
        eventually(partial(has, audit, "rotated"))
        eventually(server.log.exists)
    assert server.stop() == 0
    assert sorted(path.name for path in folder.glob("audit.log*")) == [
        "audit.log",
        "audit.log.1",
        "audit.log.2.gz",
        "audit.log.3.gz",
    ]
    parts = [gzip.decompress((folder / f"audit.log.{number}.gz").read_bytes()) for number in (3, 2)]
    whole = b"".join([*parts, (folder / "audit.log.1").read_bytes(), audit.read_bytes()])
    ended = run("audit", "verify", "-", input=whole.decode())
    assert ended.returncode == 0, ended.stderr
    lines = [gzip.decompress((folder / f"edge.log.{number}.gz").read_bytes()) for number in (3, 2)]
    lines += [(folder / "edge.log.1").read_bytes(), server.log.read_bytes()]
    told = [json.loads(line) for line in b"".join(lines).splitlines()]
    assert [line["corr_id"] for line in told if line["event"] == "reject"] == ["c-0", "c-1", "c-2"]
