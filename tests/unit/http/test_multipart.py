"""multipart/byteranges, read back by the standard library's MIME parser."""

from __future__ import annotations

import email.parser
import email.policy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.http.multipart import Multipart, plan

OBJECT = bytes(range(256)) * 8


def body_of(multipart: Multipart) -> bytes:
    return b"".join(head + OBJECT[start:stop] for head, start, stop in multipart.pieces) + multipart.closing


def test_the_body_is_framed_as_rfc_9110_section_14_6_shows() -> None:
    multipart = plan([(500, 502), (2047, 2048)], 2048, "application/pdf", "THIS_STRING_SEPARATES")
    assert multipart.content_type == "multipart/byteranges; boundary=THIS_STRING_SEPARATES"
    assert body_of(multipart) == (
        b"--THIS_STRING_SEPARATES\r\nContent-Type: application/pdf\r\n"
        b"Content-Range: bytes 500-501/2048\r\n\r\n"
        b"\xf4\xf5\r\n--THIS_STRING_SEPARATES\r\nContent-Type: application/pdf\r\n"
        b"Content-Range: bytes 2047-2047/2048\r\n\r\n\xff\r\n--THIS_STRING_SEPARATES--\r\n"
    )


spans = st.tuples(st.integers(0, 2047), st.integers(1, 300)).map(lambda s: (s[0], min(s[0] + s[1], 2048)))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(spans, min_size=1, max_size=16), st.text(alphabet="0123456789abcdef", min_size=32, max_size=32)
)
def test_a_mime_parser_gets_every_part_back(parts: list[tuple[int, int]], boundary: str) -> None:
    multipart = plan(parts, 2048, "image/png", boundary)
    body = body_of(multipart)
    assert len(body) == multipart.length
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        f"Content-Type: {multipart.content_type}\r\n\r\n".encode() + body
    )
    received = list(message.iter_parts())
    assert [part["Content-Range"] for part in received] == [f"bytes {a}-{b - 1}/2048" for a, b in parts]
    assert [part.get_content_type() for part in received] == ["image/png"] * len(parts)
    # The parser takes bytes for text and unifies line ends, so bytes are compared by position.
    position = 0
    for head, start, stop in multipart.pieces:
        assert body[position : position + len(head)] == head
        position += len(head) + stop - start
        assert body[position - stop + start : position] == OBJECT[start:stop]
    assert body[position:] == multipart.closing


@pytest.mark.parametrize("boundary", ["", "a" * 71, "a b", 'a"b', "a\r\nb", "a;b", "\xe4"], ids=repr)
def test_a_boundary_that_needs_quotes_or_is_too_long_is_not_used(boundary: str) -> None:
    with pytest.raises(ValueError, match="boundary"):
        plan([(0, 1)], 10, "text/plain", boundary)


@pytest.mark.parametrize("parts", [[], [(0, 0)], [(5, 4)], [(-1, 4)], [(0, 11)]], ids=repr)
def test_parts_outside_the_object_are_not_planned(parts: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="parts"):
        plan(parts, 10, "text/plain", "boundary")
