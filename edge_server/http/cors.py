"""CORS: which pages of other origins may read answers.

Specification: the Fetch standard, sections "CORS protocol" and "HTTP extensions";
RFC 6454 section 7 for origins. Denies by default. Field lists are prepared once and
copied per request. Does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from edge_server.http.headers import Field

ANY = "*"
EXPOSED_FIELDS = "ETag, Content-Range, Content-Length, Accept-Ranges, X-Corr-ID"

# What the service understands; allowed where the operator names nothing else.
DEFAULT_ALLOW_METHODS = ("GET", "HEAD")
DEFAULT_ALLOW_HEADERS = (
    "Range",
    "If-Range",
    "If-Match",
    "If-None-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
    "X-Corr-ID",
)

_MAX_REQUEST_HEADERS = 64
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110 section 5.6.2
_VARY: Field = ("Vary", "Origin")


class CorsPolicy:
    """Which origins may do what.

    Args:
        allow_origins: exact origins such as ``https://example.org``, or ``*``.
            ``null`` is never allowed by name: it stands for any sandboxed page.
        allow_methods: methods that a preflight grants; GET and HEAD if empty.
        allow_headers: request fields that a preflight grants, ``*`` for any; those
            that the service understands if empty.
        max_age_s: how long a browser may remember a preflight; 0 leaves it to the browser.
    """

    __slots__ = ("_any_fields", "_by_origin", "_grant", "_headers", "_methods", "_others")

    def __init__(
        self,
        allow_origins: Sequence[str] = (),
        allow_methods: Sequence[str] = (),
        allow_headers: Sequence[str] = (),
        max_age_s: float = 0,
    ) -> None:
        origins = {origin.lower().rstrip("/") for origin in allow_origins} - {"null"}
        methods = tuple(allow_methods) or DEFAULT_ALLOW_METHODS
        headers = tuple(allow_headers) or DEFAULT_ALLOW_HEADERS
        self._any_fields = _granted(ANY) if ANY in origins else None
        self._by_origin = {origin: _granted(origin) for origin in origins - {ANY}}
        self._others = [_VARY] if self._by_origin else []
        self._methods = frozenset(methods)
        self._headers = frozenset(name.lower() for name in headers)
        self._grant: list[Field] = [("Access-Control-Allow-Methods", ", ".join(methods))]
        if ANY not in self._headers:
            self._grant.append(("Access-Control-Allow-Headers", ", ".join(headers)))
        if max_age_s > 0:
            self._grant.append(("Access-Control-Max-Age", str(int(max_age_s))))

    def headers_for(self, origin: str | None) -> list[Field]:
        """Return the fields to add to an answer.

        With exact origins, ``Vary: Origin`` stands also where nothing is granted, so
        that a cache does not give one origin's answer to another.

        Args:
            origin: the Origin field of the request, or None without one.
        """
        if self._any_fields is not None:
            return self._any_fields.copy()
        if origin is None:
            return self._others.copy()
        return self._by_origin.get(origin, self._others).copy()

    def preflight(
        self, origin: str | None, request_method: str | None, request_headers: str | None
    ) -> list[Field] | None:
        """Return the fields of a granted preflight, or None where nothing is granted.

        Args:
            origin: the Origin field.
            request_method: the Access-Control-Request-Method field; without it an
                OPTIONS request is no preflight.
            request_headers: the Access-Control-Request-Headers field, or None.
        """
        if origin is None or request_method not in self._methods:
            return None
        if self._any_fields is None and origin not in self._by_origin:
            return None
        names = _names(request_headers)
        if names is None:
            return None
        fields = self.headers_for(origin) + self._grant
        if ANY not in self._headers:
            return fields if self._headers.issuperset(names) else None
        if names:
            # By name: in answers "*" does not cover Authorization.
            fields.append(("Access-Control-Allow-Headers", ", ".join(names)))
        return fields


def _granted(origin: str) -> list[Field]:
    fields: list[Field] = [("Access-Control-Allow-Origin", origin)]
    if origin != ANY:
        fields.append(_VARY)
    fields.append(("Access-Control-Expose-Headers", EXPOSED_FIELDS))
    return fields


def _names(request_headers: str | None) -> list[str] | None:
    """Return the field names of a preflight in lower case, or None if they are not names or too many."""
    if not request_headers:
        return []
    names = [name.strip(" \t").lower() for name in request_headers.split(",", _MAX_REQUEST_HEADERS)]
    return names if all(_TOKEN.fullmatch(name) for name in names) else None
