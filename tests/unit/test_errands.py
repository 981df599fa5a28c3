from __future__ import annotations

import pytest

from edge_server.errands import ERRAND_BYTES, ErrandDone, HashEntry, ReadAhead, unpack
from edge_server.errors import MessageInvalid

LARGEST = 2**63


@pytest.mark.parametrize(
    "errand",
    [
        ReadAhead(1, 0, 10, 0, 0),
        ReadAhead(LARGEST, LARGEST, LARGEST, LARGEST, LARGEST),
        HashEntry(LARGEST, LARGEST, LARGEST),
        ErrandDone(7, True),
        ErrandDone(LARGEST, False),
    ],
    ids=["read", "largest-read", "hash", "done", "not-done"],
)
def test_what_is_packed_is_unpacked(errand: ReadAhead | HashEntry | ErrandDone) -> None:
    assert len(errand.pack()) <= ERRAND_BYTES
    assert unpack(errand.pack()) == errand


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"{}",
        b"[]",
        b"7",
        b'["read",1,2]',
        b'["hash",1,"x",3]',
        b'["done"]',
        b'["other",1,2,3,4,5]',
        b"\xff",
    ],
)
def test_what_is_no_errand_says_so(packet: bytes) -> None:
    with pytest.raises(MessageInvalid):
        unpack(packet)
