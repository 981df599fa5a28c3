"""Digests: BLAKE3-256 of every entry and tile, computed when first needed.

Process      created with the catalog, by its builder; any reader fills a gap.
Memory       one segment a generation: a flag byte a row, then 32 bytes a row.
Consistency  the digest is written first and its flag after it. The bytes of a row
             never change within a generation, so two writers write the same.
Lifetime     that of the catalog it belongs to.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from edge_server.errors import ResourceError
from edge_server.shm.segment import Segment

DIGEST_BYTES = 32
_HEADER = struct.Struct("<8sQQ40x")  # magic, version, rows
assert _HEADER.size == 64
_MAGIC = b"SVEDIGST"
_VERSION = 1


class Digests:
    """The digests of one generation, by row number."""

    __slots__ = ("_known", "_segment", "_values", "rows")

    def __init__(self, segment: Segment, rows: int) -> None:
        self.rows = rows
        self._segment = segment
        start = _HEADER.size + _aligned(rows)
        self._known = segment.buf[_HEADER.size : _HEADER.size + rows]
        self._values = segment.buf[start : start + rows * DIGEST_BYTES]

    @classmethod
    def create(cls, name: str, rows: int) -> Digests:
        """Make the segment, all rows unknown. The supervisor calls it once a generation."""
        segment = Segment.create(name, _HEADER.size + _aligned(rows) + rows * DIGEST_BYTES)
        _HEADER.pack_into(segment.buf, 0, b"\0" * 8, _VERSION, rows)
        segment.buf[:8] = _MAGIC
        return cls(segment, rows)

    @classmethod
    def adopt(cls, name: str) -> Digests:
        """Return the digests that a child of this process has made.

        Raises:
            ResourceError: there are none of that name.
        """
        segment = Segment.adopt(name)
        magic, _, rows = _HEADER.unpack_from(segment.buf)
        if magic != _MAGIC:
            raise ResourceError(f"shared memory {name} holds no digests")
        return cls(segment, rows)

    def get(self, row: int) -> bytes | None:
        """Return the 32 bytes of a row, or None where nobody has computed them yet."""
        if not self._known[row]:
            return None
        return bytes(self._values[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES])

    def put(self, row: int, digest: bytes) -> None:
        """Record a digest. Any process may; all write the same bytes."""
        self._values[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES] = digest
        self._known[row] = 1  # after the digest: a reader that sees 1 sees all of it

    def known(self, rows: int) -> npt.NDArray[np.bool_]:
        """Return which of the first `rows` rows somebody has computed."""
        known: npt.NDArray[np.bool_] = np.frombuffer(self._known, dtype=np.uint8, count=rows) != 0
        return known

    def close(self) -> None:
        """Drop this process's mapping."""
        self._known.release()
        self._values.release()
        self._segment.close()

    def unlink(self) -> None:
        """Remove the segment; its memory goes with the last process that maps it."""
        self._segment.unlink()


def _aligned(size: int) -> int:
    return (size + 63) & ~63
