"""Inflating: content codings decoded as they stream in, within caps on bytes and on ratio.

Specification: RFC 1952 (gzip), RFC 7932 (br), RFC 8878 with the window of RFC 9659 (zstd); contract
section 4, `ingress.max_decompress_ratio` and `ingress.decompress_abs_bytes`. A stream must be whole, and
nothing may follow it. Memory: a piece of input, and 64 KiB of output (zstd: 2 MiB). Does no I/O.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import brotli
import zstandard

from edge_server.errors import DecompressCap, IntegrityError, RatioCap
from edge_server.http.codings import RATIO_FLOOR_BYTES

CODINGS = frozenset({"br", "zstd", "gzip"})
_NAMES = {"x-gzip": "gzip"}
_OUTPUT_BYTES = 64 * 1024
_GZIP_ONLY = 16 + zlib.MAX_WBITS
_ZSTD_MAX_WINDOW_BYTES = 8 * 1024 * 1024  # RFC 9659 section 3
# A block of 4 bytes can become 128 KiB, and the library's decoder returns all of it at once.
_ZSTD_FEED_BYTES = 64


def coding_of(value: str | None) -> str:
    """Return the coding that a Content-Encoding names, ``identity`` if none.

    Raises:
        IntegrityError: several of them, or an unknown one.
    """
    name = (value or "identity").strip(" \t").lower()
    name = _NAMES.get(name, name)
    if name != "identity" and name not in CODINGS:
        raise IntegrityError("an unknown content coding, or several")
    return name


class Inflater:
    """One stream of a coding.

    Args:
        coding: of CODINGS.
        max_bytes: that may come out.
        max_ratio: how many times longer than the input the output may be, judged above
            RATIO_FLOOR_BYTES of output.
        length: of the input, if it is known; otherwise the ratio is judged at the end.
    """

    def __init__(self, coding: str, *, max_bytes: int, max_ratio: float, length: int | None) -> None:
        self._coding = coding
        self._max_bytes = max_bytes
        self._max_ratio = max_ratio
        self._length = length
        self._decoder = _new_decoder(coding)
        self._is_ended = False
        self.taken = 0
        self.given = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield what comes out of the next bytes.

        Raises:
            DecompressCap, RatioCap: a cap is exceeded.
            IntegrityError: the bytes are not of this coding, or follow its end.
        """
        self.taken += len(piece)
        try:
            for chunk in self._decoded(piece):
                self.given += len(chunk)
                self._check(self._length)
                yield chunk
        except (zlib.error, brotli.error, zstandard.ZstdError) as error:
            raise IntegrityError(f"{self._coding}: {error}") from error

    def finish(self) -> None:
        """Say that all bytes have been fed.

        Raises:
            RatioCap: the cap is exceeded.
            IntegrityError: the stream is cut short.
        """
        self._check(self.taken)
        if not self._is_ended:
            raise IntegrityError(f"{self._coding}: the stream is cut short")

    def _check(self, length: int | None) -> None:
        if self.given > self._max_bytes:
            raise DecompressCap("too large when inflated")
        if length is not None and self.given > max(RATIO_FLOOR_BYTES, self._max_ratio * length):
            raise RatioCap("grows too far when inflated")

    def _decoded(self, piece: bytes) -> Iterator[bytes]:
        if self._coding == "gzip":
            yield from self._gunzip(piece)
        elif self._coding == "br":
            yield from self._unbrotli(piece)
        else:
            yield from self._unzstd(piece)

    def _gunzip(self, piece: bytes) -> Iterator[bytes]:
        while piece:
            if self._is_ended:  # RFC 1952 section 2.2: members follow each other
                self._decoder, self._is_ended = _new_decoder("gzip"), False
            yield self._decoder.decompress(piece, _OUTPUT_BYTES)
            while not self._decoder.eof and (rest := self._decoder.unconsumed_tail):
                yield self._decoder.decompress(rest, _OUTPUT_BYTES)
            self._is_ended = self._decoder.eof
            piece = self._decoder.unused_data if self._is_ended else b""

    def _unbrotli(self, piece: bytes) -> Iterator[bytes]:
        if self._is_ended and piece:
            raise IntegrityError("br: more than one stream")
        chunk = self._decoder.process(piece, output_buffer_limit=_OUTPUT_BYTES)
        # NOTE: a decoder that takes more input may still hold output.
        while chunk and not self._decoder.is_finished():
            yield chunk
            chunk = self._decoder.process(b"", output_buffer_limit=_OUTPUT_BYTES)
        yield chunk
        self._is_ended = self._decoder.is_finished()

    def _unzstd(self, piece: bytes) -> Iterator[bytes]:
        for start in range(0, len(piece), _ZSTD_FEED_BYTES):
            part = piece[start : start + _ZSTD_FEED_BYTES]
            while part:
                if self._is_ended:  # RFC 8878 section 3.1: frames follow each other
                    self._decoder, self._is_ended = _new_decoder("zstd"), False
                yield self._decoder.decompress(part)
                self._is_ended = self._decoder.eof
                part = self._decoder.unused_data if self._is_ended else b""


def _new_decoder(coding: str):  # type: ignore[no-untyped-def]  # three libraries, three types
    if coding == "gzip":
        return zlib.decompressobj(_GZIP_ONLY)
    if coding == "br":
        return brotli.Decompressor()
    return zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW_BYTES).decompressobj()
