"""Directory columns against the `pmtiles` package, and what they refuse."""

from __future__ import annotations

import gzip
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pmtiles.tile import Entry, deserialize_directory, serialize_directory

from edge_server.packs.pmtiles_directory import DirectoryFault, decode_directories
from edge_server.packs.tile_ids import MAX_TILE_ID
from tests.archives import Row, directory, varint

SETTINGS = settings(max_examples=200, deadline=None, derandomize=True)


def decoded(*buffers: bytes) -> list[list[Row]]:
    found = decode_directories(buffers)
    rows = [
        Row(*row)
        for row in zip(
            found.ids.tolist(),
            found.offsets.tolist(),
            found.lengths.tolist(),
            found.runs.tolist(),
            strict=True,
        )
    ]
    bounds = found.bounds.tolist()
    return [rows[start:stop] for start, stop in itertools.pairwise(bounds)]


@st.composite
def directories(draw: st.DrawFn) -> list[Row]:
    rows: list[Row] = []
    tile_id = draw(st.integers(0, 1 << 40))
    for _ in range(draw(st.integers(1, 30))):
        run = draw(st.integers(0, 3) | st.integers(0, (1 << 32) - 1))
        length = draw(st.integers(1, 300) | st.integers(1, (1 << 32) - 1))
        is_next = draw(st.booleans()) and rows
        offset = rows[-1].offset + rows[-1].length if is_next else draw(st.integers(0, 1 << 50))
        rows.append(Row(tile_id, offset, length, run))
        tile_id += max(1, run) + draw(st.integers(0, 2) | st.integers(0, 1 << 55))
    return rows


@SETTINGS
@given(st.lists(directories(), min_size=1, max_size=4))
def test_directories_are_read_as_they_were_written(written: list[list[Row]]) -> None:
    assert decoded(*(directory(rows) for rows in written)) == written


@SETTINGS
@given(directories())
def test_a_directory_of_the_reference_is_read_like_the_reference_does(rows: list[Row]) -> None:
    packed = serialize_directory([Entry(row.tile_id, row.offset, row.length, row.run) for row in rows])
    reference = [Row(e.tile_id, e.offset, e.length, e.run_length) for e in deserialize_directory(packed)]
    assert decoded(gzip.decompress(packed)) == [reference]


def test_numbers_of_every_width_are_read() -> None:
    rows = [Row(0, 0, 1)]
    for width in range(1, 63):
        rows.append(Row((1 << width) - 1 + width, (1 << min(width, 61)) + 5, 1 << min(width, 31)))
    assert decoded(directory(rows)) == [rows]


def test_the_last_tile_of_zoom_31_is_read() -> None:
    rows = [Row(MAX_TILE_ID, 0, 1)]
    assert decoded(directory(rows)) == [rows]


ONE = [Row(5, 0, 10)]
REFUSED = {
    "nothing": (b"", "empty"),
    "no entries": (varint(0), "no entries"),
    "a number without end": (directory(ONE)[:-1] + b"\x81", "within a number"),
    "more entries than there are numbers": (directory(ONE, count=2), "claims 2 entries"),
    "absurdly many entries": (directory(ONE, count=(1 << 64) - 1), "claims 18446744073709551615"),
    "a count that wraps to the right one": (directory(ONE, count=(1 << 62) + 1), "claims"),
    "fewer entries than there are numbers": (directory([*ONE, Row(9, 10, 1)], count=1), "claims 1 entries"),
    "numbers after the last entry": (directory(ONE) + b"\x00", "claims 1 entries"),
    "a number of 11 bytes": (varint(1) + b"\x80" * 10 + b"\x01" + b"\x01\x01\x01", "64 bits"),
    "a number of a million bytes": (varint(1) + b"\xff" * 1_000_000 + b"\x01\x01\x01\x01", "64 bits"),
    "a number of 65 bits": (varint(1) + b"\xff" * 9 + b"\x02" + b"\x01\x01\x01", "64 bits"),
    "an id beyond zoom 31": (directory([Row(MAX_TILE_ID + 1, 0, 1)]), "beyond zoom 31"),
    "ids that add up beyond zoom 31": (
        directory([Row(MAX_TILE_ID, 0, 1), Row(MAX_TILE_ID + 1, 1, 1)]),
        "zoom 31",
    ),
    "ids that wrap around": (varint(3) + varint(MAX_TILE_ID) * 3 + b"\x01" * 9, "beyond zoom 31"),
    "the same id twice": (directory([Row(5, 0, 1), Row(5, 1, 1)]), "entry before"),
    "a run into the next entry": (directory([Row(5, 0, 1, 3), Row(7, 1, 1)]), "overlaps"),
    "a run beyond zoom 31": (directory([Row(MAX_TILE_ID, 0, 1, 2)]), "beyond zoom 31"),
    "a run above 32 bits": (directory([Row(5, 0, 1, 1 << 32)]), "32 bits"),
    "a length of 0": (directory([Row(5, 0, 0)]), "length is 0"),
    "a length above 32 bits": (directory([Row(5, 0, 1 << 32)]), "32 bits"),
    "an offset past any file": (directory([Row(5, 1 << 62, 1)]), "past the end"),
    "a first entry without offset": (varint(1) + varint(5) + varint(1) + varint(1) + varint(0), "no offset"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_directory_that_breaks_the_format_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DirectoryFault, match=reason) as caught:
        decode_directories([data])
    assert caught.value.index == 0


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_the_directory_at_fault_is_named_among_sound_ones(data: bytes, reason: str) -> None:
    sound = directory([Row(1, 0, 10), Row(2, 10, 300, 70_000)])
    with pytest.raises(DirectoryFault, match=reason) as caught:
        decode_directories([sound, sound, data, sound])
    assert caught.value.index == 2


def test_the_entry_at_fault_is_named() -> None:
    rows = [Row(place, place, 1) for place in range(9)] + [Row(9, 9, 0)]
    with pytest.raises(DirectoryFault, match=r"^entry 9: its length is 0$"):
        decode_directories([directory(ONE), directory(rows)])


@SETTINGS
@given(st.binary(max_size=400))
def test_random_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        decode_directories([data])
    except DirectoryFault:
        pass
