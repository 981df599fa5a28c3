"""Prepared answers: everything about a path that does not vary between requests.

Process      a worker prepares one when a path is first asked for; the hit path then picks
             it and adds what varies (date, correlation id, range).
Memory       headers and an open file; no body.

`Prepared` is one representation. A path may have several: `Negotiated` picks by
Accept-Encoding, `Document` by the host the client used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from edge_server.errors import NotAcceptable
from edge_server.http.headers import VARY_ACCEPT_ENCODING, Field
from edge_server.http.negotiation import choose_coding, parse_accept_encoding
from edge_server.worker.bodies import Source

Environ = Mapping[str, Any]

# What an answer comes from; of edge_cache_hits_total, but for what was fetched for this request.
PACK, FILLED, FETCHED = "pack", "cas", ""

_MEMO_MAX = 512  # distinct Accept-Encoding fields remembered; clients send a handful
_HOSTS_MAX = 16
_FIELD_MAX = 256  # a longer field is not remembered: its client would choose how much memory that takes


class Prepared(NamedTuple):
    """One representation, ready to be sent.

    Attributes:
        source: its bytes.
        length: of the whole representation.
        etag: entity tag with its quotes.
        modified_s: Last-Modified in seconds since the epoch, where the pack knows it.
        media_type: for the parts of a multipart answer.
        content_length: the field of the whole representation.
        lines: fields of every 200 and 206 but Content-Length and what varies, for
            guard.send_fields; Content-Type is the first.
        not_modified: likewise those of a 304 (RFC 9110 section 15.4.5).
    """

    source: Source
    length: int
    etag: str
    modified_s: int | None
    media_type: str
    content_length: Field
    lines: bytes
    not_modified: bytes


class Negotiated:
    """A path stored in more than one coding, or in one that a client may refuse.

    Args:
        available: codings on offer, ``""`` for identity.
        prepare: makes the answer in one of them when it is first wanted.
    """

    __slots__ = ("_available", "_by_coding", "_prepare")

    kind = PACK

    _memo: dict[tuple[str | None, tuple[str, ...]], str | None] = {}  # noqa: RUF012  shared on purpose

    def __init__(self, available: Sequence[str], prepare: Callable[[str], Prepared]) -> None:
        self._available = tuple(available)
        self._prepare = prepare
        self._by_coding: dict[str, Prepared] = {}

    def pick(self, environ: Environ) -> Prepared:
        """Return the answer in the coding that the client likes best.

        Raises:
            NotAcceptable: it refuses all of them, or the one it takes cannot be made in bounds.
        """
        coding = self._choose(environ.get("HTTP_ACCEPT_ENCODING"))
        if coding is None:
            raise NotAcceptable("no coding on offer is acceptable", (VARY_ACCEPT_ENCODING,))
        found = self._by_coding.get(coding)
        if found is None:
            found = self._by_coding[coding] = self._prepare(coding)
        return found

    def _choose(self, field: str | None) -> str | None:
        memo = self._memo
        key = (field, self._available)
        try:
            return memo[key]
        except KeyError:
            coding = choose_coding(parse_accept_encoding(field), self._available)
            if field is None or len(field) <= _FIELD_MAX:
                if len(memo) >= _MEMO_MAX:
                    memo.clear()
                memo[key] = coding
            return coding


class Document:
    """A body made for the host that a client used: a TileJSON with absolute tile addresses.

    Args:
        prepare: makes the answer from a Host field.
    """

    __slots__ = ("_by_host", "_prepare")

    kind = PACK

    def __init__(self, prepare: Callable[[str | None], Prepared]) -> None:
        self._prepare = prepare
        self._by_host: dict[str | None, Prepared] = {}

    def pick(self, environ: Environ) -> Prepared:
        """Return the answer for the request's Host."""
        host = environ.get("HTTP_HOST")
        found = self._by_host.get(host)
        if found is None:
            found = self._prepare(host)
            if host is None or len(host) <= _FIELD_MAX:
                if len(self._by_host) >= _HOSTS_MAX:
                    self._by_host.clear()
                self._by_host[host] = found
        return found


class EmptyTile:
    """A tile inside its archive's zooms that the archive does not have: 204, nothing to cache here."""

    __slots__ = ()


EMPTY_TILE = EmptyTile()


class Chosen(Protocol):
    """An answer that is picked by what a request says besides its path."""

    @property
    def kind(self) -> str:
        """PACK, FILLED or FETCHED."""
        ...

    def pick(self, environ: dict[str, Any]) -> Prepared:
        """Return the answer for one request.

        Raises:
            Rejection: there is none.
            Miss: its origin must be asked.
        """
        ...


Answer = Prepared | Chosen
