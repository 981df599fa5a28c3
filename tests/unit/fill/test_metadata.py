"""Metadata: what a record says of a response comes back, and fits."""

from __future__ import annotations

from edge_server.fill.metadata import DEFAULT_TYPE, Metadata
from edge_server.fill.storing import Known

FIELDS = [
    ("Content-Type", "font/woff2"),
    ("Cache-Control", "max-age=5"),
    ("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT"),
    ("Content-Encoding", "br"),
    ("Vary", "Accept-Encoding"),
    ("X-Ünknown", "kept"),
    ("Link", "<a>"),
]
KNOWN = Known('"v1"', "Tue, 14 Nov 2023 22:13:20 GMT")


def test_it_comes_back_as_it_was() -> None:
    made = Metadata.of(FIELDS, KNOWN, ["accept-encoding"])
    for told in (made, made._replace(total=10**10)):
        assert Metadata.unpack(told.pack(1900)) == told
    assert (made.media_type, made.coding, made.cache_control) == ("font/woff2", "br", "max-age=5")
    assert made.fields == (("X-Ünknown", "kept"), ("Link", "<a>"))


def test_a_304_is_merged_into_the_fields_that_it_was_made_of() -> None:
    made = Metadata.of(FIELDS, KNOWN, ["accept-encoding"])
    again = {name.lower(): value.lower() for name, value in made.end_to_end()}
    assert again == {name.lower(): value.lower() for name, value in FIELDS}


def test_nothing_said_is_nothing_stored_but_a_type() -> None:
    made = Metadata.unpack(b"")
    assert made == Metadata(DEFAULT_TYPE, Known(None, None), None, (), "", ())
    assert Metadata.of([("Content-Encoding", "identity")], Known(None, None), []).coding == ""


def test_the_longest_other_fields_go_first_where_there_is_no_room() -> None:
    made = Metadata.of([*FIELDS, ("X-Long", "x" * 2000)], KNOWN, [])
    packed = made.pack(1900)
    assert len(packed) <= 1900
    kept = Metadata.unpack(packed)
    assert kept.fields == (("X-Ünknown", "kept"), ("Link", "<a>"))
    assert kept.known == KNOWN
