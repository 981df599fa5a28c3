"""Decoding: round trips, whole streams only, and caps that hold in bounded memory."""

from __future__ import annotations

import gzip
import random
import resource
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.errors import EdgeError
from edge_server.http.codings import RATIO_FLOOR_BYTES, DecodeCap, DecodeError, decode

bounded = settings(max_examples=100, deadline=None, derandomize=True)

MIB = 1024 * 1024


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def zstd_streamed(data: bytes) -> bytes:
    """A frame that declares no content size."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(data) + compressor.flush()


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstd),
    "zstd without a size": ("zstd", zstd_streamed),
}
encodings = pytest.mark.parametrize("encoding", ENCODERS)

payloads = st.one_of(st.binary(max_size=2000), st.binary(max_size=50).map(lambda unit: unit * 5000))


@encodings
@bounded
@given(payloads)
def test_what_was_encoded_comes_back(encoding: str, payload: bytes) -> None:
    coding, encode = ENCODERS[encoding]
    assert decode(coding, encode(payload), max_bytes=len(payload)) == payload


@encodings
@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, MIB, 5 * MIB + 1])
def test_few_bytes_may_become_many(encoding: str, size: int) -> None:
    coding, encode = ENCODERS[encoding]
    assert decode(coding, encode(bytes(size)), max_bytes=size) == bytes(size)


@encodings
@bounded
@given(payloads.filter(len), st.data())
def test_one_byte_above_the_cap_is_refused(encoding: str, payload: bytes, data: st.DataObject) -> None:
    coding, encode = ENCODERS[encoding]
    cap = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(DecodeCap) as refusal:
        decode(coding, encode(payload), max_bytes=cap)
    assert refusal.value.kind == "bytes"


@encodings
@bounded
@given(payloads, st.data())
def test_a_stream_cut_short_is_an_error(encoding: str, payload: bytes, data: st.DataObject) -> None:
    coding, encode = ENCODERS[encoding]
    encoded = encode(payload)
    with pytest.raises(DecodeError):
        decode(coding, encoded[: data.draw(st.integers(0, len(encoded) - 1))], max_bytes=MIB)


@encodings
@bounded
@given(payloads, st.binary(min_size=1, max_size=20))
def test_anything_after_the_stream_is_an_error(encoding: str, payload: bytes, garbage: bytes) -> None:
    coding, encode = ENCODERS[encoding]
    with pytest.raises(DecodeError):
        decode(coding, encode(payload) + garbage, max_bytes=MIB)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_the_end_is_judged_wherever_the_feeding_splits(coding: str) -> None:
    encode = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstd}[coding]
    noise = random.Random(1).randbytes(3 * 8192)
    overhead = len(encode(noise[:8192])) - 8192
    for length in range(8192 - overhead - 3, 8192 - overhead + 4):
        stream = encode(noise[:length])
        assert decode(coding, stream, max_bytes=MIB) == noise[:length]
        for broken in (stream + b"\0", stream[:-1]):
            with pytest.raises(DecodeError):
                decode(coding, broken, max_bytes=MIB)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
@bounded
@given(noise=st.binary(max_size=300))
def test_noise_ends_in_an_error_or_within_the_cap(coding: str, noise: bytes) -> None:
    heads = {"gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "br": b"", "zstd": b"\x28\xb5\x2f\xfd"}
    for data in (noise, heads[coding] + noise):
        try:
            assert len(decode(coding, data, max_bytes=1000)) <= 1000
        except (DecodeError, DecodeCap):
            pass


def test_both_refusals_are_errors_of_this_package() -> None:
    assert issubclass(DecodeError, EdgeError)
    assert issubclass(DecodeCap, EdgeError)


@encodings
@bounded
@given(payload=st.binary(min_size=1, max_size=500), data=st.data())
def test_a_flipped_bit_never_passes_the_cap(encoding: str, payload: bytes, data: st.DataObject) -> None:
    coding, encode = ENCODERS[encoding]
    encoded = bytearray(encode(payload))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert len(decode(coding, bytes(encoded), max_bytes=600)) <= 600
    except (DecodeError, DecodeCap):
        pass


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_parts_of_one_stream_are_joined_and_capped_in_total(coding: str) -> None:
    encode = {"gzip": gzip.compress, "zstd": zstd}[coding]
    parts = [b"one", b"", b"two" * 5000, b"three"]
    stream = b"".join(map(encode, parts))
    total = b"".join(parts)
    assert decode(coding, stream, max_bytes=len(total)) == total
    with pytest.raises(DecodeCap):
        decode(coding, stream, max_bytes=len(total) - 1)
    with pytest.raises(DecodeError):
        decode(coding, stream[:-1], max_bytes=len(total))


def test_skippable_frames_of_zstd_hold_nothing() -> None:
    skippable = b"\x5f\x2a\x4d\x18\x03\x00\x00\x00abc"
    assert decode("zstd", skippable + zstd(b"data") + skippable, max_bytes=4) == b"data"
    assert decode("zstd", skippable, max_bytes=0) == b""
    with pytest.raises(DecodeError):
        decode("zstd", skippable[:-1], max_bytes=4)


def test_a_window_above_eight_mebibytes_is_refused() -> None:
    """RFC 9659 section 3."""
    for window_log, is_allowed in ((23, True), (24, False)):
        parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=window_log)
        compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        stream = compressor.compress(b"data") + compressor.flush()
        assert zstandard.get_frame_parameters(stream).window_size == 1 << window_log
        if is_allowed:
            assert decode("zstd", stream, max_bytes=4) == b"data"
        else:
            with pytest.raises(DecodeError):
                decode("zstd", stream, max_bytes=4)


def test_a_zstd_checksum_that_does_not_hold_is_an_error() -> None:
    stream = bytearray(zstd(b"data" * 100))
    stream[-1] ^= 1
    with pytest.raises(DecodeError):
        decode("zstd", bytes(stream), max_bytes=1000)


def test_a_gzip_checksum_that_does_not_hold_is_an_error() -> None:
    stream = bytearray(gzip.compress(b"data" * 100))
    stream[-6] ^= 1
    with pytest.raises(DecodeError):
        decode("gzip", bytes(stream), max_bytes=1000)


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        pytest.param("gzip", gzip.compress(b"") * 10_000, id="empty gzip members"),
        pytest.param("zstd", bytes.fromhex("28b52ffd0058") + b"\0\0\0" * 100_000, id="empty zstd blocks"),
        pytest.param("zstd", b"\x50\x2a\x4d\x18\0\0\0\0" * 100_000, id="empty skippable frames"),
        pytest.param("gzip", zlib.compress(b"data"), id="zlib is not gzip"),
        pytest.param("zstd", b"\x28\xb5\x2f\xfd\x00\x58\x07\x00\x00", id="a reserved zstd block"),
        pytest.param("deflate", zlib.compress(b"data"), id="an unknown coding"),
        pytest.param("GZIP", gzip.compress(b"data"), id="another case"),
    ],
)
def test_streams_of_nothing_and_other_formats_are_errors(coding: str, data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(coding, data, max_bytes=MIB)


def test_identity_is_only_capped() -> None:
    assert decode("", b"data", max_bytes=4) == b"data"
    with pytest.raises(DecodeCap):
        decode("", b"data", max_bytes=3)


@encodings
def test_a_small_object_may_shrink_as_it_likes(encoding: str) -> None:
    coding, encode = ENCODERS[encoding]
    sea = bytes(RATIO_FLOOR_BYTES)
    assert decode(coding, encode(sea), max_bytes=MIB, max_ratio=10) == sea
    with pytest.raises(DecodeCap) as refusal:
        decode(coding, encode(sea + b"\0"), max_bytes=MIB, max_ratio=10)
    assert refusal.value.kind == "ratio"


@encodings
def test_the_ratio_is_judged_exactly_above_the_floor(encoding: str) -> None:
    coding, encode = ENCODERS[encoding]
    payload = bytes(300_000)
    encoded = encode(payload)
    enough = -(-len(payload) // len(encoded))
    assert decode(coding, encoded, max_bytes=MIB, max_ratio=enough) == payload
    with pytest.raises(DecodeCap) as refusal:
        decode(coding, encoded, max_bytes=MIB, max_ratio=enough - 1)
    assert refusal.value.kind == "ratio"
    with pytest.raises(DecodeCap) as refusal:
        decode(coding, encoded, max_bytes=len(payload) - 1, max_ratio=enough)
    assert refusal.value.kind == "bytes"


def bomb(coding: str, size: int) -> bytes:
    """Return `size` zero bytes encoded, without ever holding them."""
    block = bytes(MIB)
    if coding == "gzip":
        deflater = zlib.compressobj(9, wbits=31)
        return b"".join(deflater.compress(block) for _ in range(size // MIB)) + deflater.flush()
    if coding == "br":
        compressor = brotli.Compressor(quality=1)
        return b"".join(compressor.process(block) for _ in range(size // MIB)) + compressor.finish()
    # A frame of RLE blocks (RFC 8878 section 3.1.1.2.2): four bytes for 128 KiB.
    count = size // (128 * 1024)
    block_header = (128 * 1024) << 3 | 1 << 1
    blocks = (block_header | (number == count - 1) for number in range(count))
    return bytes.fromhex("28b52ffd0058") + b"".join(header.to_bytes(3, "little") + b"\0" for header in blocks)


@pytest.mark.parametrize("max_ratio", [None, 10], ids=["by bytes", "by ratio"])
@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_bomb_is_refused_in_bounded_memory(coding: str, max_ratio: float | None) -> None:
    data = bomb(coding, 256 * MIB)
    assert len(data) < MIB
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        with pytest.raises(DecodeCap):
            decode(coding, data, max_bytes=MIB, max_ratio=max_ratio)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MIB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before < 40 * 1024  # KiB


def test_the_zstd_bomb_is_a_real_stream() -> None:
    assert decode("zstd", bomb("zstd", 2 * MIB), max_bytes=2 * MIB) == bytes(2 * MIB)
