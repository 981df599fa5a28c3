"""What of a machine the server depends on, judged: each check gives a finding and a remedy.

Build of the interpreter, bjoern and its libev, limits of kernel and process, CPUs and
their quota, shared memory. Reads only; what is read is an argument where a test wants
another machine.
"""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from edge_server.supervisor.pinning import Cpus

Status: TypeAlias = Literal["ok", "warn", "fail"]

OLDEST, NEWEST_TESTED = (3, 10), (3, 13)
BJOERN_VERSION = "3.2.2"
MIN_BACKLOG = 1024
MIN_SHM_FREE_BYTES = 64 * 1024 * 1024
SPARE_DESCRIPTORS = 256  # packs, metrics files and pipes beside the connections

# Run in a process of its own: it loads a C extension and says where its libev came from.
_PROBE = """
import ctypes, json, _bjoern
maps = [line.split(None, 5)[-1].strip() for line in open("/proc/self/maps")]
found = sorted({path for path in maps if "libev.so" in path or "libev-" in path})
version = None
if found:
    libev = ctypes.CDLL(found[0])
    version = "%d.%d" % (libev.ev_version_major(), libev.ev_version_minor())
print(json.dumps({"extension": _bjoern.__file__, "libev": found, "version": version}))
"""
_PROBE_TIMEOUT_S = 20
_REBUILD = "pip install --force-reinstall --no-deps --no-binary bjoern bjoern==" + BJOERN_VERSION


class Finding(NamedTuple):
    """What one check saw; `remedy` says what to do and is empty where there is nothing to do."""

    check: str
    status: Status
    seen: str
    remedy: str = ""


def check_platform(system: str, release: str) -> Finding:
    """The kernel: Linux 5.3 is the oldest that is supported."""
    if system != "linux":
        return Finding("system", "fail", system, "svc-edge runs on Linux only")
    numbers = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if numbers < (5, 3):
        return Finding("system", "fail", f"Linux {release}", "use a kernel of 5.3 or newer")
    return Finding("system", "ok", f"Linux {release}, {platform.machine()}, {' '.join(platform.libc_ver())}")


def check_python(version: tuple[int, int, int], *, is_free_threaded: bool) -> Finding:
    """The interpreter's version, and that it has a GIL, which bjoern relies on."""
    shown = f"{platform.python_implementation()} {'.'.join(map(str, version))} ({sys.executable})"
    if version[:2] < OLDEST:
        return Finding("python", "fail", shown, "use Python 3.10 or newer")
    if is_free_threaded:
        return Finding("python", "fail", f"{shown}, free-threaded", "bjoern needs an interpreter with a GIL")
    if version[:2] > NEWEST_TESTED:
        return Finding("python", "warn", shown, "not tested with this version; 3.10 to 3.13 are")
    return Finding("python", "ok", shown)


def check_build(prefix: str, configure_args: str, os_ids: frozenset[str]) -> Finding:
    """How the interpreter was compiled.

    Args:
        prefix: where it is installed.
        configure_args: ``CONFIG_ARGS`` of its sysconfig.
        os_ids: ID and ID_LIKE of /etc/os-release.
    """
    remedy = (
        "each request costs 25 to 40 % more CPU than on an optimised build: use the "
        "distribution's /usr/bin/python3 or an official image (make demo PYTHON=/usr/bin/python3)"
    )
    if "--with-pydebug" in configure_args:
        return Finding("build", "warn", "debug build", remedy)
    if "--enable-optimizations" in configure_args:
        lto = " and LTO" if "--with-lto" in configure_args else ""
        return Finding("build", "ok", f"profile-guided{lto}")
    # Debian and Ubuntu run the profiled build from debian/rules, so configure does not show it.
    if prefix == "/usr" and os_ids & {"debian", "ubuntu"}:
        return Finding("build", "ok", "the distribution's, profile-guided and LTO")
    return Finding("build", "warn", "not profile-guided", remedy)


def check_bjoern(python: str = sys.executable) -> Iterator[Finding]:
    """bjoern and the libev that it is linked to, looked at in a process of its own."""
    try:
        version = metadata.version("bjoern")
    except metadata.PackageNotFoundError:
        yield Finding(
            "bjoern",
            "fail",
            "not installed",
            "pip install svc-edge; it needs libev's headers and a C compiler",
        )
        return
    probe = subprocess.run(
        [python, "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False
    )
    if probe.returncode != 0:
        last = (probe.stderr.strip().splitlines() or [f"exit code {probe.returncode}"])[-1]
        yield Finding(
            "bjoern",
            "fail",
            f"{version} does not import: {last}",
            _REBUILD,
        )
        return
    seen = json.loads(probe.stdout)
    yield _judge_bjoern(version, seen["extension"])
    yield _judge_libev(seen["libev"], seen["version"])
    yield check_guard(python)


def _judge_bjoern(version: str, extension: str) -> Finding:
    if version != BJOERN_VERSION:
        return Finding(
            "bjoern",
            "warn",
            f"{version} ({extension})",
            f"pip install bjoern=={BJOERN_VERSION}, the version this was made for",
        )
    return Finding("bjoern", "ok", f"{version} ({extension})")


def _judge_libev(paths: list[str], version: str | None) -> Finding:
    if not paths:
        return Finding(
            "libev",
            "fail",
            "linked into bjoern statically",
            f"such a bjoern cannot be guarded: apt-get install libev-dev, then {_REBUILD}",
        )
    return Finding("libev", "ok", f"{version} ({', '.join(paths)})")


def check_guard(python: str = sys.executable) -> Finding:
    """Whether bjoern's calls can be led to the guard, tried in a process of its own."""
    probe = subprocess.run(
        [python, "-c", "import edge_server.guard._guard as guard; print(guard.__file__)"],
        capture_output=True,
        text=True,
        timeout=_PROBE_TIMEOUT_S,
        check=False,
    )
    if probe.returncode == 0:
        return Finding("guard", "ok", f"bjoern's calls are guarded ({probe.stdout.strip()})")
    last = (probe.stderr.strip().splitlines() or [f"exit code {probe.returncode}"])[-1]
    seen = last.partition(": ")[2].partition("; `svc-edge doctor`")[0] or last
    if "_guard" in seen or "undefined symbol" in seen:
        remedy = "reinstall svc-edge with this interpreter; it needs libev-dev and a C compiler"
    else:
        remedy = f"apt-get install libev-dev, then {_REBUILD}"
    return Finding("guard", "fail", f"does not import, and nothing is served without it: {seen}", remedy)


def check_descriptors(limits: tuple[int, int], max_connections: int) -> Finding:
    """RLIMIT_NOFILE against `ingress.max_connections`; `limits` is (soft, hard)."""
    needed = max_connections + SPARE_DESCRIPTORS
    soft, hard = (2**63 if limit == resource.RLIM_INFINITY else limit for limit in limits)
    seen = f"{limits[0]} (hard limit {limits[1]})"
    if soft >= needed:
        return Finding("nofile", "ok", seen)
    remedy = f"ingress.max_connections needs {needed}: "
    remedy += (
        "ulimit -n " + str(needed)
        if hard >= needed
        else "LimitNOFILE=1048576 in the unit, or docker --ulimit nofile"
    )
    return Finding("nofile", "warn", seen, remedy)


def check_backlog(name: str, value: int | None) -> Finding:
    """How many connections the kernel lets wait, by the sysctl `name`."""
    if value is None:
        return Finding(name, "ok", "not visible here")
    if value < MIN_BACKLOG:
        folder = "net.core" if name == "somaxconn" else "net.ipv4"
        return Finding(
            name, "warn", str(value), f"bursts of connections are refused: sysctl -w {folder}.{name}=4096"
        )
    return Finding(name, "ok", str(value))


def check_cpus(cpus: Cpus, online: int) -> Finding:
    """The CPUs that workers are pinned to, and a cgroup quota below them."""
    workers = f"{cpus.most_workers} worker{'s' if cpus.most_workers > 1 else ''}"
    seen = f"{len(cpus.numbers)} of {online} ({_as_ranges(cpus.numbers)})"
    if cpus.quota is None:
        return Finding("cpus", "ok", f"{seen}, no quota, {workers}")
    seen += f", quota {cpus.quota:g}, {workers}"
    if cpus.quota < 1:
        return Finding(
            "cpus",
            "warn",
            seen,
            "below one CPU the worker is throttled for most of each period: allow 1 or more",
        )
    if cpus.quota != int(cpus.quota) and cpus.quota < len(cpus.numbers):
        return Finding("cpus", "warn", seen, "workers are throttled in turn: allow whole CPUs")
    return Finding("cpus", "ok", seen)


def check_shared_memory(folder: Path, needed_bytes: int = 0) -> Finding:
    """The tmpfs of the shared structures: there, writable, with room.

    Args:
        needed_bytes: what must be free of it (`supervisor.room.needed_bytes`).
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
        place = os.statvfs(folder)
    except OSError as error:
        return Finding(
            "shared memory",
            "fail",
            f"{folder}: {error.strerror}",
            f"mount a tmpfs at {folder} that this user may write to",
        )
    free = place.f_bavail * place.f_frsize
    seen = f"{folder}, {free // 2**20} MiB free"
    if folder.resolve() not in _tmpfs_mounts():
        return Finding(
            "shared memory",
            "warn",
            f"{seen}, not a tmpfs",
            f"mount a tmpfs at {folder}, or the structures end up on a disk",
        )
    if free < needed_bytes:
        return _lacking(place, seen, needed_bytes)
    if free < MIN_SHM_FREE_BYTES:
        return Finding(
            "shared memory",
            "warn",
            seen,
            "large packs need more: docker --shm-size 256m, or an emptyDir of medium Memory",
        )
    return Finding("shared memory", "ok", seen)


def _lacking(place: os.statvfs_result, seen: str, needed_bytes: int) -> Finding:
    """What is to be said of a tmpfs without room: for certain, or while others use it."""
    remedy = (
        f"beside the catalog {-(-needed_bytes // 2**20)} MiB are needed: docker --shm-size, an emptyDir "
        "of medium Memory, in live mode a smaller cas.memory_bytes"
    )
    if place.f_blocks * place.f_frsize < needed_bytes:
        return Finding("shared memory", "fail", seen, remedy)
    return Finding("shared memory", "warn", seen, f"{remedy}; a running svc-edge has its part already")


def os_ids() -> frozenset[str]:
    """Return ID and ID_LIKE of the distribution."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return frozenset()
    return frozenset([release.get("ID", ""), *release.get("ID_LIKE", "").split()])


def sysctl(name: str) -> int | None:
    """Return a number below /proc/sys; None where it cannot be seen, as in some containers."""
    try:
        return int((Path("/proc/sys") / name).read_text())
    except (OSError, ValueError):
        return None


def _tmpfs_mounts() -> set[Path]:
    # proc(5), mounts: device, mount point, type, options
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return {Path(fields[1]) for fields in map(str.split, lines) if fields[2] == "tmpfs"}


def _as_ranges(numbers: tuple[int, ...]) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
