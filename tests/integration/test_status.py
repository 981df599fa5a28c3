"""`svc-edge status` and a real instance: ready, taken out of rotation, gone."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.servers import Server, eventually, run
from tests.worlds import World


def test_status_follows_an_instance_through_its_life(serve: Callable[..., Server], world: World) -> None:
    server = serve("--workers", 2, *world.packs)
    ready = run("status", "--admin", server.admin)
    assert ready.returncode == 0, ready.stderr
    for words in ("ready", "0a", "1a", *map(str, server.workers().values()), "world", "pmtiles"):
        assert words in ready.stdout
    told = json.loads(run("status", "--admin", server.admin, "--json").stdout)
    assert told.keys() == server.status().keys()

    assert run("drain", "--metrics", server.admin).returncode == 0
    drained = run("status", "--admin", server.admin)
    assert (drained.returncode, "not_draining" in drained.stdout) == (1, True)
    alive = run("status", "--alive", environ={"SVC_EDGE_METRICS_ADDR": str(server.admin)})
    assert (alive.returncode, alive.stdout, alive.stderr) == (0, "", "")
    assert run("undrain", "--metrics", server.admin).returncode == 0
    assert eventually(lambda: run("status", "--admin", server.admin).returncode == 0)

    assert server.stop() == 0
    assert run("status", "--admin", server.admin).returncode == 69
    assert run("status", "--alive", "--admin", server.admin).returncode == 69
