"""A tier of the store: a folder of bodies with a bound on their bytes.

Process      the sidecar, the only writer; under the store's lock except where it says otherwise.
Memory       files: see bodies.py; unfinished ones in ``tmp``, which nobody else looks at.
Consistency  a body is written under a temporary name, synchronised where the tier is durable, and renamed.
             What a killed writer left in ``tmp`` is removed when the tier is opened.
Lifetime     see bodies.py.

What goes wrong is an OSError; the store decides what it means.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_server.cas.bodies import SEALED_MODE, body_path, seal_ns, stamp
from edge_server.cas.sieve import Sieve

FOLDERS = tuple(f"{number:02x}" for number in range(256))

_NAME = re.compile(r"[0-9a-f]{64}")
_serial = itertools.count(1)
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class Tier:
    """One folder.

    Attributes:
        max_bytes: what its bodies may have together.
        used_bytes: what its bodies have together.
        claimed_bytes: what those that are being written may become.
        queue: digests of its bodies, for eviction.

    Args:
        folder: made if it is not there.
        is_durable: whether bodies outlive the machine, and are synchronised.
        take_visited: see Sieve.
    """

    def __init__(
        self, folder: Path | str, max_bytes: int, is_durable: bool, take_visited: Callable[[bytes], bool]
    ) -> None:
        self.folder = str(folder)
        self.max_bytes = max_bytes
        self.is_durable = is_durable
        self.used_bytes = 0
        self.claimed_bytes = 0
        self.queue: Sieve[bytes] = Sieve(take_visited)

    @property
    def lacks_bytes(self) -> int:
        """How much must go before all that is claimed has room."""
        return max(0, self.used_bytes + self.claimed_bytes - self.max_bytes)

    def open(self) -> None:
        """Make what is missing of the folder, and empty ``tmp``.

        Raises:
            OSError: something is in its place, or it cannot be written.
        """
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        for name in (*FOLDERS, "tmp"):
            _make_folder(f"{self.folder}/{name}")
        for name in os.listdir(f"{self.folder}/tmp"):
            os.unlink(f"{self.folder}/tmp/{name}")
        self._sync_folder(self.folder)

    def probe(self) -> None:
        """Try what storing needs.

        Raises:
            OSError: it does not work.
        """
        for name in (*FOLDERS, "tmp"):
            _make_folder(f"{self.folder}/{name}")
        fd, path = self.create()
        try:
            os.write(fd, bytes(4096))
            self.sync(fd)
        finally:
            os.close(fd)
            os.unlink(path)

    def create(self) -> tuple[int, str]:
        """Return descriptor and path of a new temporary file, which this descriptor alone may write.

        Raises:
            OSError: it cannot be made.
        """
        path = f"{self.folder}/tmp/{os.getpid()}-{next(_serial)}"
        return os.open(path, _CREATE, SEALED_MODE), path

    def sync(self, fd: int) -> None:
        """Have a file's content reach the disk, where the tier is durable; without the store's lock."""
        if self.is_durable:
            os.fsync(fd)

    def seal(self, fd: int, digest: bytes) -> None:
        """Finish a temporary file; without the store's lock.

        Raises:
            OSError: it cannot be finished.
        """
        stamp(fd, digest)
        self.sync(fd)

    def install(self, path: str, digest: bytes) -> None:
        """Give a finished file its name, over what may have it.

        Raises:
            OSError: it cannot be renamed; it is still under its temporary name.
        """
        os.rename(path, body_path(self.folder, digest))

    def sync_names(self, digest: bytes) -> None:
        """Have the name of a body reach the disk, where the tier is durable; without the store's lock."""
        if not self.is_durable:
            return
        self._sync_folder(os.path.dirname(body_path(self.folder, digest)))

    def has(self, digest: bytes, size: int) -> bool:
        """Whether the body is there, as it was sealed."""
        try:
            found = os.lstat(body_path(self.folder, digest))
        except OSError:
            return False
        is_file = stat.S_ISREG(found.st_mode)
        return is_file and found.st_size == size and found.st_mtime_ns == seal_ns(digest)

    def unlink(self, digest: bytes) -> None:
        """Remove the file of a body, if it is there.

        Raises:
            OSError: it cannot be removed.
        """
        try:
            os.unlink(body_path(self.folder, digest))
        except FileNotFoundError:
            pass

    def listing(self, folder: str) -> Iterator[bytes]:
        """Yield the digests of the bodies in one of FOLDERS; none where it cannot be read."""
        try:
            names = os.listdir(f"{self.folder}/{folder}")
        except OSError:
            return
        yield from (bytes.fromhex(name) for name in names if _NAME.fullmatch(name))

    def _sync_folder(self, path: str) -> None:
        if not self.is_durable:
            return
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _make_folder(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`.

    Raises:
        OSError: it cannot be written.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
