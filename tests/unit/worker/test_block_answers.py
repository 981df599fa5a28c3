"""Answers from blocks: bytes are put together over their borders."""

from __future__ import annotations

import pytest

from edge_server.fill.blocks import BLOCK_BYTES
from edge_server.worker.block_answers import BlockSource, range_wanted
from edge_server.worker.bodies import MemoryBody
from tests.worlds import noise

DATA = noise(7, 3 * BLOCK_BYTES + 10)


def source(*numbers: int) -> BlockSource:
    starts = [number * BLOCK_BYTES for number in numbers]
    return BlockSource({start: MemoryBody(DATA[start : start + BLOCK_BYTES]) for start in starts})


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (0, 1),
        (0, BLOCK_BYTES),
        (BLOCK_BYTES - 1, BLOCK_BYTES + 1),
        (5, 3 * BLOCK_BYTES + 10),
        (3 * BLOCK_BYTES, 3 * BLOCK_BYTES + 10),
    ],
)
def test_any_span_of_the_blocks_comes_back(start: int, stop: int) -> None:
    assert source(0, 1, 2, 3).read(start, stop) == DATA[start:stop]


def test_blocks_that_nobody_wanted_need_not_be_there() -> None:
    start = 2 * BLOCK_BYTES + 5
    assert source(2).read(start, start + 9) == DATA[start : start + 9]


@pytest.mark.parametrize(
    ("method", "fields", "wanted"),
    [
        ("GET", {"HTTP_RANGE": "bytes=0-9"}, "bytes=0-9"),
        ("HEAD", {"HTTP_RANGE": "bytes=0-9"}, ""),
        ("GET", {"HTTP_RANGE": "bytes=0-9", "HTTP_IF_RANGE": '"x"'}, ""),
        ("GET", {"HTTP_RANGE": "bytes=" + "0-1," * 200}, ""),
        ("GET", {}, ""),
    ],
    ids=["a range", "head", "if-range", "a long one", "none"],
)
def test_only_a_get_whose_range_holds_is_answered_with_parts(
    method: str, fields: dict[str, str], wanted: str
) -> None:
    assert range_wanted({"REQUEST_METHOD": method, **fields}) == wanted
