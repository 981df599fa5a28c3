"""Content codings: which stored form of an object a client takes.

Specification: RFC 9110 sections 12.4.2, 12.4.3, 12.5.3 and 8.4.1. Codings are named
as they are stored: ``br``, ``zstd``, ``gzip`` and ``""`` for identity. Does no I/O
and knows no process.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

IDENTITY = ""

# Members after these are not looked at: no client has that many codings.
_MAX_MEMBERS = 64
_MAX_CACHED_LENGTH = 256

# RFC 9110 section 12.5.3: Accept-Encoding = #( codings [ weight ] )
# Section 12.4.2: weight = OWS ";" OWS "q=" qvalue
# qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )
_MEMBER = re.compile(
    r"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)"
    r"(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?[ \t]*",
    re.ASCII,
)
_FULL = 1000
_LEAST = 1  # below or equal to any weight that a client can write, short of a refusal


class Acceptance(NamedTuple):
    """What a client takes: a weight per coding in thousandths, 0 for what it refuses.

    The order of the fields is the preference among equal weights.
    """

    br: int
    zstd: int
    gzip: int
    identity: int


_CODINGS = ("br", "zstd", "gzip", IDENTITY)
_NAMES = {"br": "br", "zstd": "zstd", "gzip": "gzip", "x-gzip": "gzip", "identity": IDENTITY, "*": "*"}

# Section 12.5.3: without the field any coding is acceptable; identity surprises nobody.
_WITHOUT_FIELD = Acceptance(_LEAST, _LEAST, _LEAST, _FULL)


def parse_accept_encoding(value: str | None) -> Acceptance:
    """Return what an Accept-Encoding field takes.

    Members that do not parse are ignored. A coding that stands in the field twice
    has the higher of its weights. Identity that the field does not mention remains
    acceptable, after everything that it does mention.

    Args:
        value: the field value, or None where the request has no such field.

    Source: RFC 9110 section 12.5.3.
    """
    if value is None:
        return _WITHOUT_FIELD
    if len(value) > _MAX_CACHED_LENGTH:
        return _parse(value)
    return _parse_cached(value)


def choose_coding(acceptance: Acceptance, available: Sequence[str]) -> str | None:
    """Return the coding to send, or None if the client refuses all that are available.

    Args:
        acceptance: what the client takes.
        available: codings as stored, in any order.

    Source: RFC 9110 section 12.5.3.
    """
    best, best_weight = None, 0
    for coding, weight in zip(_CODINGS, acceptance, strict=True):
        if weight > best_weight and coding in available:
            best, best_weight = coding, weight
    return best


def _parse(value: str) -> Acceptance:
    weights: dict[str, int] = {}
    for member in value.split(",", _MAX_MEMBERS)[:_MAX_MEMBERS]:
        match = _MEMBER.fullmatch(member)
        if match is None:
            continue
        name = _NAMES.get(match[1].lower())
        if name is not None:
            weight = _FULL if match[2] is None else round(float(match[2]) * _FULL)
            weights[name] = max(weight, weights.get(name, 0))
    rest = weights.get("*")
    others = 0 if rest is None else rest
    return Acceptance(
        weights.get("br", others),
        weights.get("zstd", others),
        weights.get("gzip", others),
        weights.get(IDENTITY, _LEAST if rest is None else rest),
    )


_parse_cached = lru_cache(maxsize=256)(_parse)
