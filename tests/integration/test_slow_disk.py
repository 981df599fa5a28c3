"""A disk that is really slow, under files that are really cold: nobody but those who want its bytes waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.cold import chill
from tests.scrapes import counts, sample
from tests.servers import Server, eventually
from tests.slow_disk import SlowDisk, slow_disk
from tests.wire import Connection, Cut, ask
from tests.worlds import noise, write

BIG = noise(21, (1 << 20) - 5)
LONG = noise(22, 8 << 20)
SMALL = b"in memory\n"
SLOW = 32 << 10  # bytes a second: a window takes half a minute
BUDGET_S = 2.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SlowDisk]:
    with slow_disk(tmp_path) as made:
        yield made


def test_while_a_disk_is_slow_hits_go_on_and_who_needs_it_is_told_in_time(
    disk: SlowDisk, serve: Callable[..., Server]
) -> None:
    for name, data in (("big.bin", BIG), ("long.bin", LONG), ("small.txt", SMALL)):
        write(disk.folder / name, data)
    server = serve("--workers", 1, "--set", f"ingress.timeout_secs={BUDGET_S}", disk.folder)
    for name in ("big.bin", "long.bin", "small.txt"):
        assert ask(server.assets, f"/edge/assets/{name}", "HEAD").status == 200
    for name in ("big.bin", "long.bin"):
        chill(disk.folder / name)
    processes = [server.pid, *(child.pid for child in server.children())]
    with Connection(server.assets) as cold, Connection(server.assets) as hits:
        assert hits.ask("/edge/assets/small.txt").body == SMALL
        disk.slow_down(processes, SLOW)
        cold.send("/edge/assets/big.bin")
        begun_s, asked, worst_s = monotonic(), 0, 0.0
        while monotonic() - begun_s < BUDGET_S / 2:
            before_s = monotonic()
            assert hits.ask("/edge/assets/small.txt").body == SMALL
            worst_s, asked = max(worst_s, monotonic() - before_s), asked + 1
        assert (asked > 50, worst_s < BUDGET_S / 4) == (True, True), (asked, worst_s)
        refused = cold.read()
        assert (refused.status, refused["X-Reason"], refused["Retry-After"]) == (503, "timeout", "1")
        assert BUDGET_S - 0.1 <= monotonic() - begun_s <= BUDGET_S + 2
        disk.hurry()
        assert cold.ask("/edge/assets/big.bin").body == BIG
    eventually(lambda: counts(server).get(sample("edge_parks_total", result="timeout"), 0) == 1)


def read_until_cut(connection: Connection) -> bytes:
    received = b""
    try:
        while True:
            received += connection.read_exactly(1)
    except (Cut, ConnectionResetError):
        return received


def test_a_body_that_a_slow_disk_keeps_back_is_cut_and_never_wrong(
    disk: SlowDisk, serve: Callable[..., Server]
) -> None:
    for name, data in (("long.bin", LONG), ("small.txt", SMALL)):
        write(disk.folder / name, data)
    server = serve("--workers", 1, "--set", f"ingress.timeout_secs={BUDGET_S}", disk.folder)
    assert ask(server.assets, "/edge/assets/long.bin", "HEAD").status == 200
    chill(disk.folder / "long.bin")
    processes = [server.pid, *(child.pid for child in server.children())]
    with Connection(server.assets, receive_buffer=4096) as long:
        long.send("/edge/assets/long.bin")
        assert long.read_head().status == 200
        disk.slow_down(processes, SLOW)
        chill(disk.folder / "long.bin")
        received = read_until_cut(long)
        assert LONG.startswith(received)
        assert 0 < len(received) < len(LONG)
    disk.hurry()
    assert ask(server.assets, "/edge/assets/long.bin").body == LONG
