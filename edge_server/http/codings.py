"""Decoding of stored content codings, in bounded memory.

Specification: gzip is RFC 1952, br RFC 7932, zstd RFC 8878 with the 8 MiB window of
RFC 9659. A stream must be whole: what is cut short or followed by anything else is
an error, never a shorter result. Does no I/O and knows no process.

Memory: at most about twice what may come out, plus the window of the coding (br
16 MiB, zstd 8 MiB, gzip 32 KiB).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import brotli
import zstandard

from edge_server.errors import EdgeError

# Below this much output the ratio is not judged: a small tile of open sea is no bomb.
RATIO_FLOOR_BYTES = 64 * 1024

_FEED_BYTES = 8 * 1024
_CHUNK_BYTES = 64 * 1024
# bgzip writes a member per 64 KiB, so this still holds 256 MiB of output.
_MAX_GZIP_MEMBERS = 4096
_GZIP_ONLY = 16 + zlib.MAX_WBITS

_ZSTD_MAX_WINDOW_BYTES = 8 * 1024 * 1024  # RFC 9659 section 3
_ZSTD_MAGIC = 0xFD2FB528  # RFC 8878 section 3.1.1
_ZSTD_SKIPPABLE_MAGIC = 0x184D2A50  # section 3.1.2: the low four bits are free
_ZSTD_CHECKSUM_BYTES = 4
_ZSTD_RLE_BLOCK = 1  # section 3.1.1.2.2
_ZSTD_RESERVED_BLOCK = 3
_ZSTD_MAX_BLOCKS = 65536


class DecodeError(EdgeError):
    """The bytes are not one whole stream of their coding."""


class DecodeCap(EdgeError):
    """The output would exceed a cap.

    Args:
        kind: ``"bytes"`` or ``"ratio"``.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(f"decoded data exceed the cap on {kind}")
        self.kind = kind


def decode(coding: str, data: bytes, *, max_bytes: int, max_ratio: float | None = None) -> bytes:
    """Return `data` without its content coding.

    Args:
        coding: ``gzip``, ``br``, ``zstd``, or ``""`` for identity.
        data: one whole stream; several gzip members or zstd frames are one stream.
        max_bytes: bytes that may come out.
        max_ratio: how many times longer than `data` the output may be, judged above
            RATIO_FLOOR_BYTES of output; None for any.

    Raises:
        DecodeCap: a cap would be exceeded; no more than the cap was decoded.
        DecodeError: not a whole stream of this coding, or an unknown coding.
    """
    limit, kind = max_bytes, "bytes"
    if max_ratio is not None:
        ratio_limit = max(RATIO_FLOOR_BYTES, int(max_ratio * len(data)))
        if ratio_limit < max_bytes:
            limit, kind = ratio_limit, "ratio"
    chunks = []
    total = 0
    for chunk in _chunks(coding, data):
        total += len(chunk)
        if total > limit:
            raise DecodeCap(kind)
        chunks.append(chunk)
    return b"".join(chunks)


def _chunks(coding: str, data: bytes) -> Iterator[bytes]:
    """Return the decoded bytes in chunks, none much longer than _CHUNK_BYTES except identity."""
    if coding == "gzip":
        return _gunzip(data)
    if coding == "br":
        return _unbrotli(data)
    if coding == "zstd":
        return _unzstd(data)
    if coding == "":
        return iter((data,))
    raise DecodeError("unknown content coding")


def _gunzip(data: bytes) -> Iterator[bytes]:
    # RFC 1952 section 2.2: a file is a series of members. Each is fed in short pieces,
    # because what a member leaves over is copied: whole files would make that quadratic.
    view = memoryview(data)
    position = 0
    for _ in range(_MAX_GZIP_MEMBERS):
        inflater = zlib.decompressobj(_GZIP_ONLY)
        while not inflater.eof:
            piece = inflater.unconsumed_tail
            if not piece:
                piece = bytes(view[position : position + _FEED_BYTES])
                position += len(piece)
            try:
                chunk = inflater.decompress(piece, _CHUNK_BYTES)
            except zlib.error as error:
                raise DecodeError(f"gzip: {error}") from None
            if not piece and not chunk:
                raise DecodeError("gzip: the stream is cut short")
            yield chunk
        position -= len(inflater.unused_data)
        if position == len(data):
            return
    raise DecodeError("gzip: too many members")


def _unbrotli(data: bytes) -> Iterator[bytes]:
    decoder = brotli.Decompressor()
    view = memoryview(data)
    position = 0
    # NOTE: a decoder that takes more input may still hold output, so the end is when it says so.
    while not decoder.is_finished():
        piece = b""
        if decoder.can_accept_more_data():
            piece = bytes(view[position : position + _FEED_BYTES])
            position += len(piece)
        try:
            chunk = decoder.process(piece, output_buffer_limit=_CHUNK_BYTES)
        except brotli.error as error:
            raise DecodeError(str(error)) from None
        if not piece and not chunk:
            raise DecodeError("brotli: the stream is cut short")
        yield chunk
    if position < len(data):
        raise DecodeError("brotli: more than one stream")


def _unzstd(data: bytes) -> Iterator[bytes]:
    _check_zstd_frames(data)
    decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW_BYTES)
    with decoder.stream_reader(data, read_across_frames=True) as reader:
        try:
            while chunk := reader.read(_CHUNK_BYTES):
                yield chunk
        except zstandard.ZstdError as error:
            raise DecodeError(str(error)) from None


def _check_zstd_frames(data: bytes) -> None:
    """Refuse data that do not end where a frame ends: the library's reader does not say.

    Source: RFC 8878 sections 3.1.1, 3.1.1.2 and 3.1.2.
    """
    blocks_left = _ZSTD_MAX_BLOCKS
    position = 0
    while position < len(data) or position == 0:
        magic = int.from_bytes(data[position : position + 4], "little")
        if magic & ~0xF == _ZSTD_SKIPPABLE_MAGIC:
            position += 8 + int.from_bytes(data[position + 4 : position + 8], "little")
            blocks_left -= 1
        elif magic == _ZSTD_MAGIC:
            position, blocks_left = _zstd_frame_end(data, position, blocks_left)
        else:
            raise DecodeError("zstd: not a frame")
        if blocks_left < 0:
            raise DecodeError("zstd: too many blocks")
    if position > len(data):
        raise DecodeError("zstd: the stream is cut short")


def _zstd_frame_end(data: bytes, position: int, blocks_left: int) -> tuple[int, int]:
    """Return where the frame at `position` ends, beyond the data if it is cut short, and the blocks left."""
    header = data[position : position + 18]  # section 3.1.1.1: magic and at most 14 bytes
    try:
        has_checksum = zstandard.get_frame_parameters(header).has_checksum
        position += zstandard.frame_header_size(header)
    except zstandard.ZstdError as error:
        raise DecodeError(f"zstd: {error}") from None
    is_last = False
    while not is_last and blocks_left >= 0:
        # Section 3.1.1.2: Last_Block 1 bit, Block_Type 2 bits, Block_Size 21 bits, little-endian.
        block_header = int.from_bytes(data[position : position + 3], "little")
        if position + 3 > len(data):
            raise DecodeError("zstd: the stream is cut short")
        is_last = bool(block_header & 1)
        block_type = block_header >> 1 & 3
        if block_type == _ZSTD_RESERVED_BLOCK:
            raise DecodeError("zstd: a reserved block type")
        position += 3 + (1 if block_type == _ZSTD_RLE_BLOCK else block_header >> 3)
        blocks_left -= 1
    return position + (_ZSTD_CHECKSUM_BYTES if has_checksum else 0), blocks_left
