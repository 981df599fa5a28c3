"""Watching: a child that tells when a pack changes on the disk.

Process      the watcher: forked by the supervisor where ``edge.watch`` is set, since watching
             takes a thread and the supervisor has none. It writes a byte to a pipe for each
             change; the supervisor reloads once it has been quiet for a moment.
Lifetime     until the packs of the configuration are others, or the supervisor goes; one that
             ends by itself is forked again after RETRY_AFTER_S.

What is below a directory counts whatever it is. Anything else is looked up by the names in
the configuration, links followed, when something happens in the folder that it lies in.
"""

from __future__ import annotations

import glob
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from edge_server.config.schema import Edge
from edge_server.observe.logs import log

QUIET_S = 1.0  # a pack that is being written changes over and over
LONGEST_S = 30.0  # a change is acted on after so long although others follow it
RETRY_AFTER_S = 5.0

_DEBOUNCE_MS = 100
_TURN_MS = 250


class Roots(NamedTuple):
    """What to watch: folders with all below them, and folders by themselves."""

    deep: tuple[str, ...]
    shallow: tuple[str, ...]


class Watch:
    """The watcher as the supervisor sees it; there is none while ``edge.watch`` is off.

    Args:
        fork: forks a child that lives a function; returns its pid.
    """

    def __init__(self, fork: Callable[[Callable[[], int]], int]) -> None:
        self._fork = fork
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._paths: tuple[str, ...] = ()
        self._pid: int | None = None
        self._old: set[int] = set()  # killed, and not reaped yet
        self._not_before_s = float("-inf")
        self._first_s: float | None = None
        self._last_s = 0.0

    def fileno(self) -> int:
        """Return the descriptor that is readable when `is_due` has something to look at."""
        return self._read_fd

    def descriptors(self) -> tuple[int, int]:
        """Return what a child must close."""
        return self._read_fd, self._write_fd

    def pids(self) -> list[int]:
        """Return the watchers that have not been reaped."""
        return [*self._old, *([] if self._pid is None else [self._pid])]

    def follow(self, edge: Edge) -> None:
        """Watch what this configuration serves, if it says so."""
        paths = tuple(os.path.abspath(source.path) for source in edge.packs) if edge.watch else ()
        if paths != self._paths:
            self._paths = paths
            self._not_before_s = float("-inf")
            self.stop()

    def advance(self, now_s: float) -> bool:
        """Keep a watcher alive, and return whether a reload is due."""
        if self._paths and self._pid is None and now_s >= self._not_before_s:
            self._not_before_s = now_s + RETRY_AFTER_S
            self._begin()
        return self._is_due(now_s)

    def saw_exit(self, pid: int, code: int) -> bool:
        """Note that a watcher was reaped; return whether `pid` was one."""
        if pid == self._pid:
            self._pid = None
            log("reload", "warning", reason=f"the watcher of the packs ended with {code}; forked again")
            return True
        if pid in self._old:
            self._old.discard(pid)
            return True
        return False

    def stop(self) -> None:
        """End the watcher."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            self._old.add(self._pid)
            self._pid = None

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._read_fd)
        os.close(self._write_fd)

    def _begin(self) -> None:
        told = os.dup(self._write_fd)  # the pipe itself is closed in every child
        try:
            paths = self._paths
            self._pid = self._fork(lambda: watch(paths, told))
        except OSError as error:
            log("reload", "warning", reason=f"packs are not watched: fork: {error.strerror}")
        finally:
            os.close(told)

    def _is_due(self, now_s: float) -> bool:
        if self._has_changed():
            self._first_s = now_s if self._first_s is None else self._first_s
            self._last_s = now_s
        if self._first_s is None:
            return False
        if now_s - self._last_s < QUIET_S and now_s - self._first_s < LONGEST_S:
            return False
        self._first_s = None
        return True

    def _has_changed(self) -> bool:
        try:
            return bool(os.read(self._read_fd, 4096))
        except BlockingIOError:
            return False


def watch(paths: Sequence[str], told: int) -> int:
    """Live as the watcher of `paths`, absolute; write a byte to `told` for each change."""
    roots = roots_of(paths)
    before = look_up(paths)
    for is_below in _changes(roots):
        now = look_up(paths)
        if is_below or now != before:
            before = now
            try:
                os.write(told, b"!")
            except BlockingIOError:  # it is full: the supervisor will see that there was a change
                pass
    return 1


def roots_of(paths: Iterable[str]) -> Roots:
    """Return what must be watched to notice a change of `paths`, which may be patterns."""
    deep, shallow = set(), set()
    for path in paths:
        if os.path.isdir(path):
            deep.add(path)
            shallow.add(os.path.dirname(path))
        elif os.path.lexists(path) or not glob.has_magic(path):
            shallow.add(os.path.dirname(path))
        else:
            deep.add(_before_magic(path))
    return Roots(tuple(sorted(deep)), tuple(sorted(shallow)))


def look_up(paths: Iterable[str]) -> list[tuple[object, ...]]:
    """Return what stands at `paths` now: which files, and what they look like."""
    found: list[tuple[object, ...]] = []
    for path in paths:
        is_pattern = not os.path.lexists(path) and glob.has_magic(path)
        for each in sorted(glob.glob(path, recursive=True)) if is_pattern else [path]:
            found.append((each, *_looks(each)))
    return found


def _looks(path: str) -> tuple[object, ...]:
    try:
        looks = os.stat(path)
    except OSError as error:
        return (error.errno,)
    return looks.st_dev, looks.st_ino, looks.st_size, looks.st_mtime_ns


def _before_magic(pattern: str) -> str:
    """Return the folder above the first part of a pattern that is one."""
    folder = pattern
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)
    return folder


def _changes(roots: Roots) -> Iterator[bool]:
    """Yield for each change whether it was below a watched folder, or else in one."""
    from watchfiles import watch as watch_files

    watches = [
        (
            is_deep,
            watch_files(
                *folders,
                watch_filter=None,
                debounce=_DEBOUNCE_MS,
                rust_timeout=_TURN_MS,
                yield_on_timeout=True,
                raise_interrupt=False,
                recursive=is_deep,
            ),
        )
        for is_deep, folders in ((True, roots.deep), (False, roots.shallow))
        if folders
    ]
    while True:
        for is_deep, changes in watches:
            if next(changes):
                yield is_deep
