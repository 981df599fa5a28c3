"""Header fields between clients, this server and origins: what crosses, and what never does.

Specification: RFC 9110 sections 5.3, 7.6.1 and 15.2; RFC 9111 sections 3.1 and 3.2. A list of
fields is pairs of name and value in the order of the message. Does no I/O and knows no process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

Field = tuple[str, str]

# Request fields by which an origin selects content; forwarded without being named.
SELECTING = ("accept", "accept-encoding", "accept-language")

# Fields of one connection. Source: RFC 9110 section 7.6.1, RFC 9111 section 3.1.
_HOP_BY_HOP = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "proxy-authenticate"),
        *("proxy-authentication-info", "proxy-authorization", "te", "trailer", "transfer-encoding"),
        *("upgrade",),
    )
)
# What no setting can forward: credentials, state, conditions and framing are this server's own.
_NEVER_FORWARDED = _HOP_BY_HOP | frozenset(
    (
        *("authorization", "cookie", "cookie2", "host", "content-length", "content-type", "expect"),
        *("range", "if-range", "if-match", "if-none-match", "if-modified-since"),
        *("if-unmodified-since", "cache-control", "pragma", "max-forwards", "via", "forwarded"),
        *("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"),
    )
)
# What this server says itself, or must not repeat to everybody.
_NOT_KEPT = _HOP_BY_HOP | frozenset(
    (
        *("content-length", "content-range", "accept-ranges", "date", "age", "etag", "set-cookie"),
        *("set-cookie2", "alt-svc", "clear-site-data", "strict-transport-security"),
        *("www-authenticate", "authentication-info", "content-digest", "repr-digest", "digest"),
        *("x-reason", "x-corr-id", "cache-status", "server-timing", "server", "via"),
        *("x-content-type-options", "referrer-policy", "access-control-allow-origin"),
        *("access-control-allow-credentials", "access-control-expose-headers"),
        *("access-control-allow-methods", "access-control-allow-headers", "access-control-max-age"),
    )
)


class Fields(list[Field]):
    """The fields of one message, which do not change.

    PERF: tests/perf/bench_fill.py; a fill asks for forty names.

    Attributes:
        by_name: the values of each name in lower case, in their order.
    """

    __slots__ = ("by_name",)

    def __init__(self, fields: Iterable[Field]) -> None:
        super().__init__(fields)
        self.by_name: dict[str, list[str]] = {}
        for name, value in self:
            self.by_name.setdefault(name.lower(), []).append(value)


_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def value_of(fields: Iterable[Field], name: str) -> str | None:
    """Return the value of a field, repeated ones joined by a comma, or None. Source: RFC 9110 section 5.3."""
    values = fields.by_name.get(name) if isinstance(fields, Fields) else values_of(fields, name)
    if not values:
        return None
    return values[0] if len(values) == 1 else ", ".join(values)


def values_of(fields: Iterable[Field], name: str) -> Sequence[str]:
    """Return the values of a field, in their order."""
    if isinstance(fields, Fields):
        return fields.by_name.get(name, ())
    return [value for other, value in fields if other.lower() == name]


def single(fields: Iterable[Field], name: str) -> str | None:
    """Return the value of a field that may stand once; None if it is absent, or has two values."""
    values = fields.by_name.get(name) if isinstance(fields, Fields) else values_of(fields, name)
    if not values:
        return None
    if len(values) == 1:
        return values[0].strip(" \t")
    distinct = {value.strip(" \t") for value in values}
    return distinct.pop() if len(distinct) == 1 else None


def forwarded(request_fields: Mapping[str, str], forward_headers: Sequence[str]) -> dict[str, str]:
    """Return what of a request's fields an origin may see; this is what a response can vary by.

    Args:
        request_fields: the client's, names in lower case.
        forward_headers: the setting `fill.forward_headers`.
    """
    names = (*SELECTING, *(name.lower() for name in forward_headers))
    return {
        name: request_fields[name].strip(" \t")
        for name in dict.fromkeys(names)
        if name in request_fields
        and name not in _NEVER_FORWARDED
        and _VALUE.fullmatch(request_fields[name]) is not None
    }


def end_to_end(fields: Sequence[Field]) -> list[Field]:
    """Return what of a response's fields is kept and sent on, unknown ones too.

    Left out are those of the connection, those that the Connection field names, those that this
    server says itself, and cookies.

    Source: RFC 9110 section 7.6.1, RFC 9111 section 3.1.
    """
    named = _list_of(value_of(fields, "connection") or "")
    return Fields(
        field for field in fields if (name := field[0].lower()) not in _NOT_KEPT and name not in named
    )


@lru_cache(maxsize=64)
def _list_of(value: str) -> frozenset[str]:
    return frozenset(name.strip(" \t").lower() for name in value.split(","))


def updated(stored: Sequence[Field], fresh: Sequence[Field]) -> list[Field]:
    """Return the fields of a stored response after a 304: its own, replaced by those that came.

    Content-Encoding, Content-Type and Content-Range describe the stored bytes and stay, as
    section 3.2 allows and consistency with those bytes demands.

    Args:
        stored, fresh: as `end_to_end` returns them.

    Source: RFC 9111 sections 3.2 and 4.3.4.
    """
    described = {"content-encoding", "content-type", "content-range"}
    came = [(name, value) for name, value in fresh if name.lower() not in described]
    replaced = {name.lower() for name, _ in came}
    return [field for field in stored if field[0].lower() not in replaced] + came
