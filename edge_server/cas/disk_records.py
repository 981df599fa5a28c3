"""The records of the disk tier, so that an instance that starts again is warm.

Process      the sidecar, under the store's lock; `svc-edge cas` while no instance has the folder.
Memory       ``records.sqlite`` in the folder of the disk tier, with SQLite's write-ahead log beside it.
Consistency  a change is one transaction. They are not synchronised one by one: after a power cut the last
             ones may be missing, and then their bodies are removed as nobody's. `checkpoint` synchronises,
             by a connection of its own: who stores meanwhile does not wait for the disk.
Lifetime     the operator's. A database that cannot be read as one is begun anew.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from edge_server.shm.fill_record import FillRecord, Stored, pack, unpack

NAME = "records.sqlite"
VERSION = 1
CHECKPOINT_CHANGES = 1000  # after so many the log is worked into the database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    key_id BLOB PRIMARY KEY,
    key TEXT NOT NULL,
    digest BLOB NOT NULL,
    born INTEGER NOT NULL,
    record BLOB NOT NULL
) WITHOUT ROWID
"""


class DiskRecords:
    """The open database of a folder.

    Args:
        is_read_only: only look, and leave everything as it is.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, folder: str, is_read_only: bool = False) -> None:
        self._path = f"{folder}/{NAME}"
        self._is_read_only = is_read_only
        self._changes = 0  # since the last checkpoint
        try:
            self._database = self._open()
        except DamagedError:
            if is_read_only:
                raise
            self._begin_anew()

    def load(self) -> list[tuple[str, Stored]]:
        """Return whole keys and records, the oldest first; what is damaged is left out, or all begun anew.

        Raises:
            OSError: they cannot be read.
        """
        try:
            rows = self._rows()
        except DamagedError:
            if self._is_read_only:
                raise
            self.close()
            self._begin_anew()
            return []
        found = ((key, unpack(data)) for key, data in rows)
        return [(key, stored) for key, stored in found if stored is not None]

    def put(self, key_id: bytes, record: FillRecord, key: str, order: int, is_cut: bool) -> None:
        """Keep a record, instead of any other of its key.

        Raises:
            OSError: it cannot be written.
        """
        text = key.encode(errors="replace").decode()
        row = (key_id, text, record.digest, order, pack(key_id, record, key, order, is_cut))
        self._changes += 1
        with _as_os_errors():
            self._database.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", row)

    def remove(self, key_ids: Iterable[bytes]) -> None:
        """Forget keys, as far as they are there.

        Raises:
            OSError: it cannot be written.
        """
        rows = [(each,) for each in key_ids]
        self._changes += len(rows)
        with _as_os_errors():
            self._database.executemany("DELETE FROM records WHERE key_id = ?", rows)

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether the log has grown enough."""
        return self._changes >= CHECKPOINT_CHANGES

    def checkpoint(self) -> None:
        """Work the log into the database; by one thread at a time, without the store's lock.

        Raises:
            OSError: it cannot be written.
        """
        self._changes = 0
        with _as_os_errors():
            database = self._connect("rw")
            try:
                database.execute("PRAGMA wal_checkpoint(PASSIVE)")
            finally:
                database.close()

    def _begin_anew(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(self._path + suffix)
        self._database = self._open()

    def close(self) -> None:
        """Let go of the files."""
        with suppress(sqlite3.Error):
            self._database.close()

    def _rows(self) -> list[tuple[str, bytes]]:
        with _as_os_errors():
            return self._database.execute("SELECT key, record FROM records ORDER BY born").fetchall()

    def _open(self) -> sqlite3.Connection:
        if os.path.lexists(self._path) and not stat.S_ISREG(os.lstat(self._path).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", self._path)
        mode = "ro" if self._is_read_only else "rwc"
        with _as_os_errors():
            return _closed_on_error(self._connect(mode), self._prepare)

    def _connect(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{_quoted(self._path)}?mode={mode}",
            timeout=2,
            isolation_level=None,
            check_same_thread=False,
            uri=True,
        )

    def _prepare(self, database: sqlite3.Connection) -> None:
        if self._is_read_only:
            database.execute("SELECT count(*) FROM records").fetchone()
            return
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        if database.execute("PRAGMA user_version").fetchone()[0] not in (0, VERSION):
            database.execute("DROP TABLE IF EXISTS records")
        database.execute(_SCHEMA)
        database.execute(f"PRAGMA user_version = {VERSION}")


class DamagedError(OSError):
    """The file is no database, or not a whole one."""


def _closed_on_error(
    database: sqlite3.Connection, prepare: Callable[[sqlite3.Connection], None]
) -> sqlite3.Connection:
    try:
        prepare(database)
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def _as_os_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OSError(errno.EIO, f"database: {error}") from error
    except sqlite3.DatabaseError as error:
        raise DamagedError(errno.EIO, f"database: {error}") from error


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(os.path.abspath(path))
