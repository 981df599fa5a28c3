"""Packs that are damaged while they are served.

Whatever happens to a file, an answer is made of the bytes that were mounted, or it is a
503 with the reason ``pack_io``, or it ends early where it had begun; no worker dies of it and
nothing else is affected. chmod is not among the damages: root, as which containers run, reads
on regardless, and whoever has the file open does, too.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.archives import build
from tests.scrapes import counts, sample
from tests.servers import Server, eventually
from tests.wire import Answer, Connection, Cut, ask
from tests.worlds import HOLE, World, etag, make_world, noise, write

Serve = Callable[..., Server]
Damage = Callable[[Path], object]

OTHER = b"something else that must never be seen\n" * 8
STREAMED = 8 << 20  # more than the kernel's buffers take of an answer that nobody reads


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def rewrite_in_place(path: Path) -> None:
    """Other bytes of the same length under the same inode."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write((OTHER * (size // len(OTHER) + 1))[:size])


def replace(path: Path) -> None:
    """Another file of the same length and modification time under the same name, as rsync does it."""
    status = path.stat()
    new = path.with_suffix(".new")
    new.write_bytes((OTHER * (status.st_size // len(OTHER) + 1))[: status.st_size])
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)


def remove(path: Path) -> None:
    path.unlink()


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


IN_PLACE = [truncate, empty, grow, rewrite_in_place]
BY_NAME = [replace, remove, become_a_folder, become_a_fifo, become_a_link]


@pytest.fixture(scope="module")
def damaged_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world of its own, with a file for each damage."""
    world = make_world(tmp_path_factory.mktemp("damaged"))
    names = [f"{damage.__name__}-{state}.bin" for damage in IN_PLACE + BY_NAME for state in ("warm", "cold")]
    for seed, name in enumerate(names, 100):
        world.files[name] = noise(seed, 1000)
        write(world.folder / name, world.files[name])
    return world


@pytest.fixture(scope="module")
def server(module_serve: Serve, damaged_world: World) -> Iterator[Server]:
    """An instance that must live through everything in this module."""
    running = module_serve("--workers", 2, *damaged_world.packs)
    workers = running.workers()
    yield running
    assert running.workers() == workers
    assert not running.events("worker_exit")
    assert not running.events("defect")


def check_refusal(answer: Answer, method: str = "GET") -> None:
    assert (answer.status, answer["X-Reason"]) == (503, "pack_io")
    assert int(answer["Retry-After"]) >= 1
    assert answer["Cache-Control"] == "no-store"
    assert not answer.all("ETag")
    if method == "GET":
        assert json.loads(answer.body)["reason"] == "pack_io"


def check_others(server: Server, world: World, connection: Connection) -> None:
    """See that what was not damaged is served, on a connection that has just got a 503."""
    answer = connection.ask("/edge/assets/bytes.bin")
    assert (answer.status, answer.body) == (200, world.files["bytes.bin"])
    assert ask(server.assets, f"/edge/assets/{world.tile_path(7)}").body == world.tiles[7]


@pytest.mark.parametrize("state", ["warm", "cold"])
@pytest.mark.parametrize("damage", IN_PLACE + BY_NAME, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_refused_and_nothing_else(
    server: Server, damaged_world: World, damage: Damage, state: str
) -> None:
    name = f"{damage.__name__}-{state}.bin"  # type: ignore[attr-defined]
    path = damaged_world.folder / name
    with Connection(server.assets) as connection:
        if state == "warm":
            answer = connection.ask(f"/edge/assets/{name}")
            assert (answer.status, answer.body) == (200, damaged_world.files[name])
        damage(path)
        for method, fields in (("GET", {}), ("HEAD", {}), ("GET", {"Range": "bytes=0-9"})):
            check_refusal(connection.ask(f"/edge/assets/{name}", method, fields), method)
        check_others(server, damaged_world, connection)


def test_refusals_are_counted_and_told_without_a_path(server: Server, damaged_world: World) -> None:
    name = "empty-cold.bin"
    empty(damaged_world.folder / name)
    refused = sample("rejected_total", reason="pack_io")
    before = counts(server)[refused]
    check_refusal(ask(server.assets, f"/edge/assets/{name}", fields={"X-Corr-ID": "counted"}))
    eventually(lambda: counts(server)[refused] >= before + 1)
    lines = eventually(lambda: [line for line in server.lines() if line.get("corr_id") == "counted"])
    assert {line["event"] for line in lines} == {"reject"}
    assert {line["reason"] for line in lines} == {"pack_io"}
    assert {line["level"] for line in lines} == {"error"}
    assert all(name not in json.dumps(line) for line in lines)


def test_a_removed_directory_is_refused(serve: Serve, tmp_path: Path) -> None:
    world = make_world(tmp_path)
    server = serve("--workers", 1, *world.packs)
    assert ask(server.assets, "/edge/assets/hello.txt").status == 200
    shutil.rmtree(world.folder)
    for path in ("hello.txt", "bytes.bin", "big.bin", "style.css"):
        check_refusal(ask(server.assets, f"/edge/assets/{path}"))
    assert ask(server.assets, "/edge/assets/never-there.txt").status == 404
    assert ask(server.assets, f"/edge/assets/{world.tile_path(7)}").body == world.tiles[7]
    assert ask(server.assets, "/readyz").status == 200


@pytest.mark.parametrize("damage", IN_PLACE, ids=lambda damage: damage.__name__)
def test_a_damaged_archive_is_refused_whole_and_by_tile(serve: Serve, tmp_path: Path, damage: Damage) -> None:
    world = make_world(tmp_path)
    server = serve("--workers", 1, *world.packs)
    workers = server.workers()
    warm, cold = world.tile_path(7), world.tile_path(8)
    assert ask(server.assets, f"/edge/assets/{warm}").body == world.tiles[7]
    assert ask(server.assets, "/edge/assets/world.pmtiles").body == world.archive.read_bytes()
    damage(world.archive)
    with Connection(server.assets) as connection:
        for path in (warm, cold, "world.pmtiles"):
            check_refusal(connection.ask(f"/edge/assets/{path}"))
            check_refusal(connection.ask(f"/edge/assets/{path}", fields={"Accept-Encoding": "gzip"}))
        answer = connection.ask("/edge/assets/bytes.bin")
        assert (answer.status, answer.body) == (200, world.files["bytes.bin"])
    assert server.workers() == workers


@pytest.mark.parametrize("damage", [replace, remove], ids=lambda damage: damage.__name__)
def test_an_archive_replaced_by_name_answers_on_with_what_was_mounted(
    serve: Serve, tmp_path: Path, damage: Damage
) -> None:
    world = make_world(tmp_path)
    stored = world.archive.read_bytes()
    server = serve("--workers", 1, *world.packs)
    damage(world.archive)
    with Connection(server.assets) as connection:
        for tile_id in set(world.tiles) - {HOLE}:
            assert connection.ask(f"/edge/assets/{world.tile_path(tile_id)}").body == world.tiles[tile_id]
        whole = connection.ask("/edge/assets/world.pmtiles")
        assert (whole.body, whole["ETag"]) == (stored, etag(stored))


@pytest.fixture
def streamed(tmp_path: Path) -> tuple[Path, bytes]:
    """A folder with one file that takes long to be sent."""
    data = noise(9, STREAMED)
    write(tmp_path / "pack" / "long.bin", data)
    write(tmp_path / "pack" / "other.bin", b"other")
    return tmp_path / "pack", data


def read_to_the_end(connection: Connection, length: int) -> bytes:
    """Return what comes of a body of `length` bytes until it is whole or cut."""
    received = bytearray()
    try:
        while len(received) < length:
            received += connection.read_exactly(min(65536, length - len(received)))
    except (Cut, ConnectionResetError):
        received += connection.read_exactly(connection.received)
    return bytes(received)


@pytest.mark.parametrize("damage", [*IN_PLACE, replace, remove], ids=lambda damage: damage.__name__)
def test_a_body_under_way_is_cut_and_never_mixed(
    serve: Serve, streamed: tuple[Path, bytes], damage: Damage
) -> None:
    folder, data = streamed
    server = serve("--workers", 1, folder)
    workers = server.workers()
    with Connection(server.assets, receive_buffer=16384) as connection:
        connection.send("/edge/assets/long.bin")
        head = connection.read_head()
        assert (head.status, head["Content-Length"]) == (200, str(len(data)))
        begun = connection.read_exactly(100_000)
        damage(folder / "long.bin")
        received = begun + read_to_the_end(connection, len(data) - len(begun))
        assert data.startswith(received)
        assert len(begun) < len(received) < len(data)
        assert connection.is_ended()
    check_refusal(ask(server.assets, "/edge/assets/long.bin"))
    assert ask(server.assets, "/edge/assets/other.bin").body == b"other"
    assert server.workers() == workers
    eventually(lambda: server.status()["workers"][0]["inflight"] == 0)


def test_files_rewritten_under_load_are_never_seen_half(serve: Serve, tmp_path: Path) -> None:
    files = {f"{number}.bin": noise(number, 20_000) for number in range(60)}
    for name, data in files.items():
        write(tmp_path / name, data)
    write(tmp_path / "tiles.pmtiles", build({0: b"tile " * 20}))
    server = serve("--workers", 2, tmp_path)
    workers = server.workers()
    is_over = threading.Event()
    wrong: list[str] = []
    refused = [0] * 4

    def client(number: int) -> None:
        with Connection(server.assets) as connection:
            while not is_over.is_set():
                for name, data in files.items():
                    answer = connection.ask(f"/edge/assets/{name}")
                    if answer.status == 503:
                        refused[number] += 1
                    elif answer.body != data or answer["ETag"] != etag(data):
                        wrong.append(name)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for name in files:
            rewrite_in_place(tmp_path / name)
            with Connection(server.assets) as connection:
                check_refusal(connection.ask(f"/edge/assets/{name}"))
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert all(refused)
    assert server.workers() == workers
