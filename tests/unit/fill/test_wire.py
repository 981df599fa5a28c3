"""The reader of answers: however the bytes arrive, the same answer comes out, or the same refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.errors import IntegrityError
from edge_server.fill.wire import (
    CHUNKED,
    UNTIL_CLOSE,
    Cut,
    Head,
    Reader,
    framing_of,
    is_persistent,
    parse_head,
)


def reader_of(data: bytes, cuts: list[int]) -> Reader:
    """Return a reader that gets `data` in pieces that end at `cuts`."""
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    pieces = [data[start:stop] for start, stop in zip([0, *ends], ends, strict=False)]
    feed = iter([piece for piece in pieces if piece])
    return Reader(lambda: next(feed, b""))


def message(reader: Reader) -> tuple[Head, bytes, bytes]:
    head = reader.head()
    return head, b"".join(reader.body(framing_of(head))), reader.buffer


@given(
    st.binary(max_size=300),
    st.lists(st.integers(1, 60), max_size=6),
    st.lists(st.integers(0, 500), max_size=12),
)
def test_chunks_come_out_whole_however_they_arrive(body: bytes, sizes: list[int], cuts: list[int]) -> None:
    encoded, rest = b"", body
    for size in [*sizes, len(body)]:
        piece, rest = rest[:size], rest[size:]
        encoded += b"%X;a=b\r\n%s\r\n" % (len(piece), piece) if piece else b""
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n" + encoded + b"000\r\nX: 1\r\n\r\n"
    assert message(reader_of(data, cuts))[1:] == (body, b"")


@given(st.binary(max_size=300), st.binary(max_size=9), st.lists(st.integers(0, 400), max_size=12))
def test_a_length_is_kept_to_however_the_bytes_arrive(body: bytes, more: bytes, cuts: list[int]) -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    reader = reader_of(data + more, [*cuts, len(data) + len(more)])
    head, got, _ = message(reader)
    assert (head.status, got) == (200, body)


@given(st.integers(0, 120), st.lists(st.integers(0, 400), max_size=6))
def test_every_shorter_answer_is_cut(kept: int, cuts: list[int]) -> None:
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n"
    data = start + b"5\r\nhello\r\n3;x\r\nyou\r\n0\r\nT: 1\r\n\r\n"
    assert len(data) < 121
    with pytest.raises(Cut):
        message(reader_of(data[: min(kept, len(data) - 1)], cuts))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_refusal(data: bytes) -> None:
    for start in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        try:
            head, _, _ = message(reader_of(start + data, []))
        except IntegrityError:
            continue
        assert 100 <= head.status <= 999


def test_a_cut_before_any_byte_is_told_apart() -> None:
    for data, is_before in ((b"", True), (b"H", False)):
        with pytest.raises(Cut) as caught:
            reader_of(data, []).head()
        assert caught.value.is_before_answer is is_before


def test_values_lose_the_white_space_around_them_and_nothing_else() -> None:
    head = parse_head(b"HTTP/1.0 200\r\nA: \t b  c \t\r\nB:\r\nC: \xe9")
    assert head == Head(0, 200, [("A", "b  c"), ("B", ""), ("C", "\xe9")])


@pytest.mark.parametrize(
    ("fields", "minor", "framing"),
    [
        ([("Content-Length", "5")], 1, 5),
        ([("Content-Length", "5"), ("content-length", "5")], 1, 5),
        ([("Transfer-Encoding", "chunked")], 1, CHUNKED),
        ([], 1, UNTIL_CLOSE),
        ([], 0, UNTIL_CLOSE),
    ],
)
def test_how_a_body_ends(fields: list[tuple[str, str]], minor: int, framing: int) -> None:
    assert framing_of(Head(minor, 200, fields)) == framing


@pytest.mark.parametrize(
    "fields",
    [
        [("Content-Length", "5"), ("Content-Length", "6")],
        [("Content-Length", "5, 5")],
        [("Content-Length", "+5")],
        [("Content-Length", "\u0665")],
        [("Content-Length", "")],
        [("Content-Length", "9" * 19)],
        [("Transfer-Encoding", "chunked"), ("Content-Length", "5")],
        [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
        [("Transfer-Encoding", "identity")],
    ],
    ids=repr,
)
def test_a_body_that_could_end_in_two_ways_is_refused(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(IntegrityError):
        framing_of(Head(1, 200, fields))


@pytest.mark.parametrize(
    ("minor", "connection", "is_kept"),
    [(1, None, True), (1, "Close", False), (1, "x, close", False), (0, None, False), (0, "Keep-Alive", True)],
)
def test_whether_a_connection_is_used_again(minor: int, connection: str | None, is_kept: bool) -> None:
    fields = [] if connection is None else [("Connection", connection)]
    assert is_persistent(Head(minor, 200, fields)) is is_kept
