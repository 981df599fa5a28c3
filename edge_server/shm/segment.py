"""Segments: named shared memory that this supervisor owns, and what dead ones left behind.

Process      the supervisor creates and unlinks, or adopts what its builder created under a name
             of the supervisor's; other children inherit the mapping by fork;
             outsiders (a status command) attach by name and only read.
Memory       POSIX shared memory in /dev/shm, every page reserved at creation, so that a
             full tmpfs is an error here and not a SIGBUS in a worker later.
Consistency  none of its own: the structures built on it have one writer each.
Lifetime     the name carries PID namespace, pid and start time of its supervisor; a later
             start removes the names whose supervisor is gone. Across PID namespaces, where
             pids say nothing, a lock tells: /dev/shm outlives a container that is
             restarted in its pod, and what it held would fill it.

multiprocessing's resource tracker must never hear of a segment: it is one more process,
and before Python 3.13 it unlinks a segment as soon as any process that attached exits.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any, NamedTuple

from edge_server.errors import ResourceError

SHM_DIR = Path("/dev/shm")

_NAME = re.compile(r"svc-edge-([0-9a-f]{1,16})-([1-9][0-9]{0,9})-([0-9a-f]{1,16})-([a-z0-9][a-z0-9-]*)")
_LOCK = "lock"
_PURPOSE = re.compile(r"[a-z0-9][a-z0-9-]*")


class Owner(NamedTuple):
    """The supervisor that a name belongs to; no other process ever has the same three."""

    pid_namespace: int  # inode of /proc/<pid>/ns/pid
    pid: int
    start_ticks: int  # field 22 of /proc/<pid>/stat, clock ticks since boot


class Segment:
    """One mapping of a shared-memory segment; made by `create` or `attach`.

    Attributes:
        name: the name under /dev/shm.
        buf: all bytes of it; read-only when it was attached.
    """

    def __init__(self, memory: shared_memory.SharedMemory, is_writable: bool) -> None:
        view = memory.buf
        assert view is not None
        self._memory = memory
        self.name = memory.name
        self.buf: memoryview[int] = view if is_writable else view.toreadonly()

    @classmethod
    def create(cls, name: str, size: int) -> Segment:
        """Return a new segment of `size` zero bytes, mode 0600, all of them reserved.

        Raises:
            ResourceError: the name is taken, or /dev/shm has no room left.
        """
        memory = None
        try:
            memory = _open(name, create=True, size=size)
            _reserve(name, size)
        except OSError as error:
            if memory is not None:
                _unlink(memory)
            raise ResourceError(_explain(name, size, error)) from error
        return cls(memory, is_writable=True)

    @classmethod
    def attach(cls, name: str) -> Segment:
        """Return an existing segment for reading.

        Raises:
            ResourceError: there is no such segment, or it belongs to another user.
        """
        try:
            return cls(_open(name, create=False, size=0), is_writable=False)
        except (OSError, ValueError) as error:
            raise ResourceError(f"shared memory {name} cannot be opened: {error}") from error

    @classmethod
    def adopt(cls, name: str) -> Segment:
        """Return a segment that a child of this process has created, for reading and writing.

        Raises:
            ResourceError: there is no such segment.
        """
        try:
            return cls(_open(name, create=False, size=0), is_writable=True)
        except (OSError, ValueError) as error:
            raise ResourceError(f"shared memory {name} cannot be opened: {error}") from error

    def close(self) -> None:
        """Drop this mapping; one that views still point into lives until they are gone."""
        self.buf.release()
        try:
            self._memory.close()
        except BufferError:
            pass

    def unlink(self) -> None:
        """Remove the name; mappings stay valid. A name that is gone already is fine."""
        _unlink(self._memory)


def segment_name(purpose: str) -> str:
    """Return the name that the calling process owns for `purpose` (``[a-z0-9-]+``).

    Only meaningful in the supervisor: a child would get a name of its own.
    """
    assert _PURPOSE.fullmatch(purpose), purpose
    return _name(_this_process(), purpose)


def owner_of(name: str) -> Owner | None:
    """Return who owns a name made by `segment_name`; None for any other name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return Owner(int(match[1], 16), int(match[2]), int(match[3], 16))


def claim(folder: Path = SHM_DIR) -> int:
    """Make and lock the file that shows other PID namespaces that this process lives.

    Returns:
        Its descriptor, to be kept open until the end: the lock is the process's, not its
        children's, and goes with it.

    Raises:
        ResourceError: there is no place for shared memory.
    """
    path = folder / segment_name(_LOCK)
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ResourceError(f"cannot make {path}: {error.strerror}; mount a tmpfs at {folder}") from error
    return fd


def remove_stale(folder: Path = SHM_DIR) -> list[str]:
    """Remove segments and metrics folders whose supervisor is gone; return their names.

    What another user owns is left alone, and so is what has no lock in another PID namespace.
    """
    return _remove(folder, lambda owner: not _is_alive(owner, folder))


def remove_own(folder: Path = SHM_DIR) -> list[str]:
    """Remove everything that the calling process owns there; return the names."""
    return _remove(folder, _this_process().__eq__)


def discard(names: Iterable[str], folder: Path = SHM_DIR) -> None:
    """Remove segments by name, as far as they are there: what a child that died may have made."""
    for name in names:
        _removed(folder / name)


def _remove(folder: Path, is_meant: Callable[[Owner], bool]) -> list[str]:
    owned = [(path, owner) for path in _listing(folder) if (owner := owner_of(path.name)) is not None]
    verdicts = {owner: is_meant(owner) for _, owner in owned}
    # Locks go last: what is left without one, if we are killed here, would be left for good.
    meant = sorted(
        (path for path, owner in owned if verdicts[owner]), key=lambda path: (_is_lock(path), path)
    )
    return [path.name for path in meant if _removed(path)]


def _is_lock(path: Path) -> bool:
    return path.name.endswith(f"-{_LOCK}")


def process_age_s() -> float:
    """Return how long ago the calling process started, to a clock tick (10 ms)."""
    ticks = _start_ticks(os.getpid())
    assert ticks is not None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def _name(owner: Owner, purpose: str) -> str:
    return f"svc-edge-{owner.pid_namespace:x}-{owner.pid}-{owner.start_ticks:x}-{purpose}"


def _this_process() -> Owner:
    pid = os.getpid()
    start_ticks = _start_ticks(pid)
    assert start_ticks is not None
    return Owner(os.stat("/proc/self/ns/pid").st_ino, pid, start_ticks)


def _is_alive(owner: Owner, folder: Path) -> bool:
    if owner.pid_namespace == _this_process().pid_namespace:
        return _start_ticks(owner.pid) == owner.start_ticks
    return not _is_unlocked(folder / _name(owner, _LOCK))


def _is_unlocked(path: Path) -> bool:
    """Whether a lock file is there, ours to open, and held by nobody."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _start_ticks(pid: int) -> int | None:
    """Return when a process started; None if there is none, or only its zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # proc(5): the command name in field 2 may hold spaces and parentheses of its own.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _listing(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _removed(path: Path) -> bool:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError:
        return False
    return True


class _Mapping(shared_memory.SharedMemory):
    """SharedMemory whose collection is silent while views still point into it."""

    def __del__(self) -> None:
        try:
            self.close()
        except (OSError, BufferError):
            pass


class _NoTracker:
    """Stands in for multiprocessing.resource_tracker and starts nothing."""

    def register(self, name: str, rtype: str) -> None: ...

    def unregister(self, name: str, rtype: str) -> None: ...


@contextmanager
def _untracked() -> Iterator[None]:
    """Keep `shared_memory` from the resource tracker meanwhile (Python < 3.13 has no option)."""
    module: Any = shared_memory
    tracker, module.resource_tracker = module.resource_tracker, _NoTracker()
    try:
        yield
    finally:
        module.resource_tracker = tracker


def _open(name: str, *, create: bool, size: int) -> shared_memory.SharedMemory:
    if sys.version_info >= (3, 13):
        memory = _Mapping(name, create=create, size=size, track=False)
    else:
        with _untracked():
            memory = _Mapping(name, create=create, size=size)
    return memory


def _unlink(memory: shared_memory.SharedMemory) -> None:
    try:
        with _untracked():
            memory.unlink()
    except FileNotFoundError:
        pass


def _reserve(name: str, size: int) -> None:
    """Have the kernel set the pages aside: writing to a full tmpfs raises SIGBUS instead."""
    fd = os.open(SHM_DIR / name, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_fallocate(fd, 0, size)
    finally:
        os.close(fd)


def _explain(name: str, size: int, error: OSError) -> str:
    try:
        free = shutil.disk_usage(SHM_DIR).free
    except OSError:
        return f"shared memory {name} cannot be created: {error}; mount a tmpfs at /dev/shm"
    return (
        f"shared memory {name} of {size} bytes cannot be created: {error}; /dev/shm has {free} bytes free"
        " (docker run --shm-size, or an emptyDir with medium: Memory at /dev/shm)"
    )
