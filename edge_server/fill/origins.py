"""Origins: which URL fills a key, and whether the allow-list lets it be contacted.

Specification: RFC 3986 (URLs; a key is encoded again, once), RFC 5890 (names are compared as
A-labels), contract section 4 (`edge.allow`, `edge.origins`). Resolves no name, does no I/O and
knows no process; an instance never changes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from edge_server.config.addresses import DEFAULT_PORTS, allowing_pattern, host_of, normalize_host, port_of
from edge_server.config.schema import Edge, Fill
from edge_server.errors import NotAllowed, NotFound

# RFC 3986 section 3.3: pchar, and the slash between segments. A percent sign, a question mark
# and a number sign of a key are data and are encoded.
_PATH_SAFE = "/!$&'()*+,;=:@~-._"
# What stands in the path of a Location field is kept as it was encoded there.
_URL_SAFE = _PATH_SAFE + "%"
_UNQUOTED = re.compile(r"[A-Za-z0-9/._~-]*")
# An authority without user and password; IPv6 literals cannot be on the list.
_AUTHORITY = re.compile(r"([^\x00-\x20/?#@:\[\]\\]+)(?::([0-9]{1,5}))?")
_MAX_URL_LENGTH = 4096
UNLISTED = "other"
_MAX_LABELS = 1024


class Target(NamedTuple):
    """Where a fill goes. `host` is in lower case, as A-labels; `url` has no user, and no fragment."""

    url: str
    host: str
    port: int
    is_https: bool

    @property
    def authority(self) -> str:
        """The Host field. Source: RFC 9110 section 7.2."""
        return _authority(self.host, self.port, self.is_https)

    @property
    def request_target(self) -> str:
        """Path and query as they stand in the request line. Source: RFC 9112 section 3.2.1."""
        return "/" + self.url.split("/", 3)[3]


@lru_cache(maxsize=256)
def _authority(host: str, port: int, is_https: bool) -> str:
    return host if port == DEFAULT_PORTS["https" if is_https else "http"] else f"{host}:{port}"


class Origins:
    """The mapping from keys to origins, and the allow-list.

    Args:
        edge: its `allow` and `origins`.
        fill: its `insecure_http`.
    """

    def __init__(self, edge: Edge, fill: Fill) -> None:
        self._allow = edge.allow
        self._is_http_allowed = fill.insecure_http
        self._mapped = sorted(((o.prefix, o.url) for o in edge.origins), key=lambda o: -len(o[0]))
        self._only = _single_origin(edge)
        self._labels: dict[tuple[str, int, bool], str] = {}
        self._bases: dict[str, Target] = {}  # of each mapped URL, once it has been asked for

    def target(self, key: str) -> Target:
        """Return where `key` is fetched from.

        ``@host[:port]/path`` names a host; a port named there is one of TLS, except 80. Else the
        longest prefix wins, else the one host that is allowed is the origin of everything.

        Args:
            key: as `asset_key` returns it, decoded.

        Raises:
            NotFound: no origin is mapped to the key.
            NotAllowed: its host, or the port there, is not on the allow-list, or it is without
                TLS and `fill.insecure_http` is not set.
        """
        if key.startswith("@"):
            authority, slash, path = key[1:].partition("/")
            if not slash:
                raise NotFound("a host without a path")
            scheme = "http" if authority.endswith(":80") else "https"
            return self._checked(scheme, authority, "/" + quote(path, safe=_PATH_SAFE))
        for prefix, url in self._mapped:
            if key.startswith(prefix):
                return self._below(url, key[len(prefix) :])
        if self._only is None:
            raise NotFound("no origin is mapped")
        return self._below(self._only, key)

    def redirected(self, target: Target, location: str) -> Target:
        """Return where a redirect leads.

        Args:
            target: what answered with the redirect.
            location: value of its Location field, which may be relative.

        Raises:
            NotAllowed: as `target`, or it is no URL of http or https, or has a user.

        Source: RFC 9110 sections 10.2.2 and 15.4.
        """
        try:
            parts = urlsplit(urljoin(target.url, location.strip(" \t")))
        except ValueError as error:
            raise NotAllowed("a redirect that leads to no URL") from error
        if parts.scheme not in DEFAULT_PORTS or len(location) > _MAX_URL_LENGTH:
            raise NotAllowed("a redirect to another scheme, or too long")
        query = f"?{quote(parts.query, safe=_URL_SAFE + '?')}" if parts.query else ""
        return self._checked(parts.scheme, parts.netloc, quote(parts.path or "/", safe=_URL_SAFE) + query)

    def label(self, target: Target) -> str:
        """Return what on the allow-list allows `target`: a bounded set of values for a metric."""
        key = (target.host, target.port, target.is_https)
        label = self._labels.get(key)
        if label is None:
            own_port = DEFAULT_PORTS["https" if target.is_https else "http"]
            label = allowing_pattern(target.host, target.port, self._allow, own_port) or UNLISTED
            if len(self._labels) < _MAX_LABELS:
                self._labels[key] = label
        return label

    def _below(self, url: str, rest: str) -> Target:
        path = rest.lstrip("/")
        if _UNQUOTED.fullmatch(path) is None:
            path = quote(path, safe=_PATH_SAFE)
        base = self._bases.get(url)
        if base is None:
            parts = urlsplit(url)
            base = self._checked(parts.scheme, parts.netloc, quote(parts.path, safe=_URL_SAFE))
            self._bases[url] = base
        if path:
            return base._replace(url=f"{base.url}/{path}")
        return base if urlsplit(base.url).path else base._replace(url=f"{base.url}/")

    def _checked(self, scheme: str, authority: str, rest: str) -> Target:
        match = _AUTHORITY.fullmatch(authority)
        if match is None:
            raise NotAllowed("not a host, or one with a user")
        try:
            host = normalize_host(match[1])
        except ValueError as error:
            raise NotAllowed("not a host name") from error
        own_port = DEFAULT_PORTS[scheme]
        port = int(match[2]) if match[2] else own_port
        if scheme == "http" and not self._is_http_allowed:
            raise NotAllowed("an origin without TLS")
        if allowing_pattern(host, port, self._allow, own_port) is None:
            raise NotAllowed("a host off the allow-list")
        shown = host if port == own_port else f"{host}:{port}"
        return Target(f"{scheme}://{shown}{rest}", host, port, scheme == "https")


def _single_origin(edge: Edge) -> str | None:
    """Return the one allowed host as the origin of everything, if there is one and nothing is mapped."""
    if edge.origins or len(edge.allow) != 1 or edge.allow[0].startswith("*."):
        return None
    url = f"https://{edge.allow[0]}"
    return url if port_of(url) != 443 else f"https://{host_of(url)}"
