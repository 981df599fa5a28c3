"""Two instances with one cas.path: the second is told so, never writes to it, and takes over later."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import Authority, Origin, flags, https_origin
from tests.origins import ok
from tests.servers import Server, eventually
from tests.wire import ask
from tests.worlds import World, noise

BODIES = {name: noise(number, 40_000) for number, name in enumerate(("one.bin", "two.bin"), 20)}


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[tuple[Origin, Authority]]:
    authority = Authority(tmp_path)
    with https_origin(authority) as made:
        for name, body in BODIES.items():
            made.answers[f"/{name}"] = ok(body, "Cache-Control: max-age=600")
        yield made, authority


def stored(cas: Path) -> set[bytes]:
    return {path.read_bytes() for path in cas.glob("??/*")}


def fetch(server: Server, name: str) -> None:
    assert ask(server.assets, f"/edge/assets/{name}").body == BODIES[name]


def missing(server: Server) -> list[str]:
    told: list[str] = json.loads(ask(server.assets, "/readyz").body)["missing"]
    return told


def test_the_second_instance_is_not_ready_serves_from_memory_and_takes_over(
    serve: Callable[..., Server], world: World, tmp_path: Path, origin: tuple[Origin, Authority]
) -> None:
    cas = tmp_path / "cas"
    settings = flags(*origin, cas__path=cas, cas__memory_bytes="16MiB", workers__count=1)
    first = serve(*settings, world.folder)
    fetch(first, "one.bin")
    eventually(lambda: stored(cas) == {BODIES["one.bin"]})

    second = serve(*settings, world.folder)
    (told,) = eventually(lambda: second.events("cas_disk"))
    assert (told["usable"], told["level"]) == (False, "warning")
    assert "in use by another process" in told["reason"]
    eventually(lambda: missing(second) == ["cas_reachable"])
    assert missing(first) == []
    fetch(second, "two.bin")  # filled and kept, in memory
    fetch(second, "two.bin")
    assert origin[0].asked["/two.bin"] == 1
    assert stored(cas) == {BODIES["one.bin"]}

    assert first.stop() == 0
    eventually(lambda: missing(second) == [], within=15)
    fetch(second, "one.bin")  # of the first one's, verified anew
    assert origin[0].asked["/one.bin"] == 1
    eventually(lambda: stored(cas) == set(BODIES.values()), within=15)
