"""Signals: a handler stores a number, the supervisor's loop acts on it.

`SignalQueue` is installed in the supervisor only. Around each fork its signals are
blocked, so that one that arrives in a child before `leave_in_child` cannot be taken for
one of the supervisor's.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
HANDLED = frozenset(
    {*STOP_SIGNALS, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD},
)
# A terminal sends these to every process of the group, and operators by name; they are the
# supervisor's to act on.
_IGNORED_IN_CHILDREN = frozenset({signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})


class Interrupted(BaseException):
    """A stop signal before the loop runs; not an error, and not to be caught as one."""


class SignalQueue:
    """Numbers of the signals that arrived, in a pipe that a poll can wait for."""

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._previous: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Take over every signal in HANDLED."""
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in HANDLED:
            previous = signal.signal(number, _stored_by_the_wakeup_fd)
            self._previous.setdefault(number, previous)

    def restore(self) -> None:
        """Give the signals back to whoever had them, and close the pipe."""
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        signal.set_wakeup_fd(-1)
        self._close()

    def fileno(self) -> int:
        """Return the descriptor that is readable when `take` has something."""
        return self._read_fd

    def take(self) -> list[int]:
        """Return the signals that arrived since the last call, in order; never waits."""
        try:
            return list(os.read(self._read_fd, 512))
        except BlockingIOError:
            return []

    def leave_in_child(self) -> None:
        """Make a forked child deaf to what is meant for the supervisor; SIGTERM ends it."""
        signal.set_wakeup_fd(-1)
        for number in HANDLED:
            signal.signal(number, signal.SIG_IGN if number in _IGNORED_IN_CHILDREN else signal.SIG_DFL)
        self._close()

    def _close(self) -> None:
        os.close(self._read_fd)
        os.close(self._write_fd)


def name_of(number: int) -> str:
    """Return what a signal is called; most real-time signals have a number only, e.g. ``signal 40``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@contextmanager
def held_back() -> Iterator[Callable[[], None]]:
    """Block the handled signals; they are delivered at the end, or when the yielded call is made."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        yield release
    finally:
        release()


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted where a stop signal arrives, while nothing runs that must be drained."""
    before = {number: signal.signal(number, _interrupt) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stored_by_the_wakeup_fd(number: int, frame: FrameType | None) -> None:
    """Do nothing: the interpreter's own handler has written the number to the pipe."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(signal.Signals(number).name)
