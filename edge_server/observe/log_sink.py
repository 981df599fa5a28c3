"""Where log lines go: a descriptor that is written without ever waiting for its reader.

Process      any; each makes its own after the fork, on the same standard output.
Memory       at most CAPACITY lines that the reader was too slow for; then lines are dropped.
Consistency  a write is whole lines of at most 4096 bytes, which pipes and local sockets take
             whole or not at all, so lines of several processes never mix.
Lifetime     its process's; `flush` may run in a signal handler that interrupts `write`.
"""

from __future__ import annotations

import os
import select
import socket
import stat
from collections import deque
from collections.abc import Callable

CAPACITY = 1024  # lines
WHOLE_BYTES = 4096  # PIPE_BUF of Linux, pipe(7): larger writes may be split

Put = tuple[Callable[[bytes], int], Callable[[], None]]


class LogSink:
    """Lines on their way to a descriptor.

    Args:
        descriptor: open for writing; its flags, which others share, stay as they are.
        tell_dropped: makes the line that says how many lines were dropped.
    """

    def __init__(self, descriptor: int, tell_dropped: Callable[[int], bytes]) -> None:
        self._put, self._close = bind_put(descriptor)
        self._tell_dropped = tell_dropped
        self._lines: deque[bytes] = deque()
        self._dropped = 0
        self._is_flushing = False
        self._is_torn = False  # a disk that became full has taken a part of what was to be written
        self._owed = b""  # what ends a torn line, before anything else is written

    def append(self, line: bytes) -> None:
        """Take a line, ending in a newline, for the next flush; drop it if there is no room."""
        if len(self._lines) >= CAPACITY:
            self.flush()
        if len(self._lines) < CAPACITY:
            self._lines.append(line)
        else:
            self._dropped += 1

    def flush(self) -> None:
        """Write what the descriptor takes now; the rest waits for the next call."""
        if self._is_flushing:
            return
        self._is_flushing = True
        try:
            while self._lines and self._write_batch():
                pass
        finally:
            self._is_flushing = False

    def close(self) -> None:
        """Let go of what was opened to write there; the descriptor is its owner's."""
        self._close()

    def _write_batch(self) -> bool:
        """Write some lines; return whether it is worth going on."""
        batch = self._take_batch()
        try:
            rest = (self._owed + batch)[self._put(self._owed + batch) :]
        except BlockingIOError:
            self._lines.appendleft(batch)
            return False
        except OSError:
            self._dropped += batch.count(b"\n")
            self._owed, self._is_torn = b"\n" if self._is_torn else self._owed, False
            return False
        self._owed, self._is_torn = b"", bool(rest)
        if rest:
            self._lines.appendleft(rest)
        elif self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._lines.append(self._tell_dropped(dropped))
        return True

    def _take_batch(self) -> bytes:
        lines = [self._lines.popleft()]
        size = len(lines[0])
        while self._lines and size + len(self._lines[0]) <= WHOLE_BYTES:
            lines.append(self._lines.popleft())
            size += len(lines[-1])
        return b"".join(lines)


def bind_put(descriptor: int) -> Put:
    """Return a write that raises BlockingIOError where a plain one would wait, and what ends it."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:  # standard output was closed: every line is dropped
        return lambda data: os.write(descriptor, data), _nothing
    if stat.S_ISSOCK(mode):
        return _bind_send(descriptor)
    if stat.S_ISREG(mode):
        return lambda data: os.write(descriptor, data), _nothing
    if stat.S_ISFIFO(mode):
        try:
            # A description of our own: O_NONBLOCK on the shared one would reach the shell and its children.
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # no /proc, or a pipe made by another user
            return _bind_polled(descriptor)
        return lambda data: os.write(own, data), lambda: os.close(own)
    return _bind_polled(descriptor)


def _bind_send(descriptor: int) -> Put:
    own = socket.socket(fileno=os.dup(descriptor))
    return lambda data: own.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL), own.close


def _bind_polled(descriptor: int) -> Put:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)

    def put(data: bytes) -> int:
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(descriptor, data)

    return put, _nothing


def _nothing() -> None:
    pass
