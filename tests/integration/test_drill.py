"""`svc-edge drill` against a real instance: what passes, what does not, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from edge_server.drill.report import FILES
from tests.servers import COMMAND, Place, Server, environment, eventually, is_alive, run
from tests.wire import ask
from tests.worlds import World

WITHIN_S = 90
# The promises are judged elsewhere on quiet machines; here every other test may run beside it.
PATIENT = ("--ready-within", "10s", "--p95-floor", "2s")
QUICK = ("kill-worker", "kill-sidecar", "latency", "memory")  # these last as long as we like
PATHS = ("hello.txt", "bytes.bin", "edge.bin", "big.bin", "maps/plain.geojson", "empty.bin")


def drill(server: Server, folder: Path, *options: object) -> subprocess.CompletedProcess[str]:
    paths = [part for path in PATHS for part in ("--path", path)]
    return run("drill", "--admin", server.admin, "--report", folder, *paths, *options, within=WITHIN_S)


def told(folder: Path) -> dict[str, Any]:
    document = json.loads((folder / "report.json").read_text())
    assert isinstance(document, dict)
    return document


@pytest.fixture
def server(serve: Callable[..., Server], world: World) -> Server:
    return serve("--workers", 2, *world.packs)


def test_an_instance_survives_every_fault_and_the_report_says_so(server: Server, tmp_path: Path) -> None:
    before, sidecar = server.workers(), server.sidecar()
    faults = [part for name in QUICK for part in ("--fault", name)]
    ended = drill(
        server, tmp_path, "--seconds", 14, *PATIENT, *faults, "--memory", "16MiB", "--error-rate", "0.05"
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "PASSED" in ended.stdout
    assert sorted(os.listdir(tmp_path)) == sorted(FILES)

    report = told(tmp_path)
    injected = {fault["name"] for fault in report["faults"] if not fault["skipped"]}
    assert injected == set(QUICK)
    assert report["passed"]
    assert report["wrong"] == 0
    assert report["load"]["requests"] > 1000
    assert all(check["passed"] for check in report["checks"])

    ET.parse(tmp_path / "latency.svg")
    assert "# Chaos drill: passed" in (tmp_path / "report.md").read_text()
    assert b"service_restarts_total" in (tmp_path / "after.prom").read_bytes()
    assert (tmp_path / "before.prom").read_bytes() != (tmp_path / "after.prom").read_bytes()
    # The slot that was to be killed has another process, and so has the sidecar's place.
    assert server.workers().keys() == before.keys()
    assert server.workers()[0] != before[0]
    assert server.sidecar() != sidecar


def test_a_worker_that_hangs_is_replaced_or_the_report_says_why_not(
    serve: Callable[..., Server], world: World, tmp_path: Path
) -> None:
    server = serve("--workers", 2, "--set", "workers.heartbeat_timeout=2s", *world.packs)
    workers, is_killed = server.workers(), server.status()["heartbeat_timeout_s"] is not None
    ended = drill(server, tmp_path, "--seconds", 12, "--fault", "stop-worker", *PATIENT)
    (fault,) = told(tmp_path)["faults"]
    if is_killed:
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert server.workers()[1] != workers[1]
        assert fault["replaced_s"] < 10
    else:
        assert ended.returncode == 1, ended.stdout + ended.stderr
        assert "at least one fault was injected" in ended.stdout
        assert "workers.heartbeat_timeout" in fault["skipped"]
        assert server.workers() == workers


@contextmanager
def corrupting(to: Place) -> Iterator[Place]:
    """A proxy that passes everything on, and changes one byte in each large piece from the server."""

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_corrupting: bool
    ) -> None:
        try:
            while data := await reader.read(1 << 16):
                if is_corrupting and len(data) > 5000:
                    data = data[:-1] + bytes([data[-1] ^ 1])
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(to.host, to.port)
        await asyncio.gather(
            pump(reader, there_writer, is_corrupting=False), pump(there_reader, writer, is_corrupting=True)
        )

    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Place(*listening.sockets[0].getsockname())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        listening.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def test_a_wrong_byte_fails_the_drill_before_anything_is_broken(server: Server, tmp_path: Path) -> None:
    workers = server.workers()
    with corrupting(server.assets) as liar:
        ended = drill(server, tmp_path, "--seconds", 6, "--fault", "kill-worker", *PATIENT, "--assets", liar)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "FAILED" in ended.stdout
    assert "does not hash to its ETag" in ended.stdout
    assert not told(tmp_path)["passed"]
    assert "# Chaos drill: FAILED" in (tmp_path / "report.md").read_text()
    assert server.workers() == workers


def test_limits_that_nothing_can_keep_fail_the_drill(server: Server, tmp_path: Path) -> None:
    strict = ("--ready-within", "0", "--p95-floor", "0", "--p95-margin", "0")
    ended = drill(server, tmp_path, "--seconds", 6, "--fault", "kill-worker", *strict)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    failed = {check["what"] for check in told(tmp_path)["checks"] if not check["passed"]}
    assert "a successor serves" in failed
    assert told(tmp_path)["wrong"] == 0


def test_a_missing_path_fails_the_drill(server: Server, tmp_path: Path) -> None:
    ended = drill(server, tmp_path, "--seconds", 6, "--fault", "kill-worker", "--path", "nothing.txt")
    assert ended.returncode == 1
    assert "nothing.txt: status 404" in ended.stdout


def test_an_interrupted_drill_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    command = [*COMMAND, "drill", "--admin", str(server.admin), "--report", str(tmp_path / "report")]
    command += ["--seconds", "30", "--fault", "memory", "--memory", "16MiB", "--path", "hello.txt"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL) as process:
        (child,) = eventually(lambda: psutil.Process(process.pid).children(), within=30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 130
        assert eventually(lambda: not is_alive(child.pid))
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--admin", "http://192.0.2.1:9909"], 2, "not a loopback address"),
        (["--assets", "192.0.2.1:80"], 2, "not a loopback address"),
        (["--admin", "http://127.0.0.1:1"], 69, "no instance answers"),
        (["--jitter", "80ms"], 2, "must hold"),
        (["--memory", "much"], 2, "not a number with a unit"),
        (["proxy", "--to", "127.0.0.1:1", "--listen", "0.0.0.0:0"], 2, "not a loopback address"),
    ],
    ids=["admin-elsewhere", "assets-elsewhere", "nobody", "jitter-above-delay", "size", "proxy-for-all"],
)
def test_what_a_drill_refuses(arguments: list[str], code: int, words: str, tmp_path: Path) -> None:
    report = [] if arguments[0] == "proxy" else ["--report", tmp_path]
    ended = run("drill", *report, *arguments)
    assert ended.returncode == code, ended.stderr
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_too_short_a_drill_and_one_without_anything_to_ask_are_refused(
    server: Server, tmp_path: Path
) -> None:
    ended = drill(server, tmp_path, "--seconds", 3)
    assert (ended.returncode, "at least" in ended.stderr) == (2, True)
    assert os.listdir(tmp_path) == []


def test_a_directory_alone_needs_paths(serve: Callable[..., Server], world: World, tmp_path: Path) -> None:
    server = serve("--workers", 1, world.folder)
    ended = run("drill", "--admin", server.admin, "--report", tmp_path)
    assert ended.returncode == 2
    assert "--path" in ended.stderr


def test_the_proxy_command_passes_requests_on_until_it_is_told_to_stop(server: Server) -> None:
    command = [*COMMAND, "drill", "proxy", "--to", str(server.assets), "--delay", "30ms", "--jitter"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[0]
        host, _, port = address.rpartition(":")
        assert ask(Place(host, int(port)), "/edge/assets/hello.txt").body.startswith(b"Hello from the edge")
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "1 connections, 0 reset\n"
        assert process.wait(10) == 0
