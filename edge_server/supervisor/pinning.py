"""Pinning: how many workers the machine can feed, and which CPU each one gets.

What may be used is the affinity mask of the process, the cpuset of its control group and
the CPU bandwidth quota of that group and the groups above it (cgroup v1:
cpu.cfs_quota_us; v2: cpu.max). Those are read from files; the trees are arguments, so that
a machine can be described by a folder.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from edge_server.errors import ConfigError

CGROUP_ROOT = Path("/sys/fs/cgroup")
PROC_CGROUP = Path("/proc/self/cgroup")


class Cpus(NamedTuple):
    """What the process may use: CPU numbers in order, and a quota in CPUs if there is one."""

    numbers: tuple[int, ...]
    quota: float | None

    @property
    def most_workers(self) -> int:
        """How many CPUs can be kept busy at once, at least 1."""
        most = len(self.numbers)
        return most if self.quota is None else max(1, min(most, math.ceil(self.quota)))


def usable_cpus(
    affinity: Iterable[int] | None = None, root: Path = CGROUP_ROOT, membership: Path = PROC_CGROUP
) -> Cpus:
    """Return what this process may use.

    Args:
        affinity: the mask; None asks the kernel.
        root: where the cgroup hierarchies are mounted.
        membership: a file in the form of /proc/<pid>/cgroup.
    """
    numbers = set(os.sched_getaffinity(0) if affinity is None else affinity)
    groups = _groups(root, membership)
    for group in groups:
        # A group above a container may be the host's; what is not an overlap is not about us.
        numbers = (numbers & _cpuset(group)) or numbers
    quotas = [quota for group in groups if (quota := _quota(group)) is not None]
    return Cpus(tuple(sorted(numbers)), min(quotas, default=None))


def worker_count(configured: int | Literal["auto"], cpus: Cpus) -> int:
    """Return the number of worker slots for the setting ``workers.count``."""
    return cpus.most_workers if configured == "auto" else configured


def assign(pin: str | Sequence[int], count: int, cpus: Cpus, spread: int = 0) -> list[int | None]:
    """Return the CPU of each slot for the setting ``workers.pin``; None is not pinned.

    Args:
        pin: ``auto``, ``none``, or CPU numbers, used in turn.
        spread: differs between instances: under a quota that leaves CPUs free, several
            instances on one machine then do not all pin themselves to the first ones.

    Raises:
        ConfigError: a listed CPU is not one that this process may use.
    """
    if pin == "none":
        return [None] * count
    if isinstance(pin, str):
        first = spread % len(cpus.numbers) if cpus.most_workers < len(cpus.numbers) else 0
        return [cpus.numbers[(first + slot) % len(cpus.numbers)] for slot in range(count)]
    strange = sorted(set(pin) - set(cpus.numbers))
    if strange or not pin:
        usable = ", ".join(map(str, cpus.numbers))
        raise ConfigError(f"workers.pin: this process may not use CPU {strange}; it may use {usable}")
    return [pin[slot % len(pin)] for slot in range(count)]


def is_permitted() -> bool:
    """Whether this process may pin at all: some sandboxes forbid the system call."""
    try:
        os.sched_setaffinity(0, os.sched_getaffinity(0))
    except OSError:
        return False
    return True


def pin(cpu: int | None) -> str:
    """Pin this process to `cpu`, None to none; return why that was refused, empty if it was not.

    The CPUs that were allowed at the start may be others by now: a process that keeps what
    it has inherited serves, one that ends would be replaced by another that ends.
    """
    try:
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
    except OSError as error:
        return f"cannot be pinned to CPU {cpu}: {error.strerror}"
    return ""


def parse_cpu_list(text: str) -> set[int]:
    """Return the numbers in a kernel CPU list such as ``0-3,7``; empty for an empty one."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def _groups(root: Path, membership: Path) -> list[Path]:
    """Return every cgroup folder that limits this process, in all hierarchies."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    # cgroups(7): hierarchy-ID:controller-list:cgroup-path; v2 is the line "0::<path>"
    found: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for mount in _mounts(root, controllers):
            found += _from_leaf_to_root(mount, path)
    return found


def _mounts(root: Path, controllers: str) -> list[Path]:
    if not controllers:
        return [root, root / "unified"]  # cgroup v2 alone; v2 beside v1
    names = {"cpu", "cpuset"} & set(controllers.split(","))
    return [root / name for name in sorted({*names, controllers})] if names else []


def _from_leaf_to_root(mount: Path, path: str) -> list[Path]:
    """Return the group and those above it that exist below `mount`.

    In a container the path may be the host's while `mount` is the container's own group:
    then only `mount` itself exists.
    """
    leaf = PurePosixPath(path.strip("/"))
    below = [] if ".." in leaf.parts else [leaf, *leaf.parents]  # ".." leads out of our namespace
    return [group for group in dict.fromkeys([*(mount / part for part in below), mount]) if group.is_dir()]


def _quota(group: Path) -> float | None:
    v2 = _read(group / "cpu.max").split()
    if len(v2) == 2:
        return _ratio(v2[0], v2[1])
    return _ratio(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))


def _ratio(quota_us: str, period_us: str) -> float | None:
    if quota_us.isdigit() and period_us.isdigit() and int(period_us) > 0:
        return int(quota_us) / int(period_us)
    return None  # "max" (v2), "-1" (v1), or no such file


def _cpuset(group: Path) -> set[int]:
    names = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")
    return next((cpus for name in names if (cpus := parse_cpu_list(_read(group / name)))), set())


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
