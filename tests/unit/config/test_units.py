"""Sizes and durations against the table of units, and what must never pass for one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.config import units

bounded = settings(max_examples=200, deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1B", 1),
        ("1KB", 1000),
        ("1MB", 10**6),
        ("10GB", 10**10),
        ("1KiB", 1024),
        ("1MiB", 1 << 20),
        ("10GiB", 10 << 30),
        ("1.5KiB", 1536),
        ("16 kib", 16384),
        (" 512 ", 512),
        (4096, 4096),
        (2.0, 2),
        ("4611686018427387903B", (1 << 62) - 1),
    ],
    ids=str,
)
def test_a_size_is_read_in_every_unit(text: object, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("250ms", 0.25),
        ("5s", 5),
        ("10m", 600),
        ("1h", 3600),
        ("1.5s", 1.5),
        ("5", 5),
        (2.5, 2.5),
        ("3M", 180),
    ],
    ids=str,
)
def test_a_duration_is_read_in_every_unit(text: object, seconds: float) -> None:
    assert units.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "lots",
        "1 XB",
        "-1",
        "+1",
        "1e3",
        "0x10",
        "1_000",
        "1K",
        "٣",
        "1.KiB",
        "0.5",
        True,
        None,
        [],
        -1,
        float("nan"),
        1 << 63,
    ],
    ids=repr,
)
def test_what_is_not_a_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"that is|no unit"):
        units.parse_size(value)


@pytest.mark.parametrize(
    "value", ["", "soon", "5d", "5sec", "-1s", "1h30m", False, None, float("inf"), "367d", "9000h"], ids=repr
)
def test_what_is_not_a_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"that is|no unit"):
        units.parse_duration(value)


@pytest.mark.parametrize(("text", "rate"), [("1KiB", 1024), ("1KiB/s", 1024), ("0", 0), (100, 100)], ids=str)
def test_a_rate_is_a_size_a_second(text: object, rate: int) -> None:
    assert units.parse_rate(text) == rate


@bounded
@given(st.integers(min_value=0, max_value=1 << 62))
def test_a_written_size_is_read_back_exactly(size: int) -> None:
    assert units.parse_size(units.format_size(size)) == size


@bounded
@given(st.integers(min_value=0, max_value=366 * 86_400_000))
def test_a_written_duration_is_read_back_to_the_millisecond(milliseconds: int) -> None:
    assert units.parse_duration(units.format_duration(milliseconds / 1000)) == pytest.approx(
        milliseconds / 1000
    )


@bounded
@given(st.one_of(st.text(max_size=20), st.integers(), st.floats(), st.none()))
def test_anything_else_is_a_value_error_and_nothing_worse(value: object) -> None:
    for parse in (units.parse_size, units.parse_duration, units.parse_rate):
        try:
            assert parse(value) >= 0
        except ValueError:
            pass
