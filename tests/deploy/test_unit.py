"""The systemd unit: understood, well confined, and enough for all that an instance does.

There is a systemd to run the unit in few places where tests run; so its filters are put into force
without one (confine.py), and stricter, as a forbidden call ends the process instead of failing.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import pytest

from tests.live import HOST as ORIGIN_HOST
from tests.live import Authority, Origin, flags, https_origin, post
from tests.origins import ok
from tests.servers import COMMAND, HOST, Server, eventually
from tests.wire import ask
from tests.worlds import World, noise

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "svc-edge.service"
MOST_EXPOSED = 1.5  # of `systemd-analyze security`: 0 is nothing, 10 all
PLACES = ("--bind", f"{HOST}:0", "--metrics", f"{HOST}:0")
BYTES = noise(9, 50_000)

Serve = Callable[..., Server]

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is not installed (apt-get install systemd)",
)


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "svc-edge.service"
    text = UNIT.read_text()
    installed = "/opt/svc-edge/bin/svc-edge"
    assert f"ExecStart={installed} " in text
    unit.write_text(text.replace(installed, str(Path(sys.executable).with_name("svc-edge"))))
    told = analyze("verify", unit)
    assert (told.returncode, told.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("LimitNOFILE=", "LimitNoFiles="))  # it can fail
    assert "LimitNoFiles" in analyze("verify", unit).stderr


DROP_INS = (
    ("LoadCredential=token:/etc/svc-edge/token", "Environment=SVC_EDGE_ADMIN__TOKEN_FILE=%d/token"),
    ("CPUAffinity=0",),
    ("MemoryMax=1G",),
    ("AmbientCapabilities=", "CapabilityBoundingSet=", "PrivateUsers=yes"),
)


@pytest.mark.parametrize("lines", DROP_INS, ids=lambda lines: lines[0].partition("=")[0])
def test_systemd_understands_the_drop_ins_of_the_manual(tmp_path: Path, lines: tuple[str, ...]) -> None:
    manual = (ROOT / "docs" / "DEPLOY.md").read_text()
    assert all(re.sub(r"=(0|1G)$", "=", line) in manual for line in lines)
    unit = tmp_path / "svc-edge.service"
    unit.write_text(UNIT.read_text().replace("/opt/svc-edge/bin", str(Path(sys.executable).parent)))
    drop_in = tmp_path / "svc-edge.service.d" / "more.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("\n".join(["[Service]", *lines, ""]))
    told = analyze("verify", unit)
    assert (told.returncode, told.stderr) == (0, "")
    drop_in.write_text("[Service]\nCPUAfinity=0\n")  # it is read
    assert "CPUAfinity" in analyze("verify", unit).stderr


def test_it_is_exposed_as_little_as_a_server_can_be(tmp_path: Path) -> None:
    told = analyze("security", "--offline=true", "--no-pager", UNIT)
    (exposure,) = re.findall(r"Overall exposure level for svc-edge\.service: ([0-9.]+)", told.stdout)
    assert float(exposure) <= MOST_EXPOSED


@pytest.mark.parametrize(
    "line",
    [
        *(
            "Type=notify",
            "Restart=always",
            "NoNewPrivileges=yes",
            "LimitNOFILE=1048576",
            "ProtectSystem=strict",
        ),
        *("AmbientCapabilities=CAP_NET_BIND_SERVICE", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"),
        *("ProtectHome=yes", "PrivateTmp=yes", "ProtectKernelTunables=yes", "ProtectControlGroups=yes"),
        *("MemoryDenyWriteExecute=yes", "RestrictSUIDSGID=yes", "LockPersonality=yes"),
        "SystemCallFilter=@system-service",
    ],
)
def test_it_has_what_the_manual_lists(line: str) -> None:
    assert line in UNIT.read_text().splitlines()


# Under its filters


# ProcSubset=pid and a user who is not root, with whom SQLite, for one, makes other calls.
AS_UNIT = (
    *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
    "mount -t proc -o subset=pid,hidepid=2 proc /proc"
    ' && exec unshare --user --map-user=10001 --map-group=10001 "$@"',
    "sh",
)


def confined(*command: object) -> list[str]:
    """Return what runs a command as the unit does, with its filters."""
    return [*AS_UNIT, sys.executable, "-m", "tests.deploy.confine", str(UNIT), *map(str, command)]


def may_confine() -> bool:
    if find_library("seccomp") is None or shutil.which(AS_UNIT[0]) is None:
        return False
    return subprocess.run([*AS_UNIT, "true"], capture_output=True, check=False).returncode == 0


needs_seccomp = pytest.mark.skipif(
    not may_confine(),
    reason="needs root, libseccomp and unshare with --map-user (apt-get install libseccomp2 util-linux)",
)


@needs_seccomp
@pytest.mark.parametrize(
    "call",
    [
        "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))",
        "os.chown('/dev/null', 0, 0)",
        "os.setuid(0)",
        "__import__('mmap').mmap(-1, 4096, prot=7)",
        "__import__('ctypes').CDLL(None).mprotect(0, 4096, 4)",
    ],
)
def test_what_the_unit_forbids_ends_the_process(call: str) -> None:
    done = subprocess.run(confined(sys.executable, "-c", f"import os; {call}"), cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGSYS


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[tuple[Origin, Authority]]:
    authority = Authority(tmp_path)
    with https_origin(authority) as made:
        made.answers["/filled.bin"] = ok(BYTES, "Cache-Control: max-age=600")
        yield made, authority


def ended_by(server: Server, name: str) -> list[dict[str, Any]]:
    """Return the lines of processes that a signal has ended; others have a status."""
    return [line for line in server.events("worker_exit") if line.get("signal") == name]


@needs_seccomp
def test_a_whole_life_needs_nothing_that_the_unit_forbids(
    serve: Serve, world: World, tmp_path: Path, origin: tuple[Origin, Authority]
) -> None:
    """Start, pinning, hits, tiles, a fill to the disk, purge, reload, kills, a drain, the end."""
    settings = flags(
        *origin, cas__path=tmp_path / "cas", cas__memory_bytes="16MiB", workers__heartbeat_timeout="1s"
    )
    (tmp_path / "cas").mkdir()
    server = serve(bare=confined(*COMMAND, "serve", *PLACES, *settings, *world.packs), cwd=ROOT)
    assert "Seccomp_filters:\t2" in Path(f"/proc/{server.pid}/status").read_text()
    pinned = [os.sched_getaffinity(pid) for pid in server.workers().values()]
    assert all(len(cpus) == 1 for cpus in pinned)
    check_answers(server, world)
    check_fill(server, tmp_path / "cas")
    server.ask_admin("/metrics")

    server.signal(signal.SIGHUP)
    eventually(lambda: server.status()["generation"] == 2, within=30)
    check_answers(server, world)
    os.kill(server.workers()[0], signal.SIGKILL)
    os.kill(server.sidecar(), signal.SIGKILL)
    eventually(lambda: len(server.events("worker_exit")) >= 2, within=10)
    os.kill(eventually(lambda: serving(server))[0], signal.SIGSTOP)  # the supervisor ends and replaces it
    eventually(lambda: len(ended_by(server, "SIGKILL")) > 2, within=20)
    eventually(lambda: len(serving(server)) == 2, within=20)
    check_answers(server, world)
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR2):
        server.signal(number)
        time.sleep(0.1)
    assert server.stop() == 0
    assert ended_by(server, "SIGSYS") == []


def serving(server: Server) -> dict[int, int]:
    try:
        return server.workers()
    except OSError:  # the sidecar is being replaced
        return {}


def check_answers(server: Server, world: World) -> None:
    """Bytes of every kind come back right."""
    for path, data in world.files.items():
        if "%" not in path and path.isascii():
            assert ask(server.assets, f"/edge/assets/{path}").body == data
    part = ask(server.assets, "/edge/assets/big.bin", "GET", {"Range": "bytes=100-299999"})
    assert part.body == world.files["big.bin"][100:300_000]
    tile = ask(server.assets, f"/edge/assets/{world.tile_path(0)}")
    assert tile.status == 200
    assert ask(server.assets, "/edge/assets/world.json").status == 200


def check_fill(server: Server, cas: Path) -> None:
    """A miss is filled, reaches the disk, and is purged."""
    for _ in range(3):
        answer = ask(server.assets, "/edge/assets/filled.bin")
        assert answer.body == BYTES, answer.body
    eventually(lambda: [path for path in cas.glob("??/*") if path.stat().st_size == len(BYTES)])
    assert ask(server.assets, "/edge/assets/absent.bin").status == 404
    post(server, "/api/purge?path=filled.bin")
    assert ask(server.assets, f"/edge/assets/@{ORIGIN_HOST}.invalid/x").status == 403
    assert ask(server.assets, "/edge/assets/filled.bin").body == BYTES
