"""The admin plane of a whole instance: health, status, who may drain it, and what that does."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_server import __version__
from tests.servers import Server, eventually
from tests.wire import Answer, Connection, ask
from tests.worlds import World

Serve = Callable[..., Server]

FLIP_WITHIN_S = 0.5
GATES = [
    "config_valid",
    "packs_verified",
    "cas_reachable",
    "allow_list",
    "amnesia_ok",
    "workers_up",
    "shedder_stable",
    "not_draining",
    "sidecar_up",
]


def both(server: Server, path: str) -> tuple[Answer, Answer]:
    """Ask the asset plane and the admin plane."""
    return ask(server.assets, path), ask(server.admin, path)


def is_ready_on_both(server: Server) -> tuple[bool, bool]:
    assets, admin = both(server, "/readyz")
    return assets.status == 200, admin.status == 200


def flips(server: Server, is_ready: bool, act: Callable[[], object]) -> None:
    """See that an action changes readiness on both planes in time, and that assets are served on."""
    assert is_ready_on_both(server) == (not is_ready, not is_ready)
    begun = time.monotonic()
    act()
    eventually(lambda: is_ready_on_both(server) == (is_ready, is_ready), FLIP_WITHIN_S)
    assert time.monotonic() - begun < FLIP_WITHIN_S
    assert ask(server.assets, "/edge/assets/hello.txt").status == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_both_planes_answer_alike(server: Server, path: str) -> None:
    assets, admin = both(server, path)
    assert (assets.status, assets.body) == (admin.status, admin.body) == (200, assets.body)
    assert assets["Content-Type"] == admin["Content-Type"]


def test_status_tells_of_the_processes_that_run(server: Server) -> None:
    told = server.status()
    assert told["service"] == "svc-edge"
    assert told["version"] == __version__
    assert (told["mode"], told["generation"], told["slots"]) == ("offline", 1, 2)
    assert (told["ready"], told["degraded"], told["draining"], told["stopping"]) == (
        True,
        False,
        False,
        False,
    )
    assert list(told["gates"]) == GATES
    assert all(told["gates"].values())
    assert told["addresses"] == {"assets": str(server.assets), "admin": str(server.admin)}
    assert {each["slot"] for each in told["workers"]} == {0, 1}
    children = {child.pid for child in server.children()}
    assert {each["pid"] for each in told["workers"] + told["sidecars"]} == children
    assert all(0 <= each["beat_age_ms"] < 5000 for each in told["workers"])


def test_packs_are_told_by_name_and_nothing_by_place(server: Server, world: World) -> None:
    told = json.loads(server.ask_admin("/api/packs"))
    assert told == server.status()["packs"]
    assert {pack["name"]: pack["kind"] for pack in told} == {"": "directory", "world": "pmtiles"}
    by_name = {pack["name"]: pack for pack in told}
    assert by_name[""]["entries"] == len(world.files)
    assert by_name["world"]["tiles"] == len(world.tiles)
    assert (by_name["world"]["min_zoom"], by_name["world"]["max_zoom"]) == (0, 2)
    for path in ("/api/packs", "/api/status", "/", "/metrics"):
        assert str(world.folder.parent) not in server.ask_admin(path).decode()


def test_the_status_page_is_for_a_person(server: Server) -> None:
    answer = ask(server.admin, "/")
    assert answer["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert b"world" in answer.body


def test_the_admin_plane_keeps_a_connection_through_everything(server: Server) -> None:
    with Connection(server.admin) as connection:
        for _ in range(3):
            for target, method, status in (
                ("/metrics", "GET", 200),
                ("/metrics", "HEAD", 200),
                ("/", "GET", 200),
                ("/healthz", "HEAD", 200),
                ("/nothing", "GET", 404),
                ("/api/drain", "GET", 405),
                ("/metrics", "POST", 405),
                ("/edge/assets/hello.txt", "GET", 404),
                ("/api/status", "GET", 200),
            ):
                answer = connection.ask(target, method)
                assert answer.status == status, (target, method)
                assert answer["Cache-Control"] == "no-store"
                assert answer["X-Corr-ID"]
                if status >= 400:
                    assert json.loads(answer.body)["reason"] == answer["X-Reason"]
        assert connection.unread() == b""


def test_the_asset_plane_has_no_admin(server: Server) -> None:
    for target in ("/metrics", "/api/status", "/api/packs", "/api/drain"):
        assert ask(server.assets, target).status == 404
    assert ask(server.assets, "/api/drain", "POST").status == 405
    assert is_ready_on_both(server) == (True, True)


def test_an_operator_drains_and_undrains(serve: Serve, world: World) -> None:
    server = serve("--workers", 2, *world.packs)
    workers = server.workers()

    def post(path: str) -> Callable[[], object]:
        return lambda: ask(server.admin, path, "POST")

    flips(server, False, post("/api/drain"))
    told = json.loads(ask(server.assets, "/readyz").body)
    assert told == {
        "ready": False,
        "degraded": True,
        "missing": ["not_draining"],
        "retry_after": 1,
        "generation": 1,
    }
    assert ask(server.assets, "/readyz")["Retry-After"] == "1"
    assert ask(server.admin, "/healthz").status == 200
    assert json.loads(ask(server.admin, "/api/drain", "POST").body) == {"draining": True, "wanted": True}
    flips(server, True, post("/api/undrain"))
    assert server.workers() == workers


def test_sigusr2_toggles_the_drain(serve: Serve, world: World) -> None:
    server = serve("--workers", 1, *world.packs)
    flips(server, False, lambda: server.signal(signal.SIGUSR2))
    flips(server, True, lambda: server.signal(signal.SIGUSR2))


def test_the_drain_file_drains_while_it_exists(serve: Serve, world: World, tmp_path: Path) -> None:
    flag = tmp_path / "drain"
    config = tmp_path / "svc-edge.yaml"
    config.write_text(f"admin:\n  drain_file: {flag}\n")
    server = serve("--workers", 1, "--config", config, *world.packs)
    flips(server, False, flag.touch)
    ask(server.admin, "/api/undrain", "POST")
    assert is_ready_on_both(server) == (False, False)
    flips(server, True, flag.unlink)


def test_a_disk_target_under_amnesia_keeps_readiness_down_and_serves_on(
    serve: Serve, world: World, tmp_path: Path
) -> None:
    config = tmp_path / "svc-edge.yaml"
    config.write_text(f"security:\n  amnesia: true\ncas:\n  path: {tmp_path}/cas\n")
    server = serve("--workers", 1, "--config", config, *world.packs)
    for answer in both(server, "/readyz"):
        assert answer.status == 503
        assert json.loads(answer.body)["missing"] == ["amnesia_ok"]
    assert ask(server.assets, "/edge/assets/hello.txt").status == 200
    assert not (tmp_path / "cas").exists()


def test_a_drained_instance_is_drained_after_its_sidecar_has_died(serve: Serve, world: World) -> None:
    server = serve("--workers", 1, *world.packs)
    ask(server.admin, "/api/drain", "POST")
    sidecar = server.sidecar()
    os.kill(sidecar, signal.SIGKILL)
    eventually(lambda: server.sidecar() != sidecar, within=10)
    assert is_ready_on_both(server) == (False, False)
    flips(server, True, lambda: ask(server.admin, "/api/undrain", "POST"))


def refusal(server: Server, fields: dict[str, str]) -> Answer:
    answer = ask(server.admin, "/api/drain", "POST", fields)
    if answer.status != 200:
        assert answer["X-Reason"] == json.loads(answer.body)["reason"] == "not_allowed"
        assert ask(server.admin, "/readyz").status == 200
    return answer


def test_a_token_file_decides_who_may_drain(serve: Serve, world: World, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("correct horse\n")
    config = tmp_path / "svc-edge.yaml"
    config.write_text(f"admin:\n  token_file: {token}\n")
    server = serve("--workers", 1, "--config", config, *world.packs)
    wrong = ["", "correct horse", "Bearer", "Bearer correct", "Bearer correct horse x", "Basic correct horse"]
    for value in wrong:
        answer = refusal(server, {"Authorization": value} if value else {})
        assert (answer.status, answer["WWW-Authenticate"]) == (403, "Bearer")
    assert ask(server.admin, "/api/status").status == 200
    assert refusal(server, {"Authorization": "Bearer correct horse"}).status == 200
    undrain = ask(server.admin, "/api/undrain", "POST", {"Authorization": "bearer correct horse"})
    assert undrain.status == 200
    token.write_text("battery staple")
    assert refusal(server, {"Authorization": "Bearer correct horse"}).status == 403
    token.unlink()
    assert refusal(server, {"Authorization": "Bearer battery staple"}).status == 403


@pytest.mark.parametrize(
    "fields",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"X-Forwarded-For": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=[
        *(
            "a page elsewhere",
            "a sandboxed page",
            "a name that was rebound",
            "a proxy",
            "a proxy by RFC 7239",
        ),
        "a browser for another site",
    ],
)
def test_without_a_token_only_this_machine_may_drain(server: Server, fields: dict[str, str]) -> None:
    assert refusal(server, fields).status == 403
