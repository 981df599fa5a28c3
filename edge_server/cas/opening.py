"""Opening the disk tier: in a thread of its own, without the store's lock, as a disk may take long, or hang.

Process      the sidecar; asked by `adopt` and by the upkeep. The thread ends when the disk has answered.
Consistency  what changes meanwhile is noted by `Disk`, and made up for when what was opened is taken. A store
             that was closed meanwhile takes nothing.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from edge_server.cas.adoption import Adoption
from edge_server.cas.contents import Contents
from edge_server.cas.disk import Disk

OPENING_S = 2.0  # a disk that takes longer is used when it is there


class Opening:
    """Opens the disk.

    Args:
        contents: what the store holds.
        lock: the store's.
        adoption: takes over what the disk has.
        is_writer: whether the store is the writer still; asked under the lock.
    """

    def __init__(
        self,
        contents: Contents,
        lock: AbstractContextManager[Any],
        adoption: Adoption,
        is_writer: Callable[[], bool],
    ) -> None:
        self._contents = contents
        self._lock = lock
        self._adoption = adoption
        self._is_writer = is_writer

    def retry(self) -> None:
        """Try a disk that is not in use, if it is time to; waits for it for OPENING_S at most."""
        with self._lock:
            disk = self._contents.disk
            if disk is None or not self._is_writer() or not disk.is_due:
                return
            given = (disk, disk.begin_opening(), self._adoption.expected())
        opening = threading.Thread(target=self._open, args=given, name="cas-opening", daemon=True)
        opening.start()
        opening.join(OPENING_S)
        with self._lock:
            if disk.is_opening and self._is_writer():
                disk.fail(TimeoutError(errno.ETIMEDOUT, "opening takes long"))

    def _open(self, disk: Disk, forgotten: set[bytes], expected: dict[bytes, int]) -> None:
        """Open the disk, then use it, whenever that is."""
        try:
            opened = disk.open(forgotten)
            survey = self._adoption.survey(expected, opened.rows)
        except OSError as error:
            self._not_opened(disk, error)
            return
        except BaseException:
            self._not_opened(disk, OSError(errno.EIO, "a defect"))
            raise
        with self._lock:
            if self._is_writer():
                self._adoption.take_disk(opened, survey)
            else:
                disk.is_opening = False
                opened.close()

    def _not_opened(self, disk: Disk, error: OSError) -> None:
        with self._lock:
            if self._is_writer():
                disk.not_opened(error)
            else:
                disk.is_opening = False
