"""Instances of the real command for tests: started with pytest-xprocess, ended and looked after.

An instance listens on free ports, is up once it has logged ``ready``, and must end with the
exit code that the test expects, leave nothing of its own in /dev/shm and no process alive.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil
import pytest
from xprocess import ProcessStarter, XProcess

COMMAND = (sys.executable, "-m", "edge_server")
HOST = "127.0.0.1"
SHM = Path("/dev/shm")
START_WITHIN_S = 60.0  # on a busy machine; the tests that measure starts have their own bounds
STOP_WITHIN_S = 20.0

T = TypeVar("T")
_names = map("edge-{}".format, itertools.count(1))


class Place(NamedTuple):
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Server:
    """One instance, running or ended.

    Attributes:
        process: the supervisor.
        out: what the instance has written, standard error included.
        log: where its log lines are: `out`, or the file of `log.file`.
        is_killed: set by a test that ends it otherwise than by one stop signal.
        orphans: pids of the children that a killed supervisor had; the kernel ends them with it.
    """

    def __init__(self, process: subprocess.Popen[bytes], out: Path, log: Path | None = None) -> None:
        self.process = process
        self.out = out
        self.log = log or out
        self.is_killed = False
        self.orphans: list[int] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    @functools.cached_property
    def assets(self) -> Place:
        """The asset plane."""
        return _place(self.events("ready")[0]["bind_addr"])

    @functools.cached_property
    def admin(self) -> Place:
        """The admin plane."""
        return _place(self.events("ready")[0]["metrics_addr"])

    def url(self, path: str) -> str:
        """Return the URL of an asset."""
        return f"http://{self.assets}/edge/assets/{path}"

    def lines(self) -> list[dict[str, Any]]:
        """Return every whole line written so far; each must be one JSON object."""
        text = self.log.read_text(encoding="utf-8")
        return [_parse(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the lines that tell of an event."""
        return [line for line in self.lines() if line["event"] == name]

    def status(self) -> dict[str, Any]:
        """Return what /api/status answers."""
        told = json.loads(self.ask_admin("/api/status"))
        assert isinstance(told, dict)
        return told

    def ask_admin(self, path: str) -> bytes:
        """Return the body of a GET on the admin plane that must succeed."""
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=10) as answer:
            body: bytes = answer.read()
        return body

    def workers(self) -> dict[int, int]:
        """Return the pid of each slot's worker that serves."""
        return {told["slot"]: told["pid"] for told in self.status()["workers"] if told["state"] == "serving"}

    def sidecar(self) -> int:
        """Return the sidecar's pid."""
        pids = [told["pid"] for told in self.status()["sidecars"] if told["state"] == "serving"]
        assert len(pids) == 1
        return int(pids[0])

    def children(self) -> list[psutil.Process]:
        """Return the processes that the supervisor has forked and not reaped."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def shared_names(self) -> list[str]:
        """Return what this instance has in /dev/shm."""
        pattern = re.compile(rf"svc-edge-[0-9a-f]+-{self.pid}-.*")
        return sorted(name for name in os.listdir(SHM) if pattern.fullmatch(name))

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor alone."""
        self.process.send_signal(number)

    def wait(self, within: float = STOP_WITHIN_S) -> int:
        """Return the exit code of an instance that is about to end."""
        return self.process.wait(within)

    def stop(self) -> int:
        """End the instance as an operator does; return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End the supervisor as the kernel does; what it leaves in /dev/shm is for the next start."""
        self.is_killed = True
        self.orphans = [child.pid for child in self.children()]
        self.process.kill()
        self.wait()


class _Starter(ProcessStarter):  # type: ignore[misc]
    """One start; `begin` makes a class of its own for each."""

    pattern = r'"event":"ready"'
    timeout = START_WITHIN_S
    max_read_lines = 100_000
    terminate_on_interrupt = True

    log: Path | None = None

    def wait(self, log_file: Any) -> bool:
        """Wait until it is up, as its own log says; a log file is looked at again and again."""
        log = self.log
        if log is None:
            return bool(super().wait(log_file))
        popen = self.process.resources[-1].popen
        eventually(
            lambda: popen.poll() is not None or (log.exists() and self.pattern in log.read_text()),
            within=START_WITHIN_S,
        )
        return popen.poll() is None

    def get_lines(self, log_file: Any) -> Iterator[str]:
        """Yield lines until it is up; fail at once where it has ended instead."""
        popen = self.process.resources[-1].popen
        for line in super().get_lines(log_file):
            has_ended = not line and popen.poll() is not None
            assert not has_ended, f"it ended with {popen.returncode}"
            yield line


@pytest.fixture(scope="session")
def xprocess(request: pytest.FixtureRequest, tmpdir_factory: Any) -> Iterator[XProcess]:
    """pytest-xprocess in a folder of this run; the usual one is shared by runs at the same time."""
    with XProcess(request.config, tmpdir_factory.mktemp("xprocess")) as made:
        request.config._xprocess = made  # type: ignore[attr-defined]
        yield made


@pytest.fixture
def serve(xprocess: XProcess) -> Iterator[Callable[..., Server]]:
    """Start an instance with the given flags and paths."""
    with instances(xprocess) as start:
        yield start


@contextmanager
def instances(xprocess: XProcess) -> Iterator[Callable[..., Server]]:
    """Yield a function that starts an instance; end all of them afterwards and see that nothing is left."""
    begun: list[tuple[str, Server]] = []

    def serve(*arguments: object, **more: Any) -> Server:
        name = next(_names)
        server = _begin(xprocess, name, _command_line(arguments), **more)
        begun.append((name, server))
        return server

    try:
        yield serve
        for _, server in begun:
            _end(server)
    finally:
        for name, server in begun:
            _forget(xprocess, name, server)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without settings of the service, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SVC_EDGE_")}
    return {**kept, **(more or {})}


def run(*arguments: object, within: float = 30, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the command where it is expected to end by itself."""
    command = [*COMMAND, *map(str, arguments)]
    env = environment(more.pop("environ", None))
    return subprocess.run(
        command, capture_output=True, text=True, timeout=within, env=env, check=False, **more
    )


def eventually(condition: Callable[[], T], within: float = 5, told: Callable[[], str] = str) -> T:
    """Return the first true value of `condition`; fail if there is none in time, with what `told` says."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within} s {told()}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is only to be reaped does not."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def age_s(pid: int) -> float:
    """Return how long ago a process started, to 10 ms."""
    # proc(5), stat: field 22 is the start in clock ticks since boot; field 2 may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _command_line(arguments: Sequence[object]) -> list[str]:
    free = f"{HOST}:0"
    return ["serve", "--bind", free, "--metrics", free, *map(str, arguments)]


def _begin(
    xprocess: XProcess,
    name: str,
    line: Sequence[str],
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    bare: Sequence[str] | None = None,
    log: Path | None = None,
) -> Server:
    """Start one instance; `bare` is a whole command to run instead of the usual one, `log` its log.file."""
    places = {} if cwd is None else {"cwd": str(cwd)}
    attributes = {
        "args": list(bare) if bare is not None else [*COMMAND, *line],
        "env": environment(environ),
        "popen_kwargs": places,
        "log": log,
    }
    try:
        _, out = xprocess.ensure(name, type("Starter", (_Starter,), attributes), persist_logs=False)
    except BaseException:
        _forget(xprocess, name, None)
        raise
    return Server(xprocess.resources[-1].popen, Path(out), log)


def _end(server: Server) -> None:
    """Stop an instance if that has not been done, and see that nothing is left of it."""
    children = server.children()
    if server.process.poll() is None:
        assert server.stop() == 0
    assert server.is_killed or server.process.returncode == 0
    assert not [child for child in children if is_alive(child.pid)]
    assert server.is_killed or server.shared_names() == []


def _forget(xprocess: XProcess, name: str, server: Server | None) -> None:
    """Take an instance away, however the test went."""
    info = xprocess.getinfo(name)
    popen = server.process if server is not None else xprocess.resources[-1].popen
    if popen is not None and popen.poll() is None:
        popen.kill()
        popen.wait()
    if server is not None and server.is_killed:
        for pid in filter(is_alive, server.orphans):
            os.kill(pid, signal.SIGKILL)
        for left in server.shared_names():
            path = SHM / left
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    # What xprocess keeps for its report of failures must not outlive the files.
    xprocess.config.__dict__.get("_extlogfiles", {}).pop(name, None)
    shutil.rmtree(info.controldir, ignore_errors=True)


def _parse(line: str) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except ValueError:
        raise AssertionError(f"a line that is no JSON: {line!r}") from None
    assert isinstance(parsed, dict)
    return parsed


def _place(text: str) -> Place:
    host, _, port = text.rpartition(":")
    return Place(host, int(port))
