"""What an answer with several forms remembers of the fields that clients sent."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest

from edge_server.worker.bodies import MemoryBody
from edge_server.worker.prepared import Document, Negotiated, Prepared

LONG = "x" * 10_000


def prepare(_: str | None) -> Prepared:
    return Prepared(MemoryBody(b""), 0, '"tag"', None, "text/plain", [], [], [])


def size(texts: Iterable[object]) -> int:
    return sum(map(sys.getsizeof, texts))


@pytest.fixture
def negotiated(monkeypatch: pytest.MonkeyPatch) -> Negotiated:
    monkeypatch.setattr(Negotiated, "_memo", {})
    return Negotiated(("gzip", ""), prepare)


def test_accept_encoding_is_remembered_in_bounded_memory(negotiated: Negotiated) -> None:
    for number in range(2000):
        negotiated.pick({"HTTP_ACCEPT_ENCODING": f"gzip, {number}"})
        negotiated.pick({"HTTP_ACCEPT_ENCODING": f"gzip, {number}{LONG}"})
    assert 0 < size(field for field, _ in Negotiated._memo) < 200_000


def test_a_long_accept_encoding_is_judged_like_a_short_one(negotiated: Negotiated) -> None:
    short = negotiated.pick({"HTTP_ACCEPT_ENCODING": "gzip"})
    assert negotiated.pick({"HTTP_ACCEPT_ENCODING": f"gzip, {LONG}"}) is short
    assert negotiated.pick({"HTTP_ACCEPT_ENCODING": f"identity, gzip;q=0, {LONG}"}) is not short


def test_hosts_are_remembered_in_bounded_memory() -> None:
    document = Document(prepare)
    for number in range(100):
        document.pick({"HTTP_HOST": f"{number}.example"})
        assert document.pick({"HTTP_HOST": f"{number}.{LONG}"}).etag == '"tag"'
    assert document.pick({"HTTP_HOST": "99.example"}) is document.pick({"HTTP_HOST": "99.example"})
    assert 0 < size(document._by_host) < 10_000
