"""A disk that is as slow as a test says: a file system in a file, whose reads the kernel throttles.

Needs root, losetup, mkfs.ext4 and the throttle of cgroup v1 (blkio); a test is skipped without them. Only the
processes that the test names are slowed down, and only when they read from this file system.

Source: kernel documentation, admin-guide/cgroup-v1/blkio-controller.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

CONTROLLER = Path("/sys/fs/cgroup/blkio")
SIZE = "64M"


class SlowDisk:
    """One disk.

    Attributes:
        folder: where it is mounted.
    """

    def __init__(self, folder: Path, device: str, group: Path) -> None:
        self.folder = folder
        self._device = os.stat(device).st_rdev
        self._group = group

    def slow_down(self, pids: Iterable[int], bytes_a_second: int) -> None:
        """Let these processes read so much; readahead counts, whoever it is for."""
        for pid in pids:
            (self._group / "cgroup.procs").write_text(str(pid))
        self._throttle(bytes_a_second)

    def hurry(self) -> None:
        """Be as fast as any other disk."""
        self._throttle(0)

    def _throttle(self, bytes_a_second: int) -> None:
        number = f"{os.major(self._device)}:{os.minor(self._device)}"
        (self._group / "blkio.throttle.read_bps_device").write_text(f"{number} {bytes_a_second}")


@contextmanager
def slow_disk(folder: Path) -> Iterator[SlowDisk]:
    """Make one below a folder."""
    if os.geteuid() != 0 or not (CONTROLLER / "blkio.throttle.read_bps_device").exists():
        pytest.skip("a slow disk needs root and the blkio controller of cgroup v1")
    if shutil.which("losetup") is None or shutil.which("mkfs.ext4") is None:
        pytest.skip("a slow disk needs the Debian packages mount and e2fsprogs")
    image, mounted = folder / "disk", folder / "mounted"
    mounted.mkdir()
    with ExitStack() as undo:
        _run("truncate", "--size", SIZE, image)
        _run("mkfs.ext4", "-q", "-F", image)
        device = _run("losetup", "--find", "--show", image)
        undo.callback(_run, "losetup", "--detach", device)
        _run("mount", device, mounted)
        undo.callback(_run, "umount", mounted)
        group = CONTROLLER / f"svc-edge-test-{os.getpid()}"
        group.mkdir()
        undo.callback(group.rmdir)
        made = SlowDisk(mounted, device, group)
        undo.callback(made.hurry)
        yield made


def _run(*command: str | Path) -> str:
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout.strip()
