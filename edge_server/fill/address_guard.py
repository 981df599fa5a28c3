"""The address guard: which addresses a fill may connect to, whatever a name resolves to.

Specification: the IANA special-purpose registries (RFC 6890) as of 2025, RFC 4291 section 2.5.5, RFC 6052
(NAT64), RFC 3056 (6to4), RFC 4380 (Teredo). A connection is made to an address that was checked, so a
name that resolves to something else the next moment gains nothing. Caches what it resolved for
RESOLVED_S; the resolver is an argument. Used by the threads of the engine.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Sequence

from edge_server.errors import FillUnavailable, NotAllowed

Resolver = Callable[[str, int], Sequence[str]]
_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

RESOLVED_S = 10.0
_MAX_RESOLVED = 1024

# Services of hosting platforms that hand out credentials. One of them is a global address and the
# others are inside networks that an operator may open, so they are named: no setting opens them.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        *("169.254.169.254", "169.254.170.2", "169.254.169.253", "100.100.100.200", "192.0.0.192"),
        *("168.63.129.16", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"),
    )
)
# What `is_global` says of these differs between versions of Python.
_NOT_GLOBAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        *("::/96", "::ffff:0:0/96", "64:ff9b:1::/48", "100::/63", "2001::/23", "2001:db8::/32"),
        *("2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the IPv4 address inside decides
# No hole opens these: they are no address of one host, or another spelling of one.
_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in ("0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "::/128", "::ffff:0:0/96", "ff00::/8")
)


def system_resolver(host: str, port: int) -> list[str]:
    """Return the addresses of a host, as the system resolves it, in the order to try."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


class AddressGuard:
    """Resolves names and lets through what may be connected to.

    Args:
        allow_private: networks that are let through although they are not global.
        resolver: what resolves; raises OSError for a name that has no address.
    """

    def __init__(self, allow_private: Sequence[str] = (), resolver: Resolver = system_resolver) -> None:
        self._holes = tuple(ipaddress.ip_network(cidr) for cidr in allow_private)
        self._resolver = resolver
        self._lock = threading.Lock()
        self._resolved: dict[tuple[str, int], tuple[float, list[str]]] = {}

    def resolve(self, host: str, port: int) -> list[str]:
        """Return the addresses of `host` that may be connected to, in the resolver's order.

        Raises:
            NotAllowed: it has addresses, and none of them may be connected to.
            FillUnavailable: it cannot be resolved.
        """
        key, now = (host, port), time.monotonic()
        with self._lock:
            until_s, addresses = self._resolved.get(key, (0.0, []))
        if now < until_s:
            return addresses
        try:
            found = self._resolver(host, port)
        except (OSError, UnicodeError) as error:
            raise FillUnavailable(f"the origin's name does not resolve: {error}") from error
        addresses = [text for text in found if self.is_allowed(text)]
        if not addresses:
            raise NotAllowed(f"{len(found)} addresses, none of which may be connected to")
        with self._lock:
            if len(self._resolved) >= _MAX_RESOLVED:
                self._resolved.clear()
            self._resolved[key] = (now + RESOLVED_S, addresses)
        return addresses

    def is_allowed(self, text: str) -> bool:
        """Return whether an address may be connected to; one with a scope may not."""
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        if getattr(address, "scope_id", None) is not None or address in _METADATA:
            return False
        if _is_within(address, _NEVER):
            return False
        if _is_within(address, self._holes):
            return True
        if isinstance(address, ipaddress.IPv6Address) and address in _NAT64:
            inside = ipaddress.IPv4Address(address.packed[-4:])
            return _is_global(inside) and inside not in _METADATA
        return _is_global(address)


def _is_global(address: _Ip) -> bool:
    return address.is_global and not address.is_multicast and not _is_within(address, _NOT_GLOBAL)


def _is_within(address: _Ip, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
