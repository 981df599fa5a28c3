"""The machine that figures belong to: CPUs, kernel, interpreter, tools.

Does I/O on /proc and runs ``nginx -v`` and ``wrk -v``; changes nothing.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

from bench import BenchError, MissingToolsError

PACKAGES = {"nginx": "nginx-light", "wrk": "wrk", "taskset": "util-linux"}


class Cpus(NamedTuple):
    """The CPU under test and the CPU that the load comes from."""

    server: int
    load: int


def choose_cpus() -> Cpus:
    """Return the first two CPUs this process may use.

    Raises:
        BenchError: there is only one, so load and server would fight for it.
    """
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise BenchError("two CPUs are needed, one for the server and one for wrk; this process may use one")
    return Cpus(usable[0], usable[1])


def require_tools() -> None:
    """Check that nginx, wrk and taskset are installed.

    Raises:
        MissingToolsError: naming the packages and the command that installs them.
    """
    missing = [package for tool, package in PACKAGES.items() if find_tool(tool) is None]
    if missing:
        names = " ".join(missing)
        raise MissingToolsError(f"missing packages: {names}; install them with: apt-get install {names}")


def find_tool(name: str) -> str | None:
    """Return where a command is; nginx lives in /usr/sbin, which is not on everyone's PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def describe(cpus: Cpus) -> dict[str, str]:
    """Return what a reader needs to compare figures, in the order to print it."""
    load = os.getloadavg()[0]
    return {
        "cpu": _cpu_model(),
        "cores": f"{len(os.sched_getaffinity(0))} usable, server on {cpus.server}, wrk on {cpus.load}",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()} ({_build()})",
        "nginx": _version("nginx", r"nginx/(\S+)"),
        "wrk": _version("wrk", r"wrk (?:debian/)?(\S+)"),
        "load": f"{load:.2f} before the start",
    }


def is_busy() -> bool:
    """Whether something else keeps a CPU busy, which makes figures worthless."""
    return os.getloadavg()[0] > 0.5


def _cpu_model() -> str:
    # arm64 kernels have no "model name"; the vendor's part number is all there is.
    found = re.search(
        r"^(?:model name|CPU part)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
    )
    return found[1] if found else platform.machine()


def _build() -> str:
    # Debian profiles and links its builds in steps of its own that configure never hears of.
    path = os.path.realpath(sys.executable)
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    flags = [flag for flag in ("--enable-optimizations", "--with-lto") if flag in arguments]
    kind = "the distribution's build" if path.startswith("/usr/bin/") else "no --enable-optimizations"
    return f"{path}, {' '.join(flags) or kind}"


def _version(tool: str, pattern: str) -> str:
    path = find_tool(tool)
    if path is None:
        return "not installed"
    said = subprocess.run([path, "-v"], capture_output=True, text=True, check=False, timeout=10)
    found = re.search(pattern, said.stdout + said.stderr)
    return found[1] if found else "unknown"
