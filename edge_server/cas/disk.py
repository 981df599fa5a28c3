"""The disk tier as the store sees it: a tier with records, that may stop working and come back.

Process      the sidecar, under the store's lock.
Consistency  what fails, in whatever way, makes the tier unusable with a reason; it is tried again every
             RETRY_S. What could not be forgotten meanwhile is forgotten first when it works again.
Lifetime     the store's. One process has the folder at a time, by a lock that the kernel frees at its end.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from edge_server.cas.tier import Tier
from edge_server.shm.fill_index import DiskState, FillIndex, Stored, Word

if TYPE_CHECKING:
    from edge_server.cas.disk_records import DiskRecords

RETRY_S = 3.0
RESERVE_BYTES = 8 << 20  # left free, for the records and their log
LOCK = "writer.lock"

OnEvent = Callable[[str, dict[str, object]], None]


class Opened(NamedTuple):
    """What opening has found; the store's lock is not held for it.

    Attributes:
        lock_fd: keeps the folder.
        forgotten: which records were forgotten first.
        rows: see `DiskRecords.load`.
        found: of its file system.
    """

    lock_fd: int
    records: DiskRecords
    forgotten: set[bytes]
    rows: list[tuple[str, Stored]]
    found: os.statvfs_result

    def close(self) -> None:
        """Let go of it, where nobody uses it."""
        self.records.close()
        os.close(self.lock_fd)


class Disk:
    """The tier and its records.

    Attributes:
        tier: its bodies.
        reason: why it is unusable; empty while it works.
        is_opening: whether somebody is about to open it.

    Args:
        index: told of the state, in a word of its header.
        on_event: told when the state changes.
    """

    def __init__(self, tier: Tier, index: FillIndex, on_event: OnEvent) -> None:
        self.tier = tier
        self.reason = "not opened yet"
        self.is_opening = False
        self._index = index
        self._max_bytes = tier.max_bytes
        self._on_event = on_event
        self._records: DiskRecords | None = None
        self._lock_fd: int | None = None
        self._forgotten: set[bytes] = set()
        self._retry_s = 0.0

    @property
    def is_usable(self) -> bool:
        """Whether bodies can be stored now."""
        return not self.reason

    @property
    def is_due(self) -> bool:
        """Whether it is time to try again."""
        return not self.is_usable and not self.is_opening and time.monotonic() >= self._retry_s

    def begin_opening(self) -> set[bytes]:
        """Note that somebody opens it; return which records are to be forgotten first."""
        self.is_opening = True
        self._unlock()  # the folder may be another one now
        return set(self._forgotten)

    def open(self, forgotten: set[bytes]) -> Opened:
        """Begin, or try again, without the store's lock: a disk may take long, or hang.

        Args:
            forgotten: of `begin_opening`.

        Raises:
            OSError: it does not work.
        """
        from edge_server.cas.disk_records import DiskRecords  # without a disk, no database is loaded

        os.makedirs(self.tier.folder, mode=0o700, exist_ok=True)
        lock_fd = lock_folder(self.tier.folder)
        records: DiskRecords | None = None
        try:
            self.tier.open()
            self.tier.probe()
            records = DiskRecords(self.tier.folder)
            records.remove(forgotten)
            found = os.statvfs(self.tier.folder)
            return Opened(lock_fd, records, forgotten, records.load(), found)
        except BaseException:
            if records is not None:
                records.close()
            os.close(lock_fd)
            raise

    def take(self, opened: Opened) -> list[tuple[str, Stored]] | None:
        """Use what was opened; return what records there are, the oldest first; None if it does not work."""
        self.is_opening = False
        self._lock_fd, self._records = opened.lock_fd, opened.records
        late = self._forgotten - opened.forgotten
        try:
            self._records.remove(late)
        except OSError as error:
            self.fail(error)
            return None
        self._forgotten.clear()
        self._show("", DiskState.USABLE)
        return [row for row in opened.rows if row[1].key_id not in late]

    def fit(self, found: os.statvfs_result) -> None:
        """Let the bound be what the file system has room for, where that is less than what was configured."""
        ours_bytes = self.tier.used_bytes + found.f_bavail * found.f_frsize
        reserve_bytes = min(RESERVE_BYTES, found.f_blocks * found.f_frsize // 8)
        self.tier.max_bytes = max(0, min(self._max_bytes, ours_bytes - reserve_bytes))

    def not_opened(self, error: OSError) -> None:
        """Note that opening has failed."""
        self.is_opening = False
        self.fail(error)

    def fail(self, error: OSError) -> None:
        """Take the tier for unusable, until it is tried again."""
        self._retry_s = time.monotonic() + RETRY_S
        if self._records is not None:
            # NOTE: by a thread, as closing a database reads and writes, and this disk may hang.
            threading.Thread(target=self._records.close, name="cas-closing", daemon=True).start()
            self._records = None
        self._show(error.strerror or str(error), DiskState.UNUSABLE)

    def keep(self, key_id: bytes, stored: Stored) -> None:
        """Keep a record for the next start, as far as that works."""
        self._forgotten.add(key_id)
        if self._records is None:
            return
        try:
            self._records.put(key_id, stored.record, stored.key, stored.order, stored.is_cut)
            self._forgotten.discard(key_id)
        except OSError as error:
            self.fail(error)

    def forget(self, key_ids: Iterable[bytes]) -> None:
        """Forget records, now or when the tier works again."""
        wanted = list(key_ids)
        self._forgotten.update(wanted)
        if self._records is None:
            return
        try:
            self._records.remove(wanted)
            self._forgotten.difference_update(wanted)
        except OSError as error:
            self.fail(error)

    @property
    def overdue(self) -> DiskRecords | None:
        """Its records, if their log is to be worked into them."""
        return self._records if self._records is not None and self._records.is_checkpoint_due else None

    def close(self) -> None:
        """Let go of the folder."""
        if self._records is not None:
            self._records.close()
            self._records = None
        self._unlock()
        self.reason = "closed"

    def _unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _show(self, reason: str, state: DiskState) -> None:
        changed = self.reason != reason
        self.reason = reason
        self._index.set(Word.DISK_STATE, state)
        if changed:
            self._on_event(
                "cas_disk",
                {"level": "warning" if reason else "info", "usable": not reason, "reason": reason},
            )


def lock_folder(folder: str) -> int:
    """Become the one process that writes to a folder; return the descriptor that keeps it so.

    Raises:
        OSError: another process is, or there is no such folder.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(f"{folder}/{LOCK}", flags, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", LOCK)
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise OSError(error.errno, "in use by another process", folder) from error
    except OSError:
        os.close(fd)
        raise
    return fd
