"""`svc-edge cas` beside an instance that has the folder: looking, and having the instance purge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.live import Authority, Live, flags, https_origin
from tests.origins import ok
from tests.scrapes import families
from tests.servers import Server, eventually, run

FRESH = "Cache-Control: max-age=600"


def stored_bytes(server: Server) -> float:
    return sum(
        sample.value
        for family in families(server)
        for sample in family.samples
        if sample.name == "edge_cas_bytes" and sample.labels["tier"] == "disk"
    )


def test_a_store_in_use_is_listed_verified_and_purged(serve: Callable[..., Server], tmp_path: Path) -> None:
    folder = tmp_path / "cas"
    with https_origin(authority := Authority(tmp_path)) as origin:
        live = Live(serve(*flags(origin, authority, cas__path=folder)), origin)
        names = [f"fonts/{'x' * 200}{number}" for number in range(60)]  # more than one request may name
        bodies = {name: name.encode() * 5 for name in [*names, "other"]}
        for name, body in bodies.items():
            origin.answers[f"/{name}"] = ok(body, FRESH)
            assert live.get(name).body == body
        eventually(lambda: stored_bytes(live.server) == sum(map(len, bodies.values())))

        listed = run("cas", "ls", folder)
        assert (listed.returncode, listed.stdout.splitlines()[-1].startswith("61 responses")) == (0, True)
        sampled = run("cas", "verify", "--sample", 10, folder)
        assert (sampled.returncode, sampled.stdout.startswith("ok: 10 bodies")) == (0, True), sampled.stderr
        assert run("cas", "gc", folder).returncode == 69

        beside = ("--folder", folder, "--metrics", live.server.admin)
        done = run("cas", "purge", *names[:50], *beside)
        assert (done.returncode, done.stdout) == (0, "purged: 50 responses\n"), done.stderr
        assert run("cas", "purge", "--prefix", "fonts/", *beside).stdout == "purged: 10 responses\n"
        assert run("cas", "purge", "--prefix", "", *beside).stdout == "purged: 1 response\n"
        eventually(lambda: stored_bytes(live.server) == 0)
