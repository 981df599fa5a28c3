"""A small /dev/shm, as containers have one unless told otherwise: told at the start, with what helps."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.servers import COMMAND, HOST, Server, environment
from tests.wire import ask
from tests.worlds import World

PLACES = ("--bind", f"{HOST}:0", "--metrics", f"{HOST}:0")
LIVE = ("--set", "edge.mode=live", "--set", "edge.allow=localhost")
DOCKERS_DEFAULT = "64m"


def small(size: str) -> list[str]:
    """Return what runs a command with a tmpfs of this size at /dev/shm, in a mount namespace of its own."""
    mount = f'mount -t tmpfs -o size={size},mode=1777 tmpfs /dev/shm && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh"]


def may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*small("1m"), "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not may_mount(),
    reason="mount namespaces are not permitted here (unshare --mount, of util-linux, as root)",
)


def run_small(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*small(DOCKERS_DEFAULT), *COMMAND, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)


def test_a_memory_tier_that_does_not_fit_is_refused_at_the_start(world: World) -> None:
    done = run_small("serve", *PLACES, *LIVE, str(world.folder))
    assert done.returncode == 69
    assert "Traceback" not in done.stderr
    for words in (
        "/dev/shm has 6",
        "256.0 MiB for cas.memory_bytes",
        "docker run --shm-size",
        "medium: Memory",
    ):
        assert words in done.stderr


def test_without_room_for_metrics_nothing_is_begun(world: World) -> None:
    command = [*small("4m"), *COMMAND, "serve", *PLACES, str(world.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)
    assert done.returncode == 69
    assert "offline mode needs 8.0 MiB beside the catalog" in done.stderr


def test_one_that_fits_is_served(serve: Callable[..., Server], world: World) -> None:
    fitting = ("--set", "cas.memory_bytes=16MiB")
    command = [*small(DOCKERS_DEFAULT), *COMMAND, "serve", *PLACES, *LIVE, *fitting, str(world.folder)]
    server = serve(bare=command)
    assert ask(server.assets, "/edge/assets/hello.txt").status == 200


def test_offline_needs_less(serve: Callable[..., Server], world: World) -> None:
    server = serve(bare=[*small(DOCKERS_DEFAULT), *COMMAND, "serve", *PLACES, str(world.folder)])
    assert ask(server.assets, "/edge/assets/hello.txt").status == 200


@pytest.mark.parametrize(("mode", "status"), [("live", "fail"), ("offline", "ok")])
def test_doctor_judges_it_by_the_mode(mode: str, status: str) -> None:
    told = subprocess.run(
        [*small(DOCKERS_DEFAULT), *COMMAND, "doctor"],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment({"SVC_EDGE_EDGE__MODE": mode, "SVC_EDGE_EDGE__ALLOW": "localhost"}),
        check=False,
    )
    (line,) = [line for line in told.stdout.splitlines() if "shared memory:" in line]
    assert line.split()[0] == status, told.stdout
    assert ("301 MiB are needed" in told.stdout) == (mode == "live")
