"""The log file: opened by each process, opened again by each when an operator has moved it away.

Process      any. `turn` is the supervisor's; each process looks at the word before it writes.
Memory       one shared page, inherited by every fork: word 0 counts how often `turn` was called.
Consistency  a file is opened for appending, and the descriptor is replaced in one step (dup2): a line goes to
             the old file or to the new one. Nothing is opened again unless it was asked for: a tool
             that moves a file away wants to make the new one itself.
Lifetime     its process's.
"""

from __future__ import annotations

import mmap
import os

from edge_server.errors import ResourceError

STDOUT = "stdout"
_MODE = 0o640

_page = mmap.mmap(-1, mmap.PAGESIZE)
_turns = memoryview(_page).cast("Q")


def turn() -> None:
    """Have every process open its files again."""
    _turns[0] += 1


def turns() -> int:
    """Return how often `turn` was called."""
    return _turns[0]


class LogFile:
    """A file that is appended to, by several processes at once.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = turns()  # before it is opened, so that no turn is missed
        self.descriptor = _open(path)

    @property
    def is_due(self) -> bool:
        """Whether it is to be opened again."""
        return _turns[0] != self._seen

    def reopen(self) -> str:
        """Open what stands under its name now, or make it; return why that is impossible, or nothing."""
        self._seen = turns()
        try:
            fresh = _open(self._path)
        except OSError as error:
            return _trouble(self._path, error)
        os.dup2(fresh, self.descriptor, inheritable=False)
        os.close(fresh)
        return ""

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)


def open_log(path: str) -> tuple[LogFile | None, str]:
    """Return the file, or why it cannot be opened."""
    try:
        return LogFile(path), ""
    except OSError as error:
        return None, _trouble(path, error)


def check(path: str) -> None:
    """See that lines can go there.

    Raises:
        ResourceError: they cannot.
    """
    opened, trouble = (None, "") if path == STDOUT else open_log(path)
    if opened is not None:
        opened.close()
    if trouble:
        raise ResourceError(f"{trouble}; log.file needs a folder that this user may write to")


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)


def _trouble(path: str, error: OSError) -> str:
    return f"cannot open {path}: {error.strerror}"
