"""bjoern as this worker uses it: running it, and reaching what it does not show.

Process      a worker. All that knows bjoern's insides stands here.

bjoern 3.2.2 runs libev on epoll; its loop calls PyErr_CheckSignals every 0.1 s, so a
Python signal handler is how other work gets its turn in it.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import termios
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, NamedTuple

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], bytes | Iterable[bytes]]

# linux/tcp.h, struct tcp_info: offsets of the fields read here.
_TCP_INFO_BYTES = 104
_UNACKED = struct.Struct("=24xI")  # of a listening socket: connections in the accept queue
_LAST_DATA = struct.Struct("=44xI4xI")  # tcpi_last_data_sent, tcpi_last_data_recv: ms ago
_INT = struct.Struct("i")


class Connection(NamedTuple):
    """A client connection of this process."""

    descriptor: int
    is_idle: bool  # answered everything it was asked, and asks nothing


def run(listener: socket.socket, app: WsgiApp) -> None:
    """Serve `app` on a listening socket until the process exits."""
    import bjoern

    # NOTE: bjoern handles SIGINT itself, and stops; Ctrl-C is the supervisor's to answer.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    bjoern.server_run(listener, app)


def is_in_loop(frame: FrameType | None) -> bool:
    """Whether a signal handler was called by the loop itself, after all that the loop had to do.

    Args:
        frame: what was interrupted, as the handler was told.

    Between two such calls bjoern has looked at every connection.
    """
    import bjoern

    return frame is not None and frame.f_code is bjoern.server_run.__code__


def queued(listener: socket.socket) -> int:
    """Return how many connections wait to be accepted. Source: tcp(7), TCP_INFO of a listener."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    waiting: int = _UNACKED.unpack_from(info)[0]
    return waiting


def stop_accepting(listener: socket.socket) -> None:
    """Take the listening socket out of bjoern's epoll set; what is queued stays in the kernel."""
    for descriptor in _descriptors():
        if _target(descriptor) == "anon_inode:[eventpoll]":
            with select.epoll.fromfd(os.dup(descriptor)) as poll:
                try:
                    poll.unregister(listener.fileno())
                except FileNotFoundError:
                    pass  # the epoll of something else


def connections(listener: socket.socket, idle_ms: int) -> list[Connection]:
    """Return the client connections of this process.

    Args:
        listener: tells client sockets from others by its own address family and type.
        idle_ms: a connection is idle only if nothing has happened on it for so long.
    """
    found = []
    for descriptor in _descriptors():
        if descriptor == listener.fileno() or not _target(descriptor).startswith("socket:"):
            continue
        with socket.socket(fileno=os.dup(descriptor)) as client:
            if (
                client.family == listener.family
                and client.type == socket.SOCK_STREAM
                and _is_connected(client)
            ):
                found.append(Connection(descriptor, _is_idle(client, idle_ms)))
    return found


def hang_up(connection: Connection) -> None:
    """End an idle connection: bjoern reads its end of file and closes it."""
    with socket.socket(fileno=os.dup(connection.descriptor)) as client:
        try:
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client was quicker


def _is_idle(client: socket.socket, idle_ms: int) -> bool:
    """Whether the last thing on it was an answer, which has arrived whole, and nothing was asked since.

    NOTE: so looks, too, a connection whose request was read and whose answer is not written yet,
    if nothing else was ever sent on it or the clock of the kernel, of 1 to 10 ms, did not move.
    """
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    sent_ms, received_ms = _LAST_DATA.unpack_from(info)
    return (
        received_ms >= idle_ms
        and sent_ms >= idle_ms
        and sent_ms <= received_ms
        and _queue(client, termios.FIONREAD) == 0
        and _queue(client, termios.TIOCOUTQ) == 0
    )


def _queue(client: socket.socket, request: int) -> int:
    """Return the bytes in a socket's receive or send queue. Source: tcp(7), SIOCINQ and SIOCOUTQ."""
    count: int = _INT.unpack(fcntl.ioctl(client, request, bytes(_INT.size)))[0]
    return count


def _is_connected(client: socket.socket) -> bool:
    try:
        client.getpeername()
    except OSError:
        return False
    return True


def _descriptors() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]


def _target(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:  # the one that listed the folder
        return ""
