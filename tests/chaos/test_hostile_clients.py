"""Hostile clients: broken requests, slow readers and slow writers, while others are served.

The others are a canary: every answer that it gets is right to the last byte, and it waits no
longer than on an idle instance, or 50 ms. Hostile clients are gone when their limit says so,
and leave nothing behind: no dead worker, no defect in the log, no memory.
"""

from __future__ import annotations

import random
import re
import resource
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.load import Client, Stalls, Target, running, targets
from tests.scrapes import counts
from tests.servers import Server, eventually
from tests.wire import Connection, request
from tests.worlds import make_world, noise, write

Serve = Callable[..., Server]

MUTATED = 20_000  # connections, each with a few mutated requests
PER_CONNECTION = 3  # what stands behind a refused one is not looked at
SLOW_READERS = 2000
SLOW_HTTP = 2000  # connections of slowhttptest
SLOW_HTTP_S = 30
SOAKED = 100_000
LIMIT_S = 2.0  # of heads, bodies and idle connections
STALL_S = 3.0  # a reader has two seconds to begin with
GONE_WITHIN_S = 3.0  # beyond the limit
KIB, MIB = 1 << 10, 1 << 20
PROCESS_BYTES_MAX = 64 * KIB  # of a worker, a hostile client
KERNEL_BYTES_MAX = 200 * KIB  # of TCP memory, a slow reader, both ends together
GROWTH_MAX = 6 * MIB  # of a worker, whatever it has been through
P99_MIN_S = 0.05

LIMITS = (
    f"ingress.header_timeout={LIMIT_S:.0f}s",
    f"ingress.timeout_secs={LIMIT_S:.0f}s",
    f"ingress.idle_timeout={LIMIT_S:.0f}s",
    "ingress.min_send_rate=8KiB",
    "ingress.max_inflight=10000",  # what slow readers hold in hand is not the subject
)
# What a mutation puts somewhere.
TOKENS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"%00",
    b"%",
    b"\r\n\r\n",
    b"\xff\xfe",
    b"HTTP/1.1",
    b"HTTP/9.9",
    b"chunked",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\tchunked, identity\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Content-Length: -1\r\n",
    b"Host: other\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Upgrade: h2c\r\n",
    b"Range: bytes=" + b"0-1," * 200 + b"5-\r\n",
    b"X: " + b"y" * 20_000 + b"\r\n",
    b"a: b\r\n" * 150,
    b"ffffffffffffffff\r\n",
    b"0\r\n\r\n",
)


@pytest.fixture
def asked(tmp_path: Path) -> list[Target]:
    world = make_world(tmp_path)
    write(world.folder / "large.bin", noise(9, 16 * MIB))
    return [target for target in targets(world) if len(target.body) < 300_000]


@pytest.fixture
def server(serve: Serve, asked: list[Target], tmp_path: Path) -> Server:
    limits = [part for limit in LIMITS for part in ("--set", limit)]
    return serve("--workers", 2, *limits, tmp_path / "assets", tmp_path / "world.pmtiles")


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Let this process have as many connections as it may."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Canary(threading.Thread):
    """Asks for small things, one after the other, and remembers how long each took."""

    def __init__(self, server: Server, asked: Sequence[Target]) -> None:
        super().__init__(name="canary", daemon=True)
        self.took_s: list[float] = []
        self.wrong: list[object] = []
        self._server = server
        self._asked = asked
        self._is_told = threading.Event()

    def run(self) -> None:
        choose = random.Random(1).choice
        while not self._is_told.wait(0.004):
            target = choose(self._asked)
            began_s = time.perf_counter()
            try:
                # A new connection each time: it has to be accepted among the others.
                with Connection(self._server.assets) as connection:
                    answer = connection.ask(f"/edge/assets/{target.path}", fields=target.fields)
                if not target.is_answered_by(answer):
                    self.wrong.append((target.path, answer.status))
            except OSError as error:
                self.wrong.append((target.path, error))
            self.took_s.append(time.perf_counter() - began_s)

    @property
    def p99_s(self) -> float:
        return sorted(self.took_s)[len(self.took_s) * 99 // 100]

    @classmethod
    @contextmanager
    def watching(cls, server: Server, asked: Sequence[Target]) -> Iterator[Canary]:
        """Run one meanwhile; every one of its answers must have been right."""
        canary = cls(server, asked)
        canary.start()
        try:
            yield canary
        finally:
            canary._is_told.set()
            canary.join(30)
        assert canary.wrong == []
        assert len(canary.took_s) > 20


def idle_p99_s(server: Server, asked: Sequence[Target]) -> float:
    with Canary.watching(server, asked) as canary:
        time.sleep(1)
    return canary.p99_s


def assert_unharmed(server: Server, pids: dict[int, int]) -> None:
    """See that no worker has died, and that the log tells of no defect."""
    assert server.workers() == pids
    lines = server.lines()
    defects = [line for line in lines if line["level"] == "error" and line.get("status") not in (501, 505)]
    assert defects == []
    assert [line for line in lines if "exit" in line["event"]] == []


def resident(server: Server) -> int:
    """Return the largest resident size of a worker."""
    return max(psutil.Process(pid).memory_info().rss for pid in server.workers().values())


def settled(server: Server, asked: Sequence[Target]) -> int:
    """Return the largest resident size of a worker that has answered everything already."""
    for target in [*asked, *asked, *asked]:
        with Connection(server.assets) as connection:
            connection.ask(f"/edge/assets/{target.path}", fields=target.fields)
    return resident(server)


def established(server: Server) -> int:
    """Return how many connections the asset plane has, those that nobody has accepted among them."""
    # proc(5), /proc/net/tcp: local address, remote address, state; 01 is established, 08 close wait.
    end = f":{server.assets.port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(row[1].endswith(end) and row[3] in ("01", "08") for row in rows)


def tcp_bytes() -> int:
    """Return what TCP's queues take in the kernel, of all of the machine."""
    told = re.search(r"^TCP:.* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    assert told is not None
    return int(told[1]) * resource.getpagesize()


# Broken requests


def valid_requests(asked: Sequence[Target]) -> list[bytes]:
    host = {"Host": "edge.example"}
    found = [request(f"/edge/assets/{one.path}", "GET", {**host, **one.fields}) for one in asked]
    found += [
        request("/edge/assets/hello.txt", "HEAD", host),
        request("/edge/assets/hello.txt", "OPTIONS", {**host, "Origin": "https://a.example"}),
        request("http://edge.example/edge/assets/hello.txt", "GET", host),
        request("/edge/assets/big.bin", "GET", {**host, "Range": "bytes=0-1,5-9,-3"}),
        request("/edge/assets/style.css", "GET", {**host, "Accept-Encoding": "br;q=1, gzip;q=0.5"}),
        request("/edge/assets/maps/100%25.txt", "GET", host),
        request("/healthz", "GET", host),
        request("/nothing", "POST", host, b"x" * 500),
        request("/nothing", "PUT", {**host, "Transfer-Encoding": "chunked"}) + b"5\r\nhello\r\n0\r\n\r\n",
        request("/nothing", "POST", {**host, "Expect": "100-continue"}, b"hello"),
        b"GET /edge/assets/hello.txt HTTP/1.0\r\n\r\n",
    ]
    return found


def mutated(valid: Sequence[bytes], choose: random.Random) -> bytes:
    """Return a request with something done to it, up to four times."""
    data = choose.choice(valid)
    for _ in range(choose.choice((1, 1, 2, 3, 4))):
        start = choose.randrange(len(data) + 1)
        stop = min(len(data), start + choose.choice((1, 1, 2, 5, 20, 200)))
        data = (
            data[:start]
            + choose.choice(
                (
                    b"",
                    choose.choice(TOKENS),
                    choose.choice(TOKENS) + data[start:stop],
                    data[start:stop] * choose.choice((2, 3)),
                    choose.randbytes(stop - start),
                    bytes(byte ^ 1 << choose.randrange(8) for byte in data[start:stop]),
                    choose.choice(valid),
                )
            )
            + data[stop:]
        )
    return data


def converse(server: Server, data: bytes, pieces: int) -> bytes:
    """Send everything, then nothing more; return what comes until the server closes."""
    received = bytearray()
    with Connection(server.assets, timeout=10) as connection:
        with suppress(ConnectionError):  # it may have been refused long before its end
            for at in range(0, len(data), len(data) // pieces + 1):
                connection.socket.sendall(data[at : at + len(data) // pieces + 1])
            connection.socket.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while piece := connection.socket.recv(1 << 16):
                received += piece
    return bytes(received)


def test_twenty_thousand_broken_requests_harm_nobody(server: Server, asked: list[Target]) -> None:
    pids, before = server.workers(), settled(server, asked)
    valid = valid_requests(asked)
    statuses: dict[str, int] = {}

    def attack(seed: int) -> list[str]:
        choose = random.Random(seed)
        data = b"".join(mutated(valid, choose) for _ in range(PER_CONNECTION))
        received = converse(server, data, choose.choice((1, 1, 2, 30)))
        assert not received or received.startswith(b"HTTP/1.1 ")
        return [status.decode() for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]

    clients = [Client(server.assets, asked, 1), Client(server.assets, asked, 2, keeps_alive=False)]
    with running(*clients), ThreadPoolExecutor(16) as pool:
        for found in pool.map(attack, range(MUTATED)):
            for status in found:
                statuses[status] = statuses.get(status, 0) + 1
    assert not [status for status in statuses if status[0] == "5" and status not in ("501", "505")]
    assert {"200", "400", "405", "431", "501", "505"} <= set(statuses)
    assert sum(statuses.values()) > MUTATED
    assert [client.wrong + client.failures for client in clients if client.wrong + client.failures] == []
    assert min(client.answered for client in clients) > 50
    assert_unharmed(server, pids)
    assert resident(server) - before < GROWTH_MAX
    eventually(lambda: established(server) == 0)


# Slow readers


def test_two_thousand_slow_readers_cost_little_and_are_hung_up_on(
    server: Server, asked: list[Target], descriptors: None
) -> None:
    pids, before = server.workers(), settled(server, asked)
    usual_s, kernel = idle_p99_s(server, asked), tcp_bytes()
    readers = []
    for _ in range(SLOW_READERS):
        readers.append(Connection(server.assets, receive_buffer=4096))
        readers[-1].send("/edge/assets/large.bin")
    began_s = time.monotonic()
    most_here, most_process, most_kernel = 0, 0, 0
    stalls = Stalls()
    with running(stalls), Canary.watching(server, asked) as canary:
        while (here := established(server)) > 10:
            most_here = max(most_here, here)
            most_process = max(most_process, resident(server) - before)
            most_kernel = max(most_kernel, tcp_bytes() - kernel)
            assert time.monotonic() - began_s - stalls.since(began_s) < STALL_S + GONE_WITHIN_S
            time.sleep(0.1)
    assert most_here > SLOW_READERS * 0.9
    assert most_process / (SLOW_READERS / len(pids)) < PROCESS_BYTES_MAX
    assert most_kernel / SLOW_READERS < KERNEL_BYTES_MAX
    assert canary.p99_s < max(5 * usual_s, P99_MIN_S) + stalls.since(began_s)
    assert_unharmed(server, pids)
    for reader in readers:
        reader.close()


# slowhttptest


MODES = {
    "slow heads": ("-H", "-i", "1", "-x", "20"),
    "slow bodies": ("-B", "-i", "1", "-s", "8192", "-x", "20"),
    "ranges": ("-R", "-a", "5", "-b", "2000", "-t", "GET"),
    "slow reads": ("-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-k", "3"),
}


class Lives(threading.Thread):
    """How long each client of the asset plane stays, seen from the kernel's table of sockets.

    Attributes:
        seen: clients so far; most: of them at once.
        longest_s: of those that are gone, and of those that are still there.
    """

    PERIOD_S = 0.05

    def __init__(self, server: Server) -> None:
        super().__init__(name="lives", daemon=True)
        self.seen, self.most, self.longest_s = 0, 0, 0.0
        self._server = server
        self._since_s: dict[int, float] = {}  # by the client's port
        self._is_told = threading.Event()

    def run(self) -> None:
        while not self._is_told.wait(self.PERIOD_S):
            self._look()

    def stop(self) -> None:
        """End."""
        self._is_told.set()

    @property
    def here(self) -> int:
        """How many there were when it last looked."""
        return len(self._since_s)

    def _look(self) -> None:
        now_s, ports = time.monotonic(), client_ports(self._server)
        self.seen += len(ports - self._since_s.keys())
        self.most = max(self.most, len(ports))
        self._since_s = {port: self._since_s.get(port, now_s) for port in ports}
        self.longest_s = max([self.longest_s, *(now_s - since_s for since_s in self._since_s.values())])


def client_ports(server: Server) -> set[int]:
    """Return the ports of those who are connected, whom a worker holds, or whom nobody has accepted."""
    # proc(5), /proc/net/tcp: local address, remote address, state; field 9 is the inode, 0 where no
    # process holds the socket. 01 is established, 08 close wait, 0A listen.
    end = f":{server.assets.port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    held = (row for row in rows if row[1].endswith(end) and row[3] != "0A")
    return {int(row[2].rpartition(":")[2], 16) for row in held if row[3] in ("01", "08") or row[9] != "0"}


@pytest.mark.skipif(shutil.which("slowhttptest") is None, reason="slowhttptest is not installed")
@pytest.mark.parametrize("mode", MODES)
def test_slow_attackers_hinder_nobody_and_are_gone_in_time(
    server: Server, asked: list[Target], mode: str, tmp_path: Path, descriptors: None
) -> None:
    pids, before = server.workers(), settled(server, asked)
    usual_s = idle_p99_s(server, asked)
    stalls, lives = Stalls(), Lives(server)
    command = ["slowhttptest", *MODES[mode], "-c", SLOW_HTTP, "-r", SLOW_HTTP, "-l", SLOW_HTTP_S, "-p", 5]
    command += ["-u", server.url("large.bin")]
    limit_s = STALL_S if mode == "slow reads" else LIMIT_S
    most_taken = 0
    with running(stalls), Canary.watching(server, asked) as canary, running(lives):
        began_s = time.monotonic()
        attacker = subprocess.Popen([*map(str, command)], cwd=tmp_path, stdout=subprocess.DEVNULL)
        try:
            # Not always does it leave when all of its connections have ended.
            while lives.here > 10 or (lives.seen < SLOW_HTTP * 0.95 and attacker.poll() is None):
                most_taken = max(most_taken, resident(server) - before)
                forgiven_s = stalls.since(began_s)
                assert lives.longest_s < limit_s + GONE_WITHIN_S + forgiven_s, f"{lives.here} are still there"
                assert time.monotonic() - began_s < SLOW_HTTP_S + forgiven_s
                time.sleep(0.1)
        finally:
            attacker.kill()
            attacker.wait()
    if mode == "ranges":  # answered too fast to be seen
        eventually(lambda: range_requests(server) > SLOW_HTTP * 0.95)
    else:
        assert lives.seen >= SLOW_HTTP * 0.95
        assert most_taken / (lives.most / len(pids)) < PROCESS_BYTES_MAX
    assert canary.p99_s < max(5 * usual_s, P99_MIN_S) + stalls.since(began_s)
    assert_unharmed(server, pids)
    assert resident(server) - before < GROWTH_MAX


def range_requests(server: Server) -> float:
    return sum(count for (name, _), count in counts(server).items() if name == "edge_range_requests_total")


# Many


def test_a_hundred_thousand_requests_leave_no_memory_behind(server: Server, asked: list[Target]) -> None:
    pids, _ = server.workers(), settled(server, asked)
    small = [target for target in asked if len(target.body) < 10_000]
    sent = b"".join(request(f"/edge/assets/{one.path}", "GET", {"Host": "a", **one.fields}) for one in small)
    rounds = SOAKED // len(small) // 4

    def soak() -> int:
        """Ask for everything small again and again, twenty rounds ahead; return how often."""
        answered = 0
        with Connection(server.assets) as connection:
            for done in range(rounds):
                if done % 20 == 0:
                    connection.socket.sendall(sent * min(20, rounds - done))
                for target in small:
                    head = connection.read_head()
                    assert head.status in (target.status, 429)  # so far ahead is overload
                    connection.read_exactly(connection.body_length(head, "GET"))
                    answered += 1
        return answered

    soak()
    before = resident(server)
    with ThreadPoolExecutor(4) as pool:
        answered = sum(pool.map(lambda _: soak(), range(4)))
    assert answered > SOAKED * 0.95
    assert resident(server) - before < 2 * MIB
    assert_unharmed(server, pids)
