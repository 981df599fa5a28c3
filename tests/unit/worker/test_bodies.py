"""Bodies are read in bounded pieces, whatever an archive says about their length."""

from __future__ import annotations

import gzip
from typing import cast

import pytest
from blake3 import blake3

from edge_server.http.codings import DecodeCap
from edge_server.worker.bodies import DecodedSpan, FileSpan, MemoryBody, digest_of

MEBI = 1 << 20


class Watched(MemoryBody):
    """A body that remembers how much was read at once."""

    largest = 0

    def read(self, start: int, stop: int) -> bytes:
        self.largest = max(self.largest, stop - start)
        return super().read(start, stop)


@pytest.mark.parametrize("length", [0, 1, MEBI - 1, MEBI, MEBI + 1, 3 * MEBI], ids=str)
def test_a_digest_is_that_of_all_bytes_and_takes_bounded_memory(length: int) -> None:
    data = bytes(range(256)) * (length // 256) + b"x" * (length % 256)
    source = Watched(data)
    assert digest_of(source, length) == blake3(data).digest()
    assert source.largest <= MEBI


def test_what_is_stored_beyond_the_cap_is_not_even_read() -> None:
    stored = gzip.compress(b"x" * 1000)
    source = Watched(stored)
    span = DecodedSpan(cast(FileSpan, source), len(stored), "gzip", len(stored) - 1, 1000.0)
    with pytest.raises(DecodeCap):
        span.read_all()
    assert source.largest == 0
