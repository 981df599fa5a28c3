"""What settings say about the network: addresses, hosts, CIDRs, origins, URLs.

Follows RFC 3986 (authority), RFC 4291 (IPv6 text), RFC 5890 (A-labels), RFC 6454
(origins) and RFC 9110 section 5.6.2 (tokens). Resolves no name, does no I/O.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

ADDRESS_WORDS = "HOST:PORT such as 127.0.0.1:8080, [::1]:8080 or localhost:0 (port 0 picks a free one)"
HOST_WORDS = (
    "a host name such as tiles.example.org, or *.example.org for its subdomains, "
    "with the port if it is not 443, as in tiles.example.org:8443"
)
CIDR_WORDS = "an IP network such as 10.0.0.0/8 or fd00::/8"
CORS_ORIGIN_WORDS = "an origin such as https://maps.example.org or http://localhost:3000, or *"
HTTP_URL_WORDS = "a URL such as https://tiles.example.org/base"
TOKEN_WORDS = "a field or method name: letters, digits and !#$%&'*+-.^_`|~"

DEFAULT_PORTS = {"http": 80, "https": 443}

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# RFC 9110 section 5.6.2: token = 1*tchar
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class Address(NamedTuple):
    """Where to listen. `host` is an address without brackets, or a name; port 0 picks one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every address of the machine."""
        return self.host in ("0.0.0.0", "::")

    @property
    def from_here(self) -> Address:
        """Where this machine reaches what listens there: on a wildcard, over the loopback."""
        return Address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host), self.port)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name other than localhost is not trusted to."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")


def parse_address(value: object) -> Address:
    """Return the address that `value` names: ``HOST:PORT``, IPv6 in brackets.

    Raises:
        ValueError: no port, a port above 65535, IPv6 without brackets, or no such host form.
    """
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError("that is not text of the form HOST:PORT")
    host, colon, port = value.strip().rpartition(":")
    if not colon or not host:
        raise ValueError("host or port is missing")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"port {port!r} is not a number from 0 to 65535")
    return Address(_listening_host(host), int(port))


def normalize_host(value: str) -> str:
    """Return a host name in lower case as A-labels, without its final dot.

    Raises:
        ValueError: not a host name of RFC 1123 or RFC 5890.
    """
    host = value.strip().removesuffix(".").lower()
    if not host.isascii():
        host = _to_a_labels(host)
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("that is not a host name")
    return host


def normalize_host_pattern(value: str) -> str:
    """Return a host name, or ``*.`` and the domain whose subdomains are meant; with ``:port`` if it is named.

    Raises:
        ValueError: not a host name, a scheme or path with it, no port from 1 to 65535, or an
            asterisk elsewhere.
    """
    if "/" in value or value.count(":") > 1:
        raise ValueError("only the host's name and port belong here, without scheme or path")
    name, colon, port = value.strip().partition(":")
    wild, rest = ("*.", name[2:]) if name.startswith("*.") else ("", name)
    return f"{wild}{normalize_host(rest)}{colon}{_port(port) if colon else ''}"


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ValueError(f"port {text!r} is not a number from 1 to 65535")
    return int(text)


def normalize_cidr(value: str) -> str:
    """Return an IP network in its canonical text.

    Raises:
        ValueError: no network, or one with bits set outside its prefix.
    """
    return str(ipaddress.ip_network(value.strip()))


def normalize_cors_origin(value: str) -> str:
    """Return an origin as browsers send it, or ``*``.

    Raises:
        ValueError: no scheme or host, or anything after them.
    """
    if value == "*":
        return value
    parts = _split(value)
    if parts.path or parts.query or parts.fragment:
        raise ValueError("an origin ends after host and port")
    return f"{parts.scheme}://{_authority(parts)}"


def normalize_http_url(value: str) -> str:
    """Return an http or https URL without user, query, fragment and final slashes.

    Raises:
        ValueError: another scheme, no host, or one of those parts where it may not be.
    """
    parts = _split(value)
    if parts.query or parts.fragment or "?" in value or "#" in value:
        raise ValueError("query and fragment do not belong here")
    if re.search(r"[\x00-\x20\x7f]", parts.path):
        raise ValueError("spaces and control characters do not belong here")
    return f"{parts.scheme}://{_authority(parts)}{parts.path.rstrip('/')}"


def check_token(value: str) -> str:
    """Return `value` if it is a token of RFC 9110, as field names and methods are."""
    if not _TOKEN.fullmatch(value):
        raise ValueError("that is not a name of an HTTP field or method")
    return value


def host_of(url: str) -> str:
    """Return the host of a URL that `normalize_http_url` returned."""
    return urlsplit(url).hostname or ""


def port_of(url: str) -> int:
    """Return the port of a URL that `normalize_http_url` returned, the scheme's own if none is named."""
    parts = urlsplit(url)
    return parts.port or DEFAULT_PORTS[parts.scheme]


def allowing_pattern(host: str, port: int, patterns: tuple[str, ...], own_port: int = 443) -> str | None:
    """Return what on the list allows a normalised `host` at `port`, or None.

    Args:
        own_port: the port of the scheme; a pattern without a port means this one.
    """
    for pattern in patterns:
        name, colon, named = pattern.partition(":")
        is_host = host == name or (name.startswith("*.") and host.endswith(name[1:]))
        if is_host and port == (int(named) if colon else own_port):
            return pattern
    return None


def _listening_host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        return str(ipaddress.IPv6Address(host[1:-1]))
    if ":" in host:
        raise ValueError("an IPv6 address stands in brackets, as in [::1]:8080")
    if re.fullmatch(r"[0-9.]+", host):
        return str(ipaddress.IPv4Address(host))
    return normalize_host(host)


def _to_a_labels(host: str) -> str:
    import idna  # UTS 46 tables: only where a name is not ASCII

    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ValueError(f"that is not an internationalised host name ({error})") from error


def _split(value: str) -> SplitResult:
    parts = urlsplit(value.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it needs http:// or https:// and a host")
    if "@" in parts.netloc:
        raise ValueError("user names and passwords do not belong here")
    return parts


def _authority(parts: SplitResult) -> str:
    """Return host and port as RFC 6454 section 6.2 writes them: A-labels, no default port."""
    host = parts.hostname or ""
    host = f"[{ipaddress.IPv6Address(host)}]" if ":" in host else normalize_host(host)
    default = DEFAULT_PORTS[parts.scheme]
    return host if parts.port in (None, default) else f"{host}:{parts.port}"
