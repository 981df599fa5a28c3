"""`svc-edge top` in a pseudo-terminal, against a real instance: what it shows, how it ends."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.meanwhile import meanwhile
from tests.servers import COMMAND, Server, environment, eventually, run
from tests.wire import ask
from tests.worlds import World

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A program in a pseudo-terminal.

    Attributes:
        process: the program.
        shown: everything it has written, without control sequences.
    """

    def __init__(self, command: list[str], columns: int, lines: int) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment({"TERM": "xterm-256color", "LANG": "C.UTF-8", "COLUMNS": "", "LINES": ""}),
        )
        self._text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def shown(self) -> str:
        return _CONTROL.sub("", self._text)

    @property
    def raw(self) -> str:
        return self._text

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def is_as_before(self) -> bool:
        """Whether the terminal's settings are what they were."""
        return termios.tcgetattr(self._slave) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        self._reader.join(5)
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                self._text += os.read(self._master, 65536).decode(errors="replace")
            except OSError:
                return


@contextmanager
def top(*arguments: object, columns: int = 100, lines: int = 30) -> Iterator[Terminal]:
    terminal = Terminal([*COMMAND, "top", *map(str, arguments)], columns, lines)
    try:
        yield terminal
    finally:
        terminal.close()


@contextmanager
def traffic(server: Server, world: World) -> Iterator[None]:
    """Ask for what is there and what is not, again and again."""
    paths = [f"/edge/assets/{path}" for path in [*list(world.files)[:3], "not-there"]]
    with meanwhile(lambda: [ask(server.assets, path) for path in paths]):
        yield


def test_rates_are_shown_live_and_q_ends_it(serve: Callable[..., Server], world: World) -> None:
    server = serve("--workers", 2, *world.packs)
    with traffic(server, world), top("--admin", server.admin, "--every", "0.2") as terminal:
        eventually(lambda: "not_found" in terminal.shown, within=20)
        eventually(lambda: re.search(r"p95 \d", terminal.shown), within=20)
        for words in ("ready", "2xx", "4xx", "hit ratio", *map(str, server.workers().values())):
            assert words in terminal.shown
        assert "\x1b[?1049h" in terminal.raw  # the alternate screen
        terminal.type("q")
        assert terminal.process.wait(10) == 0
        eventually(lambda: "\x1b[?1049l" in terminal.raw)
        assert terminal.is_as_before()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_it_and_puts_the_terminal_back(
    number: signal.Signals, serve: Callable[..., Server], world: World
) -> None:
    server = serve("--workers", 1, *world.packs)
    with top("--admin", server.admin) as terminal:
        eventually(lambda: "serving" in terminal.shown, within=20)
        terminal.process.send_signal(number)
        assert terminal.process.wait(10) == 0
        eventually(lambda: "\x1b[?1049l" in terminal.raw)
        assert terminal.is_as_before()


def test_an_instance_that_goes_away_is_asked_again(serve: Callable[..., Server], world: World) -> None:
    server = serve("--workers", 1, *world.packs)
    with top("--admin", server.admin, "--every", "0.2", columns=50, lines=15) as terminal:
        eventually(lambda: "serving" in terminal.shown, within=20)
        assert server.stop() == 0
        eventually(lambda: "no instance answers" in terminal.shown.replace("\r\n", " "), within=20)
        assert terminal.process.poll() is None
        serve("--workers", 1, "--metrics", server.admin, *world.packs)
        eventually(lambda: "serving" in terminal.shown.rpartition("no instance answers")[2], within=20)


def test_without_a_terminal_one_picture_is_printed(serve: Callable[..., Server], world: World) -> None:
    server = serve("--workers", 1, *world.packs)
    for arguments in ((), ("--once",)):
        done = run("top", "--admin", server.admin, "--every", "0.2", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert "serving" in done.stdout
        assert "\x1b" not in done.stdout


def test_the_figures_are_json_for_programs(serve: Callable[..., Server], world: World) -> None:
    server = serve("--workers", 2, *world.packs)
    with traffic(server, world):
        done = run("top", "--admin", server.admin, "--json")
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert told["ready"] is True
    assert told["requests"]["2xx"] > told["requests"]["4xx"] > 0
    assert told["rejects"]["not_found"] == pytest.approx(told["requests"]["4xx"])
    assert 0 < told["latency_ms"]["p50"] <= told["latency_ms"]["p99"]
    assert all(each["cpu_percent"] is not None for each in told["workers"])


def test_its_exit_code_says_how_the_instance_is(serve: Callable[..., Server], world: World) -> None:
    server = serve("--workers", 1, *world.packs)
    assert run("drain", "--metrics", server.admin).returncode == 0
    done = run("top", "--admin", server.admin, "--once", "--every", "0.2")
    assert (done.returncode, "missing: not_draining" in done.stdout) == (1, True)
    assert server.stop() == 0
    assert run("top", "--admin", server.admin, "--once").returncode == 69
