"""Messages: what is packed comes back, and nothing else is taken for a message."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.errors import MessageInvalid
from edge_server.fill.messages import PACKET_BYTES, Ask, Done, Kind, Outcome

ASK = Ask(7, Kind.FILL, "fonts/ä b.woff2", {"accept": "*/*"}, "no-cache", True, 12.5, "abc-1")
DONE = Done(7, Outcome.REFUSED, b"\x00" * 16, "upstream_5xx", 3)


@given(st.text(max_size=100), st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3))
def test_an_ask_comes_back_as_it_was(key: str, fields: dict[str, str]) -> None:
    ask = ASK._replace(key=key, fields=fields, range="bytes=0-99")
    assert Ask.unpack(ask.pack()) == ask


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_done_comes_back_as_it_was(outcome: Outcome) -> None:
    done = DONE._replace(outcome=outcome)
    assert Done.unpack(done.pack()) == done


def test_a_message_that_no_packet_holds_is_refused() -> None:
    with pytest.raises(MessageInvalid, match="more than"):
        ASK._replace(fields={"accept": "x" * PACKET_BYTES}).pack()


@pytest.mark.parametrize(
    "packet",
    [b"", b"{", b"[]", b"7", b'"x"', b"[1,2,3,4,5,6,7,8,9]", b"\xff\xfe", json.dumps([None] * 9).encode()],
    ids=repr,
)
def test_what_is_no_ask_is_told(packet: bytes) -> None:
    with pytest.raises(MessageInvalid):
        Ask.unpack(packet)


@pytest.mark.parametrize(
    "packet", [b"", b"[1]", b'[1,"never heard","","",0]', b'[1,"stored","zz","",0]', b'[1,"stored",3,"",0]']
)
def test_what_is_no_done_is_told(packet: bytes) -> None:
    with pytest.raises(MessageInvalid):
        Done.unpack(packet)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_are_refused(packet: bytes) -> None:
    for kind in (Ask, Done):
        try:
            kind.unpack(packet)
        except MessageInvalid:
            pass
