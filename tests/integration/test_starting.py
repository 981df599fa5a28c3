"""Starting: the ways an operator starts an instance, and what happens where it cannot start.

Exit codes: 2 usage, 69 port or resource unavailable, 78 configuration or pack; each with a
message on standard error that names what is wrong.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import COMMAND, HOST, Server, run
from tests.wire import Connection, ask
from tests.worlds import World, write

Serve = Callable[..., Server]

FREE = f"{HOST}:0"


@pytest.fixture
def taken() -> Iterator[str]:
    """An address where somebody else listens."""
    with socket.create_server((HOST, 0)) as listener:
        yield f"{HOST}:{listener.getsockname()[1]}"


@pytest.mark.parametrize("places", [("{taken}", FREE), (FREE, "{taken}")], ids=["assets", "admin"])
def test_a_port_in_use_ends_with_69(world: World, taken: str, places: tuple[str, str]) -> None:
    bind, metrics = (place.format(taken=taken) for place in places)
    done = run("serve", "--bind", bind, "--metrics", metrics, world.folder)
    assert done.returncode == 69
    assert taken in done.stderr
    assert "port in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_instance_on_the_same_ports_ends_with_69(serve: Serve, world: World) -> None:
    server = serve("--workers", 2, *world.packs)
    done = run("serve", "--bind", server.assets, "--metrics", FREE, world.folder)
    assert done.returncode == 69
    assert ask(server.assets, "/edge/assets/hello.txt").status == 200


def broken_pack(root: Path) -> list[Any]:
    write(root / "broken.pmtiles", b"PMTiles\x03" + b"\xff" * 200)
    return ["serve", "--bind", FREE, "--metrics", FREE, root / "broken.pmtiles"]


def missing_pack(root: Path) -> list[Any]:
    return ["serve", root / "nowhere.pmtiles"]


def broken_file(root: Path) -> list[Any]:
    (root / "svc-edge.yaml").write_text("edge:\n  packs: [.]\nworkers:\n  cuont: 3\n")
    return ["--config", root / "svc-edge.yaml"]


def broken_value(root: Path) -> list[Any]:
    return ["serve", "--workers", "-1", root]


def no_pack(root: Path) -> list[Any]:
    return ["serve"]


def missing_file(root: Path) -> list[Any]:
    return ["--config", root / "nowhere.yaml"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (broken_pack, ["broken.pmtiles", "byte"]),
        (missing_pack, ["nowhere.pmtiles", "no such file"]),
        (broken_file, ["svc-edge.yaml", "4", "workers.cuont", "count"]),
        (broken_value, ["--workers", "-1"]),
        (no_pack, ["edge.packs"]),
        (missing_file, ["nowhere.yaml"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_cannot_be_served_ends_with_78_and_says_why(
    tmp_path: Path, make: Callable[[Path], list[Any]], words: list[str]
) -> None:
    done = run(*make(tmp_path), cwd=tmp_path)
    assert done.returncode == 78, done
    assert "Traceback" not in done.stderr
    for word in words:
        assert word.lower() in done.stderr.lower()


@pytest.mark.parametrize(
    "arguments",
    [["serve", "--no-such-flag"], ["no-such-command"], ["serve", "--workers"]],
    ids=["a flag", "a command", "a missing value"],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_environment_alone_starts_it(serve: Serve, world: World, tmp_path: Path) -> None:
    environ = {
        "SVC_EDGE_BIND_ADDR": FREE,
        "SVC_EDGE_METRICS_ADDR": FREE,
        "SVC_EDGE_EDGE__MODE": "offline",
        "SVC_EDGE_EDGE__PACKS": "./world.pmtiles",
        "SVC_EDGE_SECURITY__AMNESIA": "true",
    }
    server = serve(bare=COMMAND, environ=environ, cwd=world.archive.parent)
    assert server.events("ready")[0]["mode"] == "offline"
    assert ask(server.admin, "/readyz").status == 200
    with Connection(server.assets) as connection:
        assert connection.ask(f"/edge/assets/{world.tile_path(7)}").body == world.tiles[7]


def test_the_console_script_starts_it_from_a_file(serve: Serve, world: World, tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("svc-edge")
    config = tmp_path / "svc-edge.toml"
    places = f'bind_addr = "{FREE}"\nmetrics_addr = "{FREE}"\n'
    config.write_text(f'{places}[edge]\npacks = ["{world.folder}"]\n[workers]\ncount = 1\n')
    server = serve(bare=[str(script), "--config", str(config)])
    assert ask(server.assets, "/edge/assets/hello.txt").status == 200
