"""The guard built with AddressSanitizer, under a mixed load: no invalid access, nothing left behind.

The interpreter's own memory comes from malloc, so that what bjoern and the guard do to its
objects is seen too.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import struct
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guard.builds import GUARD, ROOT, SANITIZED, BuildError, build
from tests.guard_app import GuardApp, pattern
from tests.servers import eventually
from tests.wire import Connection, Cut

SIZE = 3 << 20
MADE = 600_000  # bytes that the application makes itself
CONTENT = pattern(SIZE)
ROUNDS = 4
CLIENTS = 25  # of each kind in a round
MAX_GROWTH_BYTES = 100  # a connection: the interpreter's caches still fill, a lost request is many times that
MAX_LOST_BLOCKS = 12  # once a process; what is lost with a request is lost a hundred times
LOADER = """
import importlib.util, sys
name = "edge_server.guard._guard"
spec = importlib.util.spec_from_file_location(name, {extension!r})
sys.modules[name] = importlib.util.module_from_spec(spec)
"""


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a process needs so that it loads the sanitized extension instead of the usual one."""
    folder = tmp_path_factory.mktemp("sanitized")
    extension = folder / f"_guard{sysconfig.get_config_var('EXT_SUFFIX')}"
    includes = [f"-I{place}" for place in (sysconfig.get_path("include"), "/usr/include/libev")]
    words = ("-shared", "-fPIC", "-std=c11", "-fvisibility=hidden", *SANITIZED)
    try:
        build(extension, *words, *includes, *sorted(GUARD.glob("*.c")), "-lev")
    except BuildError as error:
        if "apt-get install" not in str(error):
            raise  # the code does not compile
        pytest.skip(str(error))
    (folder / "sitecustomize.py").write_text(LOADER.format(extension=str(extension)))
    libraries = [runtime(name) for name in ("libasan.so", "libubsan.so")]
    return {
        "LD_PRELOAD": " ".join(libraries),
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=1:quarantine_size_mb=64",
        "UBSAN_OPTIONS": "abort_on_error=1:print_stacktrace=1",
    }


def runtime(name: str) -> str:
    found = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return os.path.realpath(found.stdout.strip())


class Load:
    """Clients of every kind; each method is one connection, from its first byte to its end."""

    def __init__(self, app: GuardApp, folder: Path) -> None:
        self.app = app
        self.random = random.Random(3)
        self.large = folder / "large.bin"
        self.large.write_bytes(CONTENT)
        self.names = 0

    def small(self) -> None:
        with Connection(self.app.place) as client:
            for _ in range(5):
                assert client.ask("/text?text=small").body == b"small"
            assert client.ask("/fields").all("X-One") == ["1"]
            assert client.ask("/body?given=0&status=304+Not+Modified").status == 304
            assert client.ask("/memory?length=5000").body == pattern(5000)

    def files(self) -> None:
        start, length = self.random.randrange(SIZE), self.random.randrange(300_000)
        length = min(length, SIZE - start)
        with Connection(self.app.place) as client:
            answer = client.ask(f"/file?path={self.large}&start={start}&length={length}")
            assert answer.body == CONTENT[start : start + length]
            assert client.ask(f"/file?path={self.large}", "HEAD")["Content-Length"] == str(SIZE)
            assert client.ask(f"/wrapped?path={self.large}&announced=5000").body == pattern(5000)
            assert client.ask(f"/file?path={self.large}&size=7").status == 503

    def large_bodies(self) -> None:
        with Connection(self.app.place, receive_buffer=8192) as client:
            assert client.ask(f"/file?path={self.large}").body == CONTENT

    def repeats(self) -> None:
        length = self.random.choice([10, 20_000, 600_000])
        targets = [f"/file?path={self.large}&length={length}&remember=0", "/text?remember=1&text=again"]
        targets.append(f"/memory?length=5000&remember=1&of={self.random.randrange(1000)}")
        with Connection(self.app.place, receive_buffer=self.random.choice([4096, 1 << 20])) as client:
            asked = [self.random.choice(targets) for _ in range(12)]
            for target in asked:
                client.send(target)
            if self.random.random() < 0.2:
                return
            expected = {targets[0]: CONTENT[:length], targets[1]: b"again", targets[2]: pattern(5000)}
            for target in asked:
                assert client.read().body == expected[target]
        if self.random.random() < 0.1:
            self.app.do(self.random.choice(["forget_answers", "close_files"]))

    def pipelined(self) -> None:
        one = b"GET /text?text=%d HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 300 + b"\r\n\r\n"
        sent = b"".join(one.replace(b"%d", b"%d" % number) for number in range(30))
        with Connection(self.app.place) as client:
            while sent:
                size = self.random.randrange(1, 4000)
                client.socket.sendall(sent[:size])
                sent = sent[size:]
            assert [client.read().body for _ in range(30)] == [b"%d" % number for number in range(30)]

    def bodies(self) -> None:
        chunked = b"POST /text HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunked += b"5;a=b\r\nhello\r\n0\r\nT: u\r\n\r\n"
        counted = b"POST /text HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n" + b"b" * 70000
        with Connection(self.app.place) as client:
            for sent in (chunked, counted, chunked):
                client.socket.sendall(sent)
                assert client.read().body == b"hello"

    def refused(self) -> None:
        bad = (
            b"nonsense\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000,
            b"GET /" + b"a" * 9000,
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200,
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        )
        with Connection(self.app.place) as client:
            client.socket.sendall(self.random.choice(bad))
            assert client.read().status >= 400

    def faults(self) -> None:
        kinds = ("raise?when=before", "raise?when=planned", "raise?when=after", "raise?when=parked")
        kinds += ("raise?when=second", "body?given=50&announced=99", "head?value=a%0d%0ab")
        with Connection(self.app.place) as client, contextlib.suppress(Cut, ConnectionError):
            client.ask(f"/{self.random.choice(kinds)}")
            client.ask("/text")

    def resets(self) -> None:
        targets = (f"/file?path={self.large}", f"/body?given={MADE}&as=iter", f"/memory?length={MADE}")
        targets += (f"/wrapped?path={self.large}&announced={SIZE}", "/text")
        client = Connection(self.app.place, receive_buffer=4096)
        client.send(self.random.choice(targets))
        if self.random.random() < 0.7:
            client.socket.recv(5000)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    def parked(self) -> None:
        self.names += 1
        name = f"p{self.names}"
        kind = self.random.choice(["", "&planned=1", "&open=1", "&silent=1", "&twice=1"])
        with Connection(self.app.place) as client:
            client.send(f"/park?name={name}{kind}")
            client.send("/text")
            eventually(lambda: self.app.connections().get("parked", 0) > 0)
            if self.random.random() < 0.3:
                client.close()
                self.app.do("resume", name=name)  # what the client sent behind it hides that it has left
                return
            assert self.app.do("resume", name=name)
            assert client.read().body == f"{name} 2".encode()
            assert client.read().body == b"hello"

    def slow(self) -> None:
        """Stay in mid-head, in mid-body, or in mid-answer until the guard ends it."""
        starts = (b"GET /te", b"POST /text HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab")
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Connection(self.app.place)) for _ in range(10)]
            for client, start in zip(clients, starts * 5, strict=True):
                client.socket.sendall(start)
            for client in clients:
                assert client.read().status == 408

    kinds = (small, files, large_bodies, repeats, pipelined, bodies, refused, faults, resets, parked)

    def round(self) -> None:
        for kind in self.kinds:
            for _ in range(CLIENTS if kind is not Load.large_bodies else 3):
                kind(self)
        self.slow()
        eventually(lambda: self.app.connections() == {})


@contextlib.contextmanager
def sanitized(environ: dict[str, str]) -> Iterator[GuardApp]:
    limits = {"header_timeout_s": 1.0, "body_timeout_s": 1.0, "max_connections": 50}
    with GuardApp(environ=environ, **limits) as app:
        app.do("repeat", sample_every=3)
        yield app
        app.do("sanitizer", function="__lsan_do_recoverable_leak_check")
        told = app.end()
    assert "ERROR: AddressSanitizer" not in told, told
    assert "runtime error" not in told, told
    assert lost(told) < MAX_LOST_BLOCKS, told


def lost(told: str) -> int:
    """Return how many blocks nobody knows of any more, the interpreter's and bjoern's among them."""
    found = re.search(r"SUMMARY: AddressSanitizer: \d+ byte\(s\) leaked in (\d+) allocation", told)
    return int(found[1]) if found else 0


def test_a_mixed_load_touches_no_memory_that_is_not_its_own(environ: dict[str, str], tmp_path: Path) -> None:
    with sanitized(environ) as app:
        load = Load(app, tmp_path)
        allocated = []
        started = time.monotonic()
        for _ in range(ROUNDS):
            load.round()
            app.do("forget")
            allocated.append(app.do("sanitizer", function="__sanitizer_get_current_allocated_bytes"))
        accepted = app.counters()["accepted"] // ROUNDS
        growth = (allocated[-1] - allocated[1]) / (accepted * (ROUNDS - 2))
        print(f"{accepted} connections a round, {growth:.1f} bytes each, {time.monotonic() - started:.1f} s")
        assert growth < MAX_GROWTH_BYTES, allocated


def test_a_drain_ends_every_connection(environ: dict[str, str], tmp_path: Path) -> None:
    with sanitized(environ) as app:
        load = Load(app, tmp_path)
        idle, reading = Connection(app.place), Connection(app.place, receive_buffer=4096)
        assert idle.ask("/text").status == 200
        reading.send(f"/file?path={load.large}")
        reading.read_head()
        app.do("close_after_answers")
        app.do("stop_accepting")
        assert app.do("close_idle", seconds=0.0) == 1
        assert idle.is_ended()
        assert reading.read_exactly(SIZE) == CONTENT
        assert reading.ask("/text").is_last
        assert reading.is_ended()
        eventually(lambda: app.connections() == {})
        for client in (idle, reading):
            client.close()
