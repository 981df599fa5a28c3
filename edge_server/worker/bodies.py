"""Bodies: where the bytes of an answer come from, and how they go out.

Process      a worker. A body is read when it is asked for and never kept.
Memory       at most CHUNK_BYTES of a multipart body at a time for each connection; other bodies
             of files are sent by the guard, and are no objects here. While one is hashed or
             decoded, a block of it or what the configuration lets decoding take.

Every source has `read` and `send` of ``(start, stop)``, whole representation coordinates,
half-open. Several ranges go out as a Stream, which bjoern asks for the next chunk whenever
the last one has been sent.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol

from blake3 import blake3

from edge_server.errors import PackUnreadable
from edge_server.guard import File
from edge_server.http.codings import DecodeCap, DecodeError, decode
from edge_server.worker.files import OpenFile

CHUNK_BYTES = 256 << 10
_HASH_BLOCK_BYTES = 1 << 20


class Source(Protocol):
    """Bytes of one representation.

    Attributes:
        guarded: the file that they depend on; None where nothing can change them.
    """

    guarded: File | None

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes ``[start, stop)``.

        Raises:
            PackUnreadable: they cannot be had unchanged.
        """
        ...

    def send(self, start: int, stop: int) -> bytes:
        """Have the bytes ``[start, stop)`` sent as the body of this answer.

        Returns:
            what bjoern is to send: the bytes, or none where the guard sends them.

        Raises:
            PackUnreadable: they cannot be had unchanged.
            Cold: the first of them would have to wait for a disk.
        """
        ...

    def need(self, start: int, stop: int) -> None:
        """Raise Cold if reading the bytes ``[start, stop)`` would wait for a disk."""
        ...

    def check(self) -> None:
        """Raise PackUnreadable where `read` would, as far as that shows without reading."""
        ...


def digest_of(source: Source, length: int) -> bytes:
    """Return the BLAKE3-256 of the `length` bytes of a source, never more than a block of them in memory.

    Raises:
        PackUnreadable: they cannot be had unchanged.
    """
    hasher = blake3()
    for start in range(0, length, _HASH_BLOCK_BYTES):
        hasher.update(source.read(start, min(start + _HASH_BLOCK_BYTES, length)))
    return hasher.digest()


class FileSpan:
    """A span of a file, as it lies there."""

    __slots__ = ("_file", "_offset", "guarded")

    def __init__(self, file: OpenFile, offset: int) -> None:
        self.guarded: File | None = file.guarded
        self._file = file
        self._offset = offset

    def read(self, start: int, stop: int) -> bytes:
        """See Source."""
        return self._file.read(self._offset + start, stop - start)

    def send(self, start: int, stop: int) -> bytes:
        """See Source."""
        self._file.send(self._offset + start, stop - start)
        return b""

    def need(self, start: int, stop: int) -> None:
        """See Source."""
        self._file.need(self._offset + start, stop - start)

    def check(self) -> None:
        """See Source."""
        self._file.check()


class MemoryBody:
    """A body that is held in memory: a TileJSON document, an archive's metadata."""

    __slots__ = ("_data", "guarded")

    def __init__(self, data: bytes) -> None:
        self.guarded: File | None = None
        self._data = data

    def read(self, start: int, stop: int) -> bytes:
        """See Source."""
        return self._data[start:stop]

    send = read

    def need(self, start: int, stop: int) -> None:
        """See Source."""

    def check(self) -> None:
        """See Source."""


class DecodedSpan:
    """A span of a file stored in a coding that the client does not take, decoded anew each time."""

    __slots__ = ("_coding", "_length", "_max_bytes", "_max_ratio", "_span", "guarded")

    def __init__(self, span: FileSpan, length: int, coding: str, max_bytes: int, max_ratio: float) -> None:
        self.guarded = span.guarded
        self._span = span
        self._length = length
        self._coding = coding
        self._max_bytes = max_bytes
        self._max_ratio = max_ratio

    def read_all(self) -> bytes:
        """Return the whole decoded body.

        Raises:
            PackUnreadable: the stored bytes cannot be had, or do not decode.
            DecodeCap: it is larger than the configuration allows, or already is as stored.
            Cold: the stored bytes would have to wait for a disk.
        """
        if self._length > self._max_bytes:
            raise DecodeCap("bytes")
        self._span.need(0, self._length)
        stored = self._span.read(0, self._length)
        try:
            return decode(self._coding, stored, max_bytes=self._max_bytes, max_ratio=self._max_ratio)
        except DecodeError as error:
            raise PackUnreadable(f"stored {self._coding} body does not decode: {error}") from error

    def read(self, start: int, stop: int) -> bytes:
        """See Source."""
        try:
            return self.read_all()[start:stop]
        except DecodeCap as error:  # it was within the caps when its digest was made
            raise PackUnreadable(str(error)) from error

    send = read

    def need(self, start: int, stop: int) -> None:
        """See Source."""
        self._span.need(0, self._length)

    def check(self) -> None:
        """See Source."""
        self._span.check()


class Stream:
    """A large body in chunks of at most CHUNK_BYTES, for bjoern.

    Args:
        source: the bytes.
        pieces: what to send in turn: ``(bytes that come first, start, stop)``.
        closing: bytes after the last piece.
        on_close: called once with the number of bytes given out, when bjoern is done with
            the body or the client is gone.

    The first chunk is read at once, while the request can still be refused.

    Raises:
        PackUnreadable: by the constructor, or while iterating; bjoern then cuts the
            connection, so that the client sees a short body and never a wrong one.
    """

    __slots__ = ("_chunks", "_first", "_on_close", "_sent")

    def __init__(
        self,
        source: Source,
        pieces: Sequence[tuple[bytes, int, int]],
        closing: bytes,
        on_close: Callable[[int], None],
    ) -> None:
        self._chunks = _chunks(source, pieces, closing)
        self._first = next(self._chunks)
        self._on_close: Callable[[int], None] | None = on_close
        self._sent = 0

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> bytes:
        chunk = self._first or next(self._chunks)
        self._first = b""
        self._sent += len(chunk)
        return chunk

    def close(self) -> None:
        """Give back what the body holds."""
        self._chunks.close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(self._sent)


def _chunks(
    source: Source, pieces: Sequence[tuple[bytes, int, int]], closing: bytes
) -> Generator[bytes, None, None]:
    for head, start, stop in pieces:
        position = min(start + CHUNK_BYTES, stop)
        yield head + source.read(start, position)
        while position < stop:
            following = min(position + CHUNK_BYTES, stop)
            yield source.read(position, following)
            position = following
    if closing:
        yield closing
