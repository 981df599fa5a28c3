"""Vary: by which request fields stored responses of one key are told apart.

Specification: RFC 9111 section 4.1, RFC 9110 sections 12.5.3 and 12.5.5. Accept-Encoding is
normalised to the one coding that the origin is asked for, so a thousand spellings are five
variants. Only fields that were forwarded can differ (`fields.forwarded`). Does no I/O and
knows no process.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache

from edge_server.fill.fields import Field, Fields, value_of
from edge_server.http.negotiation import IDENTITY, choose_coding, parse_accept_encoding

ACCEPT_ENCODING = "accept-encoding"
_CODINGS = ("br", "zstd", "gzip", IDENTITY)
_MAX_NAMES = 16
_SPACES = re.compile(r"[ \t]+")


def varying(fields: Iterable[Field]) -> tuple[str, ...] | None:
    """Return the names of the request fields that selected a response, sorted, in lower case.

    A response with a content coding varies by Accept-Encoding whether it says so or not: it
    must not reach a client that cannot decode it.

    Returns:
        Nothing in it if the response is for everybody; None if it matches no other request
        (``*``, or more names than are worth storing).
    """
    fields = fields if isinstance(fields, Fields) else list(fields)
    vary, coding = value_of(fields, "vary"), value_of(fields, "content-encoding")
    if vary is None and coding is None:
        return ()
    names = {name.strip(" \t").lower() for name in (vary or "").split(",")} - {""}
    if (coding or "identity").lower() != "identity":
        names.add(ACCEPT_ENCODING)
    return None if "*" in names or len(names) > _MAX_NAMES else tuple(sorted(names))


def variant_of(names: Collection[str], request_fields: Mapping[str, str]) -> str:
    """Return the text that tells the variants of a key apart; equal for requests that match.

    Args:
        names: as `varying` returns them.
        request_fields: what was forwarded, names in lower case; a field that is absent
            matches only its absence.

    Source: RFC 9111 section 4.1.
    """
    if not names:
        return ""
    return "\n".join(_member(name, request_fields.get(name)) for name in sorted(names))


def coding_asked(request_fields: Mapping[str, str]) -> str:
    """Return the one coding that an origin is asked for: ``br``, ``zstd``, ``gzip`` or ``identity``."""
    return _best_coding(request_fields.get(ACCEPT_ENCODING))


@lru_cache(maxsize=512)
def _best_coding(value: str | None) -> str:
    return choose_coding(parse_accept_encoding(value), _CODINGS) or "identity"


def _member(name: str, value: str | None) -> str:
    if name == ACCEPT_ENCODING:
        return f"{name}={_best_coding(value)}"
    return name if value is None else f"{name}={_SPACES.sub(' ', value.strip(' ' + chr(9)))}"
