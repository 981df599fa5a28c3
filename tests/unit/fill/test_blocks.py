"""Blocks: the right ones are asked for, and only the very part of the very version is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.errors import AnotherVersion, IntegrityError, RangeNotSatisfiable
from edge_server.fill.blocks import (
    BLOCK_BYTES,
    LARGE,
    Part,
    blocks_of,
    check_part,
    part_of,
    range_of,
    spans_of,
    variant_of_block,
)

TOTAL = 5 * BLOCK_BYTES + 7
LAST = (5 * BLOCK_BYTES, TOTAL)


@pytest.mark.parametrize(
    ("value", "is_multi", "spans"),
    [
        ("bytes=0-99", False, [(0, 100)]),
        ("bytes=-1", False, [(TOTAL - 1, TOTAL)]),
        ("bytes=0-0,9-9", True, [(0, 1), (9, 10)]),
        ("pages=1-2", False, None),
        ("pages=1-2", True, None),
    ],
)
def test_a_range_field_asks_for_spans(
    value: str, is_multi: bool, spans: list[tuple[int, int]] | None
) -> None:
    assert spans_of(value, TOTAL, is_multi=is_multi) == spans


@pytest.mark.parametrize("value", [f"bytes={TOTAL}-", "bytes=9-1", "bytes=0-0,9-9"])
def test_what_is_not_satisfiable_is_told(value: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        spans_of(value, TOTAL, is_multi=False)


@given(st.lists(st.tuples(st.integers(0, TOTAL - 1), st.integers(1, TOTAL)), min_size=1, max_size=4))
def test_blocks_hold_every_byte_that_is_wanted_and_none_is_needless(pairs: list[tuple[int, int]]) -> None:
    spans = [(start, min(TOTAL, start + length)) for start, length in pairs]
    blocks = blocks_of(spans, TOTAL, 10 * TOTAL)
    assert blocks == sorted(set(blocks))
    for start, stop in blocks:
        assert start % BLOCK_BYTES == 0
        assert stop == min(start + BLOCK_BYTES, TOTAL)
        assert any(first < stop and start < end for first, end in spans)
    covered = {start for start, _ in blocks}
    for first, end in spans:
        assert set(range(first - first % BLOCK_BYTES, end, BLOCK_BYTES)) <= covered


def test_more_bytes_than_are_allowed_need_no_block() -> None:
    assert blocks_of([(0, 100)], TOTAL, 100) == [(0, BLOCK_BYTES)]
    assert blocks_of([(0, 101)], TOTAL, 100) == []
    assert blocks_of([(0, 60), (TOTAL - 60, TOTAL)], TOTAL, 100) == []


def test_blocks_of_two_versions_or_places_have_two_names() -> None:
    names = {variant_of_block(etag, block) for etag in ('"1"', '"2"') for block in ((0, 1), (10, 11))}
    assert len(names | {LARGE}) == 5
    assert all("\0" in name for name in names)


def fields(value: str | None, *more: tuple[str, str]) -> list[tuple[str, str]]:
    return [*([] if value is None else [("Content-Range", value)]), ("ETag", '"1"'), *more]


def test_the_last_block_is_believed_though_it_is_shorter_than_was_asked_for() -> None:
    told = check_part(fields(f"bytes {LAST[0]}-{TOTAL - 1}/{TOTAL}"), (LAST[0], 6 * BLOCK_BYTES), 7, '"1"')
    assert told == Part(*LAST, TOTAL)
    assert range_of(LAST) == f"bytes={LAST[0]}-{TOTAL - 1}"


@pytest.mark.parametrize(
    "value",
    [None, "", "bytes */5", "bytes 0-4/*", "bytes 5-4/9", "bytes 0-9/9", "items 0-4/9", "bytes 0-4/9, 1"],
)
def test_a_part_that_does_not_say_what_it_is_is_refused(value: str | None) -> None:
    with pytest.raises(IntegrityError):
        part_of(fields(value))


@pytest.mark.parametrize(
    ("value", "etag", "is_another"),
    [
        ("bytes 0-9/100", '"2"', True),
        ("bytes 0-4/5", '"2"', True),  # which is shorter, too
        ("bytes 0-8/100", '"1"', False),
        ("bytes 1-10/100", None, False),
    ],
)
def test_another_version_is_told_from_another_part(value: str, etag: str | None, is_another: bool) -> None:
    with pytest.raises(IntegrityError) as told:
        check_part(fields(value), (0, 10), None, etag)
    assert isinstance(told.value, AnotherVersion) is is_another
