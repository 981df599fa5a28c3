"""An image of this checkout and containers of it, by buildah and podman, without a registry.

The base image stands in for python:3-slim: Debian with its own python3, made by mmdebstrap. It, and the
layers of earlier builds, stay in ~/.cache/svc-edge/containers, so that a second run takes seconds. What the
machine's pip needs to reach its index goes into the build as secrets, never into an image.

Isolation is as weak as a machine that is itself a container may need it (chroot for builds, the host's
network), so that tests can run where Docker does not; what an operator would run is in docker-compose.yaml.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

import edge_server

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "svc-edge" / "containers"
BASE = "localhost/svc-edge-base:bookworm-1"
IMAGE = "localhost/svc-edge:test"
REVISION = "0123456789abcdef"
TOOLS = ("buildah", "podman", "runc", "mmdebstrap")
DISTRIBUTIONS_PYTHON = "gcc libc6-dev libev-dev python3-dev python3-venv"  # BUILD_PACKAGES
KEPT = "24h"  # layers that no image has any more, which are what makes the next build quick
BASE_WITHIN_S, BUILD_WITHIN_S = 400, 500
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
DESCRIPTORS, PROCESSES = 4096, 4096  # no more than a machine that is a container gives

_STORE = ("--root", str(CACHE / "store"), "--runroot", str(CACHE / "run"))
_PODMAN = ("podman", *_STORE, "--runtime", "runc", "--cgroup-manager", "cgroupfs")
_BUILDAH = ("buildah", *_STORE)
_NOT_DOCUMENTATION = tuple(
    f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "locale", "info")
)


def missing() -> str:
    """Return why no container can be had here, or nothing."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (apt-get install {' '.join(TOOLS)})"
    return "" if os.geteuid() == 0 else "only root can build images here"


def build() -> str:
    """Build the image, and its base if there is none yet; return its name."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one run at a time
        _make_base()
        _build_image()
    return IMAGE


def podman(*arguments: object, within: float = 60) -> subprocess.CompletedProcess[str]:
    """Run podman; its words about the systemd that is not there are left out."""
    command = [*_PODMAN, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=within, check=False)
    done.stderr = "".join(line for line in done.stderr.splitlines(True) if "healthcheck" not in line)
    return done


def podman_line(*arguments: object) -> list[str]:
    """Return the command line of a podman."""
    return [*_PODMAN, *map(str, arguments)]


def run_flags(service: str, environ: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return what `docker run` would be given for a service of docker-compose.yaml: flags, and the command.

    Left out are the network, build, restarting and logging; the limit of descriptors is this machine's.
    """
    text = _substituted((ROOT / "docker-compose.yaml").read_text(), environ)
    told: dict[str, Any] = yaml.safe_load(text)["services"][service]
    flags = ["--read-only"] if told["read_only"] else []
    for key, flag in (("user", "--user"), ("cpuset", "--cpuset-cpus"), ("pids_limit", "--pids-limit")):
        flags.append(f"{flag}={told[key]}")
    flags += [f"--memory={told['mem_limit']}", f"--shm-size={told['shm_size']}"]
    for key, flag in (
        *(("cap_drop", "--cap-drop"), ("security_opt", "--security-opt")),
        *(("tmpfs", "--tmpfs"), ("volumes", "--volume")),
    ):
        flags += [f"{flag}={value}" for value in told[key]]
    flags += [f"--env={name}={value}" for name, value in told.get("environment", {}).items()]
    return flags, told["command"]


@contextmanager
def removed(name: str) -> Iterator[None]:
    """Remove a container afterwards, however the test went."""
    try:
        yield
    finally:
        podman("rm", "--force", "--ignore", "--time=0", name)


def limits() -> Sequence[str]:
    """Return the flags that this machine needs of any container."""
    nofile, nproc = f"nofile={DESCRIPTORS}:{DESCRIPTORS}", f"nproc={PROCESSES}:{PROCESSES}"
    return ("--network=host", f"--ulimit={nofile}", f"--ulimit={nproc}")


def _substituted(text: str, environ: Mapping[str, str]) -> str:
    """Return a compose file with ``${NAME:-default}`` replaced."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: environ.get(match[1], match[2]), text)


def _make_base() -> None:
    if podman("image", "exists", BASE).returncode == 0:
        return
    archive = CACHE / "base.tar"
    command = ["mmdebstrap", "--variant=minbase", "--include=python3,ca-certificates", *_NOT_DOCUMENTATION]
    done = _finished([*command, "bookworm", str(archive)], BASE_WITHIN_S)
    if done.returncode != 0:
        pytest.skip(f"no base image: mmdebstrap says {done.stderr.strip().splitlines()[-1:]}")
    imported = podman("import", archive, BASE, within=BASE_WITHIN_S)
    archive.unlink()
    assert imported.returncode == 0, imported.stderr


def _build_image() -> None:
    configuration = CACHE / "pip.conf"
    configuration.write_text(_pip_configuration())
    arguments = {
        "BASE_IMAGE": BASE,
        "BUILD_PACKAGES": DISTRIBUTIONS_PYTHON,
        "VERSION": edge_server.__version__,
        "REVISION": REVISION,
    }
    command = [
        *(*_BUILDAH, "bud", "--runtime", "runc", "--isolation", "chroot", "--network", "host"),
        *("--format", "docker", "--layers", "--pull-never"),
        *(f"--build-arg={name}={value}" for name, value in arguments.items()),
        *("--secret", f"id=pip_conf,src={configuration}"),
        *(("--secret", f"id=ca_bundle,src={CERTIFICATES}") if CERTIFICATES.exists() else ()),
        *("--tag", IMAGE, str(ROOT)),
    ]
    done = _finished(command, BUILD_WITHIN_S)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    podman("image", "prune", "--force", f"--filter=until={KEPT}", within=120)


def _finished(command: list[str], within: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=within, check=False)


def _pip_configuration() -> str:
    """Return a pip.conf with the indexes that this machine's pip asks over the network."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    lines = ["[global]", "disable-pip-version-check = true"]
    if CERTIFICATES.exists():
        lines.append("cert = /run/secrets/ca_bundle")
    for name, value in re.findall(
        r"^\S+\.(index-url|extra-index-url|trusted-host)='(.*)'$", told, re.MULTILINE
    ):
        reachable = [word for word in value.split() if not word.startswith("file:")]
        if reachable:
            lines.append(f"{name} = {' '.join(reachable)}")
    return "\n".join(lines) + "\n"
