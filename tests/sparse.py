"""A large object of a test: a sparse file that an origin serves with ranges, and counts what it has sent."""

from __future__ import annotations

import os
import random
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_server.fill.blocks import BLOCK_BYTES

SIZE = 10 * 1024**3 + 12_345
_PIECE = 64 * 1024
_RANGE = re.compile(rb"\r\nRange: bytes=(\d+)-(\d+)\r\n")
_IF_RANGE = re.compile(rb"\r\nIf-Range: ([^\r]+)\r\n")


class SparseObject:
    """A file of `SIZE` bytes, with noise around some of its places.

    Attributes:
        etag: its entity tag; None for none.
        fields: further fields of its answers.
        ranges: what was asked for, half-open; None for all of it.
        sent: bytes of content that a socket has taken.
    """

    def __init__(self, path: Path, seed: int = 1, size: int = SIZE) -> None:
        self.size = size
        self.etag: str | None = f'"v{seed}"'
        self.fields = ["Cache-Control: max-age=600", "Content-Type: video/mp4"]
        self.ranges: list[tuple[int, int] | None] = []
        self.sent = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.ftruncate(self._fd, size)
        self.renew(seed)

    def renew(self, seed: int) -> None:
        """Become another version."""
        noise = random.Random(seed).randbytes(64 * 1024)
        for place in (0, BLOCK_BYTES - 100, 5 * BLOCK_BYTES - 1000, self.size // 2, self.size - len(noise)):
            os.pwrite(self._fd, noise[: max(0, self.size - place)], place)
        self.etag = f'"v{seed}"'

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def bytes(self, start: int, stop: int) -> bytes:
        """Return what is there."""
        return os.pread(self._fd, stop - start, start)

    def script(self, sock: socket.socket, head: bytes) -> None:
        """Answer as RFC 9110 section 14 says."""
        asked, only_if = _RANGE.search(head), _IF_RANGE.search(head)
        is_part = asked is not None and (only_if is None or only_if[1].decode() == self.etag)
        lines = ["HTTP/1.1 200 OK", *self.fields]
        start, stop = 0, self.size
        if asked is not None and is_part:
            start, stop = int(asked[1]), min(int(asked[2]) + 1, self.size)
            lines[0] = "HTTP/1.1 206 Partial Content"
            lines.append(f"Content-Range: bytes {start}-{stop - 1}/{self.size}")
        self.ranges.append((start, stop) if is_part else None)
        lines += [f"Content-Length: {stop - start}"]
        lines += [f"ETag: {self.etag}"] if self.etag is not None else []
        sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        while start < stop:
            piece = self.bytes(start, min(stop, start + _PIECE))
            sock.sendall(piece)
            self.sent += len(piece)
            start += len(piece)


@contextmanager
def sparse_object(folder: Path, size: int = SIZE) -> Iterator[SparseObject]:
    """Make one, and close it in the end."""
    made = SparseObject(folder / "sparse", size=size)
    try:
        yield made
    finally:
        made.close()
