"""The address guard: which addresses a fill may connect to, whatever a name resolves to.

Specification: the IANA special-purpose registries (RFC 6890) as of 2025, RFC 4291 section 2.5.5, RFC 6052
(NAT64), RFC 3056 (6to4), RFC 4380 (Teredo). A connection is made to an address that was checked, so a
name that resolves to something else the next moment gains nothing.

Process      whichever runs the engine; used by its tasks. Names are resolved in threads, RESOLVERS at most,
             since the system's resolver has no deadline: who waits for one that hangs has.
Memory       what was resolved, for RESOLVED_S, and that it could not be, for FAILED_S.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from edge_server.errors import FillUnavailable, NotAllowed
from edge_server.fill.deadline import ConnectTimeout, Deadline
from edge_server.fill.loop import Signal
from edge_server.fill.threads import Threads

Resolver = Callable[[str, int], Sequence[str]]
_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

RESOLVED_S = 10.0
FAILED_S = 1.0
RESOLVERS = 4
_TIMEOUT_S = 2.0
_MAX_RESOLVED = 1024

_Found = list[str] | OSError | UnicodeError

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


class _Lookup:
    """A name that is being resolved, and who waits for it."""

    def __init__(self) -> None:
        self.waiters: list[Signal] = []
        self.found: _Found | None = None


class AddressGuard:
    """Resolves names and lets through what may be connected to.

    Args:
        allow_private: networks that are let through although they are not global.
        resolver: what resolves; raises OSError for a name that has no address.
        timeout_s: how long a name may take.
    """

    def __init__(
        self,
        allow_private: Sequence[str] = (),
        resolver: Resolver = system_resolver,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._holes = tuple(ipaddress.ip_network(cidr) for cidr in allow_private)
        self._resolver = resolver
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._resolved: dict[tuple[str, int], tuple[float, list[str]]] = {}
        self._failed: dict[tuple[str, int], tuple[float, OSError | UnicodeError]] = {}
        self._lookups: dict[tuple[str, int], _Lookup] = {}
        self._threads = Threads("resolving", RESOLVERS)

    def resolve(self, host: str, port: int, deadline: Deadline | None = None) -> list[str]:
        """Return the addresses of `host` that may be connected to, in the resolver's order.

        Raises:
            NotAllowed: it has addresses, and none of them may be connected to.
            FillUnavailable: it cannot be resolved.
            ConnectTimeout: that takes too long, or longer than `deadline`.
        """
        key, now_s = (host, port), time.monotonic()
        until_s, addresses = self._resolved.get(key, (0.0, []))
        if now_s < until_s:
            return addresses
        found = self._look_up(key, now_s, deadline)
        if not isinstance(found, list):
            raise FillUnavailable(f"the origin's name does not resolve: {found}") from found
        if not found:
            raise NotAllowed("no address that may be connected to")
        return found

    def close(self) -> None:
        """End the threads that resolve, as far as they do not hang."""
        self._threads.close()

    def _look_up(self, key: tuple[str, int], now_s: float, deadline: Deadline | None) -> _Found:
        """Return what a name resolves to; who asks for the same shares the answer."""
        waiter = Signal()
        with self._lock:
            until_s, failure = self._failed.get(key, (0.0, None))
            if failure is not None and now_s < until_s:
                return failure
            lookup = self._lookups.get(key)
            if lookup is None:
                lookup = _Lookup()
                self._threads.post(lambda: self._resolve(key, lookup))
                self._lookups[key] = lookup
            lookup.waiters.append(waiter)
        until_s = now_s + self._timeout_s
        waiter.wait(until_s if deadline is None else min(until_s, deadline.at_s))
        if lookup.found is None:
            raise ConnectTimeout("the origin's name takes too long to resolve")
        return lookup.found

    def _resolve(self, key: tuple[str, int], lookup: _Lookup) -> None:
        """Resolve a name, in a thread, and tell who waits; a late answer serves those who come after."""
        found: _Found
        try:
            found = [text for text in self._resolver(*key) if self.is_allowed(text)]
        except (OSError, UnicodeError) as error:
            found = error
        except Exception as error:
            found = OSError(f"the resolver broke: {error!r}")
        with self._lock:
            lookup.found = found
            self._lookups.pop(key, None)
            if not isinstance(found, list):
                _bound(self._failed)
                self._failed[key] = (time.monotonic() + FAILED_S, found)
            elif found:
                _bound(self._resolved)
                self._resolved[key] = (time.monotonic() + RESOLVED_S, found)
        for waiter in lookup.waiters:
            waiter.tell()

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


def _bound(kept: dict[tuple[str, int], Any]) -> None:
    if len(kept) >= _MAX_RESOLVED:
        kept.clear()


def _is_global(address: _Ip) -> bool:
    return address.is_global and not address.is_multicast and not _is_within(address, _NOT_GLOBAL)


def _is_within(address: _Ip, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
