"""Inflating as it streams in: the same bytes as at once, within the caps, and whole or refused."""

from __future__ import annotations

import gzip

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from edge_server.errors import DecompressCap, IntegrityError, RatioCap
from edge_server.fill.inflating import Inflater, coding_of

ENCODERS = {
    "gzip": gzip.compress,
    "br": lambda data: brotli.compress(data, quality=4),
    "zstd": zstandard.ZstdCompressor().compress,
}
CODINGS = sorted(ENCODERS)
AT_ONCE = {"zstd": 16 * 128 * 1024}  # what 64 bytes can become, which the library returns in one piece


def inflate(
    coding: str, data: bytes, step: int, *, length: int | None = None, max_bytes: int = 10**7
) -> bytes:
    inflater = Inflater(coding, max_bytes=max_bytes, max_ratio=10, length=length)
    out = b""
    for start in range(0, len(data), step):
        out += b"".join(inflater.feed(data[start : start + step]))
    inflater.finish()
    return out


@pytest.mark.parametrize("coding", CODINGS)
@given(data=st.binary(max_size=3000), step=st.integers(1, 700))
def test_what_was_encoded_comes_out_in_whatever_pieces_it_comes(coding: str, data: bytes, step: int) -> None:
    assert inflate(coding, ENCODERS[coding](data), step) == data


@pytest.mark.parametrize("coding", CODINGS)
def test_every_shorter_stream_is_refused(coding: str) -> None:
    data = ENCODERS[coding](bytes(range(256)) * 3)
    for kept in range(len(data)):
        with pytest.raises(IntegrityError):
            inflate(coding, data[:kept], 64)


@pytest.mark.parametrize("coding", CODINGS)
def test_what_follows_a_stream_is_refused(coding: str) -> None:
    for step in (1, 1000):
        with pytest.raises(IntegrityError):
            inflate(coding, ENCODERS[coding](b"hello") + b"more", step)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_members_that_follow_each_other_are_one_stream(coding: str) -> None:
    data = ENCODERS[coding](b"one ") + ENCODERS[coding](b"two")
    for step in (1, 1000):
        assert inflate(coding, data, step) == b"one two"


@pytest.mark.parametrize("coding", CODINGS)
def test_a_ratio_is_judged_at_once_if_the_length_is_known_and_at_the_end_if_not(coding: str) -> None:
    data = ENCODERS[coding](bytes(3_000_000))
    inflater = Inflater(coding, max_bytes=10**7, max_ratio=10, length=len(data))
    with pytest.raises(RatioCap):
        list(inflater.feed(data))
    assert inflater.given <= AT_ONCE.get(coding, 256 * 1024)
    with pytest.raises(RatioCap):
        inflate(coding, data, 1000)


@pytest.mark.parametrize("coding", CODINGS)
def test_no_more_than_the_cap_comes_out(coding: str) -> None:
    data = ENCODERS[coding](bytes(6_000_000))
    inflater = Inflater(coding, max_bytes=100_000, max_ratio=10**6, length=None)
    given_out: list[bytes] = []
    with pytest.raises(DecompressCap):
        given_out.extend(inflater.feed(data))
    assert sum(map(len, given_out)) <= 100_000


def test_something_small_is_no_bomb_whatever_its_ratio() -> None:
    assert inflate("gzip", gzip.compress(bytes(60_000)), 100) == bytes(60_000)


@pytest.mark.parametrize(
    ("value", "coding"),
    [(None, "identity"), ("identity", "identity"), (" GZip ", "gzip"), ("x-gzip", "gzip"), ("br", "br")],
)
def test_a_coding_is_known_by_its_names(value: str | None, coding: str) -> None:
    assert coding_of(value) == coding


@pytest.mark.parametrize("value", ["gzip, br", "deflate", "compress", "gzip, identity", "*"])
def test_other_codings_are_refused(value: str) -> None:
    with pytest.raises(IntegrityError):
        coding_of(value)
