"""Fields that every answer carries, and the two of a request that are echoed.

Specification: RFC 9110 sections 7.2 and 8.2, RFC 9111 section 5.2, RFC 9211,
RFC 3986 section 3.2. What is echoed is matched against a strict pattern first, so no
value that a client sent can start another field. Does no I/O.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

Field = tuple[str, str]

ALLOWED_METHODS = "GET, HEAD, OPTIONS"
ALLOW: Field = ("Allow", ALLOWED_METHODS)
ACCEPT_RANGES: Field = ("Accept-Ranges", "bytes")
VARY_ACCEPT_ENCODING: Field = ("Vary", "Accept-Encoding")
CACHE_STATUS_HIT: Field = ("Cache-Status", "svc-edge; hit")
NO_STORE: Field = ("Cache-Control", "no-store")

# On every answer, whatever its status.
SECURITY_FIELDS: tuple[Field, ...] = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)

PROBLEM_MEDIA_TYPE = "application/problem+json"

_CORR_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)

_MAX_HOST_LENGTH = 262  # 255 for a name, a colon and five digits, and room for the final dot
# RFC 3986 section 3.2: authority without userinfo. Of reg-name the letters, digits, dot,
# hyphen and underscore of host names: a percent sign or a sub-delimiter has no use there.
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,255}))(?::([0-9]{1,5}))?", re.ASCII)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


def sane_corr_id(value: str | None) -> str | None:
    """Return a client's correlation id if it may be echoed and logged, else None."""
    return value if value is not None and _CORR_ID.fullmatch(value) is not None else None


def no_transform(cache_control: str) -> str:
    """Return a Cache-Control value that also forbids re-encoding. Source: RFC 9111 section 5.2.2.6."""
    if not cache_control:
        return "no-transform"
    directives = [directive.strip(" \t").lower() for directive in cache_control.split(",")]
    return cache_control if "no-transform" in directives else f"{cache_control}, no-transform"


def base_url(public_url: str | None, scheme: str, host: str | None, fallback: str) -> str:
    """Return the URL that clients reach this service at, without a trailing slash.

    Args:
        public_url: what the operator says; it wins over everything.
        scheme: of the connection, ``http`` or ``https``.
        host: the Host field of the request; believed only if it is one host name,
            IPv4 or bracketed IPv6 address with an optional port.
        fallback: used where the Host field cannot be believed.

    Source: RFC 9110 sections 4.2 and 7.2.
    """
    if public_url:
        return public_url.rstrip("/")
    if host is not None and len(host) <= _MAX_HOST_LENGTH and scheme in ("http", "https"):
        authority = _authority(host)
        if authority is not None:
            return f"{scheme}://{authority}"
    return fallback.rstrip("/")


@lru_cache(maxsize=256)
def _authority(host: str) -> str | None:
    """Return a Host field in lower case, or None if it names no host."""
    match = _AUTHORITY.fullmatch(host)
    if match is None:
        return None
    ipv6, name, port = match.groups()
    if port is not None and not 0 < int(port) < 65536:
        return None
    is_host = _is_ipv6(ipv6) if ipv6 is not None else _is_name(name.lower())
    return host.lower() if is_host else None


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _is_name(name: str) -> bool:
    """Return whether `name` is a host name, or an IPv4 address if it ends in a number."""
    labels = name.removesuffix(".").split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        return False
    if _NUMERIC.fullmatch(labels[-1]) is None:
        return True
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True
