"""Connections to origins: made to a checked address, with TLS for the name, and kept for the next fill.

Process      whichever runs the engine; used by its tasks, one task a connection at a time.
Memory       at most `fill.per_host` idle connections an address and KEPT in all.
Lifetime     an idle connection is used again for IDLE_S unless the origin ends it before; past that it is
             closed when one is kept, be it of another origin.

A deadline holds for everything together: connecting, handshake, and each send and receive waits no longer
than is left of it, so an origin that trickles gains nothing. Specification: RFC 9110 section 4.3.4
(certificates), RFC 6066 section 3 (SNI).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic

from edge_server.config.schema import Fill
from edge_server.errors import FillTimeout, FillUnavailable, IntegrityError
from edge_server.fill.deadline import Cancellation, ConnectTimeout, Deadline
from edge_server.fill.loop import Readiness, give_way
from edge_server.fill.origins import Target
from edge_server.fill.wire import Cut, Reader

IDLE_S = 15.0
KEPT = 512
_RECEIVE_BYTES = 64 * 1024
_TURN_BYTES = 1 << 20  # of one body, before others have their turn


class Connection:
    """A connection to an origin.

    Args:
        sock: connected, with TLS where the target has it; it does not block.
        ready: of that socket.
        address: what it is connected to.
        read_timeout_s: how long the origin may stay silent.
    """

    def __init__(self, sock: socket.socket, ready: Readiness, address: str, read_timeout_s: float) -> None:
        self.sock = sock
        self.address = address
        self.reader = Reader(self._receive)
        self.is_used = False
        self.idle_since_s = 0.0
        self.deadline: Deadline | None = None
        self._ready = ready
        self._taken = 0  # bytes since others had their turn
        self._has_received = False
        self._read_timeout_s = read_timeout_s
        self._may_be_empty = ready.is_in_loop and not self.is_tls  # TLS keeps what has come to itself
        self._quiet = select.poll()
        self._quiet.register(sock, select.POLLIN)

    @property
    def is_tls(self) -> bool:
        """Whether an end without a closing alert is told apart from an end."""
        return isinstance(self.sock, ssl.SSLSocket)

    def send(self, data: bytes, deadline: Deadline) -> None:
        """Send a request; `deadline` holds for its answer too.

        Raises:
            FillTimeout: the deadline passed.
            Cut: the connection is gone.
        """
        self.deadline = deadline
        self._has_received = False
        deadline.left_s()
        # PERF: tests/perf/bench_fill.py; nothing can have come yet, and a try for nothing is a system call.
        self._ready.is_empty = self._may_be_empty
        try:
            while data := data[self._send(data) :]:
                if not self._ready.wait(deadline.at_s, to_write=True):
                    raise FillTimeout("the origin takes no request")
        except OSError as error:
            raise Cut(f"sending failed: {error}", is_before_answer=True) from error

    def _send(self, data: bytes) -> int:
        try:
            return self.sock.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    def _receive(self) -> bytes:
        assert self.deadline is not None
        ready = self._ready
        silent_s = monotonic() + self._read_timeout_s
        try:
            while True:
                if not ready.is_empty or ready.has_ended:
                    try:
                        return self._received(self.sock.recv(_RECEIVE_BYTES))
                    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                        pass
                self._taken = 0
                self.deadline.left_s()
                if not ready.wait(min(self.deadline.at_s, silent_s)) and monotonic() >= silent_s:
                    raise FillTimeout("the origin is silent")
        except OSError as error:
            # A reset of an idle connection; one in the middle of an answer has left bytes or a body behind.
            raise Cut(f"receiving failed: {error}", is_before_answer=not self._has_received) from error

    def _received(self, data: bytes) -> bytes:
        self._has_received = True
        # epoll(7): a stream has been read to its end if less has come than was asked for.
        self._ready.is_empty = len(data) < _RECEIVE_BYTES and self._may_be_empty
        self._taken += len(data)
        if self._taken >= _TURN_BYTES:
            self._taken = 0
            give_way()
        return data

    def is_quiet(self) -> bool:
        """Whether the origin has neither ended the idle connection nor said anything unasked."""
        if self.reader.buffer or (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()):
            return False
        return not self._quiet.poll(0)

    def close(self) -> None:
        """Close it. A connection that failed is closed in no other way."""
        self._ready.close()
        try:
            self.sock.close()
        except OSError:
            pass


class Connections:
    """Makes connections, and keeps idle ones.

    Args:
        fill: `connect_timeout`, `read_timeout`, `ca_bundle`, and `per_host` idle ones an address.
        handshake_failed: called for each TLS handshake that failed.

    Raises:
        OSError: `fill.ca_bundle` cannot be read.
    """

    def __init__(self, fill: Fill, handshake_failed: Callable[[], None] = lambda: None) -> None:
        self._fill = fill
        self._handshake_failed = handshake_failed
        self._context = tls_context(fill.ca_bundle)
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, int, bool, str], deque[Connection]] = {}
        self._kept = 0
        self._sweep_s = 0.0  # when those that were idle for too long go next

    def open(
        self, target: Target, addresses: Sequence[str], deadline: Deadline, cancellation: Cancellation
    ) -> Connection:
        """Return an idle connection to one of the addresses, or a new one to the first that takes it.

        Raises:
            FillTimeout, FillUnavailable: none could be had.
            IntegrityError: the certificate is not one for the target's name.
        """
        for address in addresses:
            idle = self._take((target.host, target.port, target.is_https, address))
            if idle is not None:
                try:
                    cancellation.watch(idle.sock)
                except FillUnavailable:
                    idle.close()
                    raise
                return idle
        return self._connect_any(target, addresses, deadline, cancellation)

    def keep(self, target: Target, connection: Connection) -> None:
        """Keep a connection whose answer was read to its end."""
        key = (target.host, target.port, target.is_https, connection.address)
        connection.is_used = True
        connection.idle_since_s = monotonic()
        if connection.idle_since_s >= self._sweep_s:
            self._sweep(connection.idle_since_s)
        with self._lock:
            idle = self._idle.setdefault(key, deque())
            if self._kept < KEPT and len(idle) < self._fill.per_host:
                idle.append(connection)
                self._kept += 1
                return
        connection.close()

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            closing = [connection for idle in self._idle.values() for connection in idle]
            self._idle.clear()
            self._kept = 0
        for connection in closing:
            connection.close()

    def _sweep(self, now_s: float) -> None:
        """Close what was idle for too long: an address that its name has no more is not asked for again."""
        closing = []
        with self._lock:
            self._sweep_s = now_s + IDLE_S
            for key, idle in list(self._idle.items()):
                while idle and now_s - idle[0].idle_since_s >= IDLE_S:  # the oldest stands first
                    closing.append(idle.popleft())
                    self._kept -= 1
                if not idle:
                    del self._idle[key]
        for connection in closing:
            connection.close()

    def _take(self, key: tuple[str, int, bool, str]) -> Connection | None:
        while True:
            with self._lock:
                idle = self._idle.get(key)
                if not idle:
                    self._idle.pop(key, None)
                    return None
                connection = idle.pop()  # the one used last is the likeliest to be alive
                self._kept -= 1
            if monotonic() - connection.idle_since_s < IDLE_S and connection.is_quiet():
                return connection
            connection.close()

    def _connect_any(
        self, target: Target, addresses: Sequence[str], deadline: Deadline, cancellation: Cancellation
    ) -> Connection:
        until_s = monotonic() + self._fill.connect_timeout
        failure: FillTimeout | FillUnavailable | None = None
        for address in addresses:
            deadline.left_s()
            if monotonic() >= until_s:
                break
            try:
                return self._connect(target, address, min(until_s, deadline.at_s), cancellation)
            except (FillTimeout, FillUnavailable) as error:
                failure = error
        raise failure or ConnectTimeout("connecting took too long")

    def _connect(
        self, target: Target, address: str, until_s: float, cancellation: Cancellation
    ) -> Connection:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        ready: Readiness | None = None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            cancellation.watch(sock)
            begun = sock.connect_ex((address, target.port))
            ready = Readiness(sock)  # NOTE: one that is not connecting yet would count as ended
            _connected(sock, ready, begun, until_s)
            if target.is_https:
                sock = self._context.wrap_socket(
                    sock,
                    server_hostname=target.host,
                    suppress_ragged_eofs=False,
                    do_handshake_on_connect=False,
                )
                cancellation.watch(sock)
                _shake_hands(sock, ready, until_s)
            return Connection(sock, ready, address, self._fill.read_timeout)
        except BaseException as error:
            if ready is not None:
                ready.close()
            sock.close()
            if isinstance(error, ssl.SSLError):
                self._handshake_failed()
            if isinstance(error, ssl.SSLCertVerificationError):
                raise IntegrityError(f"the origin's certificate: {error.verify_message}") from error
            if isinstance(error, ssl.SSLError):
                raise FillUnavailable(f"the TLS handshake failed: {error.reason or error}") from error
            if isinstance(error, (OSError, ValueError)):
                raise FillUnavailable(f"connecting failed: {error}") from error
            raise


def _connected(sock: socket.socket, ready: Readiness, begun: int, until_s: float) -> None:
    """Wait until a connection that was begun stands.

    Raises:
        ConnectTimeout: it took too long.
        OSError: it cannot be had.
    """
    error = begun
    while error in (errno.EINPROGRESS, errno.EALREADY):
        if not ready.wait(until_s, to_write=True):
            raise ConnectTimeout("connecting took too long")
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not error:
            sock.getpeername()  # raises if it was shut meanwhile
    if error:
        raise OSError(error, os.strerror(error))


def _shake_hands(sock: ssl.SSLSocket, ready: Readiness, until_s: float) -> None:
    while True:
        try:
            sock.do_handshake()
            return
        except ssl.SSLWantReadError:
            is_late = not ready.wait(until_s)
        except ssl.SSLWantWriteError:
            is_late = not ready.wait(until_s, to_write=True)
        if is_late:
            raise ConnectTimeout("connecting took too long")


def tls_context(ca_bundle: str) -> ssl.SSLContext:
    """Return what origins are met with: certificate and name checked, TLS 1.2 or later.

    Args:
        ca_bundle: a file of certificates, or ``system``.
    """
    context = ssl.create_default_context(cafile=None if ca_bundle == "system" else ca_bundle)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # An end without a closing alert could be an attacker's cut: it must not look like an end.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context
