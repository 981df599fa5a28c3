"""Listening sockets: all of them are bound here, before anything else is done, and owned here.

The asset plane has one SO_REUSEPORT socket a slot, so that the kernel spreads connections;
a slot's socket outlives its workers, and what waits in its queue is taken by the next one.
The admin plane has one socket that nobody else can share.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from edge_server.config.addresses import Address
from edge_server.errors import ResourceError

MAX_BACKLOG = 4096

_SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
_UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


class Listeners(NamedTuple):
    """The sockets of one supervisor, and where they are as shown to people."""

    assets: tuple[socket.socket, ...]
    admin: socket.socket
    addresses: tuple[str, str]  # asset plane, admin plane

    def all(self) -> tuple[socket.socket, ...]:
        """Return every socket."""
        return (*self.assets, self.admin)

    def close(self) -> None:
        """Close every socket; what waits in their queues is reset."""
        for listener in self.all():
            listener.close()


def bind_all(assets: Address, admin: Address, slots: int) -> Listeners:
    """Bind and listen on both planes; connections wait in the queues from now on.

    Raises:
        ResourceError: an address cannot be had; says why and what helps.
    """
    with ExitStack() as undo:
        sharing = bind_shared(assets, slots)
        for listener in sharing:
            undo.callback(listener.close)
        alone = bind_alone(admin)
        undo.pop_all()
    return Listeners(tuple(sharing), alone, (shown(sharing[0]), shown(alone)))


def bind_shared(address: Address, count: int) -> list[socket.socket]:
    """Return `count` listening sockets on one address; port 0 picks one for all of them."""
    with ExitStack() as undo:
        if address.port:
            bind_alone(address).close()  # SO_REUSEPORT would let two instances share it silently
        sockets = []
        for _ in range(count):
            listener = _bind(address, is_shared=True)
            undo.callback(listener.close)
            sockets.append(listener)
            address = Address(address.host, listener.getsockname()[1])
        undo.pop_all()
    return sockets


def bind_alone(address: Address) -> socket.socket:
    """Return a listening socket that fails wherever anyone else listens."""
    return _bind(address, is_shared=False)


def shown(listener: socket.socket) -> str:
    """Return the bound address as people write it, IPv6 in brackets."""
    host, port = listener.getsockname()[:2]
    return str(Address(host, port))


def backlog() -> int:
    """Return the length of the accept queues: what the kernel allows, up to MAX_BACKLOG."""
    try:
        return min(int(_SOMAXCONN.read_text()), MAX_BACKLOG)
    except (OSError, ValueError):
        return min(socket.SOMAXCONN, MAX_BACKLOG)


def _bind(address: Address, *, is_shared: bool) -> socket.socket:
    listener = None
    try:
        family, kind, protocol, _, place = _resolve(address)
        listener = socket.socket(family, kind, protocol)
        _prepare(listener, is_shared=is_shared)
        listener.bind(place)
        listener.listen(backlog())
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ResourceError(_explain(address, error)) from error
    return listener


def _resolve(address: Address) -> tuple[int, int, int, str, tuple[object, ...]]:
    flags = socket.AI_PASSIVE | socket.AI_NUMERICSERV
    return socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)[0]


def _prepare(listener: socket.socket, *, is_shared: bool) -> None:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    # Inherited by accepted connections: without it a split write waits 40 ms for a delayed ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)


def _explain(address: Address, error: OSError) -> str:
    return f"cannot listen on {address}: {_reason(address, error)}"


def _reason(address: Address, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"{address.host} is not an address of this machine ({error.strerror})"
    if error.errno == errno.EADDRINUSE:
        return f"port in use; see who has it with: ss -ltnp 'sport = :{address.port}'"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; 0.0.0.0 or [::] stand for all that it has"
    if error.errno == errno.EACCES:
        return _low_port(address)
    return error.strerror or os.strerror(error.errno or 0)


def _low_port(address: Address) -> str:
    try:
        first_free = _UNPRIVILEGED.read_text().strip()
    except OSError:
        first_free = "1024"
    return (
        f"ports below {first_free} need the capability CAP_NET_BIND_SERVICE: grant it"
        " (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE; docker: --cap-add NET_BIND_SERVICE),"
        f" lower the limit (sysctl net.ipv4.ip_unprivileged_port_start={address.port}),"
        f" or take a port from {first_free} on"
    )
