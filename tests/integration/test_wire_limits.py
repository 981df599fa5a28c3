"""Clients that are slow, silent or too many: they lose their place, and nobody else notices."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.raw import HELLO, check_refusal, converse, get, head, post, read_all
from tests.scrapes import counts, sample
from tests.servers import COMMAND, HOST, Place, Server, eventually
from tests.wire import Connection
from tests.worlds import World, make_world, noise, write

Serve = Callable[..., Server]

LIMIT_S = 1.0
LATE_S = 1.0  # how much later than its limit a client may be told
LARGE = noise(9, 8 << 20)
SLOW = """
ingress:
  timeout_secs: 1s
  header_timeout: 1s
  idle_timeout: 1s
  min_send_rate: 256KiB
"""


@pytest.fixture(scope="module")
def large_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_world(tmp_path_factory.mktemp("large"))
    write(made.folder / "large.bin", LARGE)
    return made


@pytest.fixture(scope="module")
def strict(
    module_serve: Serve, large_world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """An instance of one worker with short limits."""
    config = tmp_path_factory.mktemp("strict") / "svc-edge.yaml"
    config.write_text(SLOW)
    return module_serve("--workers", 1, "--config", config, *large_world.packs)


@pytest.fixture
def others(strict: Server) -> Iterator[None]:
    """Someone else's requests while a test runs: none may fail or wait."""
    worst, failed, stop = [0.0], [], threading.Event()

    def ask() -> None:
        try:
            with Connection(strict.assets, 5) as connection:
                while not stop.wait(0.01):
                    begun = time.monotonic()
                    assert connection.ask(HELLO).status == 200
                    worst[0] = max(worst[0], time.monotonic() - begun)
        except (OSError, AssertionError) as error:
            failed.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join()
    assert not failed
    assert worst[0] < 0.5


def trickle(connection: Connection, data: bytes, pause_s: float) -> None:
    """Send a byte at a time until all is sent or something comes back."""
    for k in range(len(data)):
        connection.socket.sendall(data[k : k + 1])
        time.sleep(pause_s)
        if connection.unread():
            return


LONG_HEAD = get(HELLO, "X: " + "y" * 1000)
SLOWLY = {
    "a byte and no more": (b"G", b""),
    "half a head and no more": (get()[:-10], b""),
    "a head without its last byte": (get()[:-1], b""),
    "a head, byte by byte": (b"", LONG_HEAD),
    "empty lines": (b"\r\n", b""),
    "a body that does not come": (post("Content-Length: 5"), b""),
    "a body, byte by byte": (post("Content-Length: 1000"), b"x" * 1000),
    "chunks, byte by byte": (post("Transfer-Encoding: chunked"), b"1\r\nx\r\n" * 200),
    "a last chunk that does not come": (post("Transfer-Encoding: chunked", body=b"1\r\nx\r\n"), b""),
    "trailers, byte by byte": (post("Transfer-Encoding: chunked", body=b"0\r\n"), b"X: y\r\n" * 200),
    "a request, then half of one": (get() + get()[:-1], b""),
}


def answer_to(place: Place, sent: bytes, trickled: bytes) -> tuple[float, list[int]]:
    """Return after how long a slow client's connection ended, and what it was answered."""
    begun = time.monotonic()
    with Connection(place, 5) as connection:
        connection.socket.sendall(sent)
        trickle(connection, trickled, 0.02)
        answers = read_all(connection)
    check_refusal(answers[-1], 408, "slow_client")
    return time.monotonic() - begun, [answer.status for answer in answers]


@pytest.mark.usefixtures("others")
def test_slow_requests_get_408_in_time(strict: Server) -> None:
    """All at once, so that the test takes as long as one."""
    told: dict[str, tuple[float, list[int]]] = {}

    def note(name: str, sent: bytes, trickled: bytes) -> None:
        told[name] = answer_to(strict.assets, sent, trickled)

    threads = [threading.Thread(target=note, args=(name, *parts)) for name, parts in SLOWLY.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.keys() == SLOWLY.keys()
    for name, (took_s, statuses) in told.items():
        assert LIMIT_S - 0.1 <= took_s <= LIMIT_S + LATE_S, name
        assert statuses == ([200, 408] if name.startswith("a request,") else [408]), name


def test_a_client_that_never_speaks_is_hung_up_on(strict: Server) -> None:
    begun = time.monotonic()
    assert converse(strict.assets, b"", is_finished=False) == []
    assert LIMIT_S - 0.1 <= time.monotonic() - begun <= LIMIT_S + LATE_S


def test_an_idle_connection_is_closed_silently(strict: Server) -> None:
    with Connection(strict.assets, 5) as connection:
        assert connection.ask(HELLO).status == 200
        time.sleep(LIMIT_S / 3)  # a request begins a new idle time
        asked_s = time.monotonic()
        assert connection.ask(HELLO).status == 200
        answered_s = time.monotonic()
        assert read_all(connection) == []
        ended_s = time.monotonic()
        # The idle time began between the two: when this process came to read the answer tells nothing.
        assert ended_s - asked_s >= LIMIT_S
        assert ended_s - answered_s <= LIMIT_S + LATE_S


def test_a_request_in_time_is_answered_however_old_its_connection(strict: Server) -> None:
    with Connection(strict.assets, 5) as connection:
        for _ in range(5):
            time.sleep(LIMIT_S / 2)
            assert connection.ask(HELLO).status == 200


def receive(connection: Connection) -> int:
    """Read to the end, however it ends; return how many bytes came."""
    count = 0
    try:
        while data := connection.socket.recv(1 << 16):
            count += len(data)
    except ConnectionResetError:
        pass
    return count


def is_open(place: Place, client_port: int) -> bool:
    """Whether the kernel holds anything of the server's side of a connection."""
    return any(
        told.laddr.port == place.port and told.raddr and told.raddr.port == client_port
        for told in psutil.net_connections("tcp")
        if told.status != psutil.CONN_TIME_WAIT
    )


UNREAD = {
    "never reading": (get("/edge/assets/large.bin"), 0),
    "never reading, and closing": (get("/edge/assets/large.bin", "Connection: close"), 0),
    "never reading, by HTTP/1.0": (head("GET /edge/assets/large.bin HTTP/1.0"), 0),
    "never reading a range": (get("/edge/assets/large.bin", "Range: bytes=1-"), 0),
    "never reading many small ones": (get("/edge/assets/edge.bin") * 60, 0),
    "reading half at once, and no more": (get("/edge/assets/large.bin"), len(LARGE) // 2),
}


@pytest.mark.usefixtures("others")
def test_clients_that_do_not_read_are_cut(strict: Server) -> None:
    with ExitStack() as opened:
        at = {}
        for name, (data, first) in UNREAD.items():
            connection = opened.enter_context(Connection(strict.assets, 5, receive_buffer=65536))
            connection.socket.sendall(data)
            connection.read_exactly(first)
            at[name] = connection
        ports = {name: connection.socket.getsockname()[1] for name, connection in at.items()}

        def those_open() -> list[str]:
            return [name for name, port in ports.items() if is_open(strict.assets, port)]

        try:
            eventually(lambda: not those_open(), within=12)
        except AssertionError:
            pytest.fail(f"still there: {those_open()}")
        assert all(receive(connection) < len(LARGE) // 2 for connection in at.values())


@pytest.mark.usefixtures("others")
def test_a_client_that_reads_fast_enough_gets_everything(strict: Server) -> None:
    """Slower than the file could be sent, faster than the limit, for longer than any grace."""
    with Connection(strict.assets, 5, receive_buffer=65536) as connection:
        connection.socket.sendall(get("/edge/assets/large.bin"))
        left = connection.body_length(connection.read_head(), "GET")
        received = bytearray()
        while left:
            received += connection.read_exactly(min(left, 256 << 10))
            left = len(LARGE) - len(received)
            time.sleep(0.2)
        assert bytes(received) == LARGE


def test_slow_clients_are_counted_by_kind(strict: Server) -> None:
    """The tests before this one have met each kind."""
    for kind in ("header", "body", "idle", "send"):
        key = sample("edge_slow_clients_total", kind=kind)
        eventually(lambda key=key: counts(strict).get(key, 0) > 0)


# Places


def test_who_finds_no_place_waits_for_one(serve: Serve, world: World, tmp_path: Path) -> None:
    config = tmp_path / "svc-edge.yaml"
    config.write_text("ingress:\n  max_connections: 3\n")
    server = serve("--workers", 1, "--config", config, *world.packs)
    with ExitStack() as opened:
        at = [opened.enter_context(Connection(server.assets, 5)) for _ in range(3)]
        assert [connection.ask(HELLO).status for connection in at] == [200] * 3
        late = opened.enter_context(Connection(server.assets, 0.5))
        late.send(HELLO)
        with pytest.raises(TimeoutError):
            late.read()
        assert [connection.ask(HELLO).status for connection in at] == [200] * 3
        at[0].close()
        late.socket.settimeout(5)
        assert late.read().status == 200
        at[1].close()
        with Connection(server.assets, 5) as last:
            assert last.ask(HELLO).status == 200


DESCRIPTORS = 96


def cpu_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


@pytest.fixture
def limited(serve: Serve, world: World) -> Server:
    """A server whose worker may have few descriptors."""
    command = ["prlimit", f"--nofile={DESCRIPTORS}", *COMMAND, "serve", "--workers", "1"]
    return serve(bare=[*command, "--bind", f"{HOST}:0", "--metrics", f"{HOST}:0", *map(str, world.packs)])


def test_connections_leave_descriptors_for_what_they_ask_for(limited: Server, world: World) -> None:
    with ExitStack() as opened:
        first = opened.enter_context(Connection(limited.assets, 5))
        assert first.ask(HELLO).status == 200
        for _ in range(2 * DESCRIPTORS):
            opened.enter_context(Connection(limited.assets, 5))
        for path in ("hello.txt", "bytes.bin", "big.bin"):
            assert first.ask(f"/edge/assets/{path}").body == world.files[path]


def test_a_worker_without_descriptors_waits_without_burning_its_cpu(limited: Server, world: World) -> None:
    worker = psutil.Process(limited.workers()[0])
    with ExitStack() as opened:
        first = opened.enter_context(Connection(limited.assets, 5))
        assert first.ask(HELLO).status == 200
        starved = worker.num_fds() + 4
        worker.rlimit(psutil.RLIMIT_NOFILE, (starved, DESCRIPTORS))
        for _ in range(DESCRIPTORS):
            opened.enter_context(Connection(limited.assets, 5))
        eventually(lambda: worker.num_fds() >= starved - 1)
        begun, before = time.monotonic(), cpu_s(worker)
        time.sleep(1.5)
        assert cpu_s(worker) - before <= 0.05 * (time.monotonic() - begun) + 0.01  # a clock tick
        assert first.ask(HELLO).status == 200
        assert first.ask("/edge/assets/nothing.txt").status == 404
    worker.rlimit(psutil.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    with Connection(limited.assets, 5) as connection:
        for path in ("hello.txt", "bytes.bin", "big.bin"):
            assert connection.ask(f"/edge/assets/{path}").body == world.files[path]
    assert worker.is_running()


def test_a_client_that_resets_at_any_moment_leaves_nothing_behind(strict: Server) -> None:
    worker = psutil.Process(strict.workers()[0])
    eventually(lambda: worker.num_fds() > 0)
    requests = [b"", b"G", get()[:-1], get(), get("/edge/assets/large.bin"), post("Content-Length: 9"), b"\n"]
    converse(strict.assets, get("/edge/assets/large.bin"))
    before = worker.num_fds()
    for data in requests * 20:
        with Connection(strict.assets, 5) as connection:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.socket.sendall(data)
    eventually(lambda: worker.num_fds() <= before + 1)
    assert converse(strict.assets, get())[0].status == 200
