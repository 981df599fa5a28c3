"""Connections to origins: made to a checked address, with TLS for the name, and kept for the next fill.

Process      whichever runs the engine; used by its threads, one thread a connection at a time.
Memory       at most `idle_max` idle connections an address and KEPT in all.
Lifetime     an idle connection is used again for IDLE_S unless the origin ends it before.

A deadline holds for everything together: connecting, handshake, and each send and receive waits no longer
than is left of it, so an origin that trickles gains nothing. Specification: RFC 9110 section 4.3.4
(certificates), RFC 6066 section 3 (SNI).
"""

from __future__ import annotations

import math
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from edge_server.config.schema import Fill
from edge_server.errors import FillTimeout, FillUnavailable, IntegrityError
from edge_server.fill.deadline import Cancellation, Deadline
from edge_server.fill.origins import Target
from edge_server.fill.wire import Cut, Reader

IDLE_S = 15.0
KEPT = 512
_RECEIVE_BYTES = 64 * 1024


class Connection:
    """A connection to an origin.

    Args:
        sock: connected, with TLS where the target has it.
        address: what it is connected to.
        read_timeout_s: how long the origin may stay silent.
    """

    def __init__(self, sock: socket.socket, address: str, read_timeout_s: float) -> None:
        self.sock = sock
        self.address = address
        self.reader = Reader(self._receive)
        self.is_used = False
        self.idle_since_s = 0.0
        self.deadline: Deadline | None = None
        self._has_received = False
        self._read_timeout_s = read_timeout_s
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)
        if not self.is_tls:
            sock.setblocking(False)

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
        left_s = deadline.left_s()
        try:
            self._send_all(data, left_s)
        except TimeoutError:
            raise FillTimeout("the origin takes no request") from None
        except OSError as error:
            raise Cut(f"sending failed: {error}", is_before_answer=True) from error

    def _send_all(self, data: bytes, left_s: float) -> None:
        # PERF: tests/perf/bench_fill.py; a socket with a timeout costs each call two system calls more.
        if not self.is_tls:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                pass
            if not data:
                return
        self.sock.settimeout(left_s)
        self.sock.sendall(data)
        if not self.is_tls:
            self.sock.setblocking(False)

    def _receive(self) -> bytes:
        assert self.deadline is not None
        wait_s = min(self.deadline.left_s(), self._read_timeout_s)
        try:
            if self.is_tls:
                self.sock.settimeout(wait_s)
            elif not self._readable.poll(math.ceil(1000 * wait_s)):
                raise TimeoutError
            received = self.sock.recv(_RECEIVE_BYTES)
            self._has_received = True
            return received
        except TimeoutError:
            raise FillTimeout("the origin is silent") from None
        except OSError as error:
            # A reset of an idle connection; one in the middle of an answer has left bytes or a body behind.
            raise Cut(f"receiving failed: {error}", is_before_answer=not self._has_received) from error

    def is_quiet(self) -> bool:
        """Whether the origin has neither ended the idle connection nor said anything unasked."""
        if self.reader.buffer or (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()):
            return False
        return not self._readable.poll(0)

    def close(self) -> None:
        """Close it. A connection that failed is closed in no other way."""
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
                cancellation.watch(idle.sock)
                return idle
        return self._connect_any(target, addresses, deadline, cancellation)

    def keep(self, target: Target, connection: Connection) -> None:
        """Keep a connection whose answer was read to its end."""
        key = (target.host, target.port, target.is_https, connection.address)
        connection.is_used = True
        connection.idle_since_s = time.monotonic()
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

    def _take(self, key: tuple[str, int, bool, str]) -> Connection | None:
        while True:
            with self._lock:
                idle = self._idle.get(key)
                if not idle:
                    self._idle.pop(key, None)
                    return None
                connection = idle.pop()  # the one used last is the likeliest to be alive
                self._kept -= 1
            if time.monotonic() - connection.idle_since_s < IDLE_S and connection.is_quiet():
                return connection
            connection.close()

    def _connect_any(
        self, target: Target, addresses: Sequence[str], deadline: Deadline, cancellation: Cancellation
    ) -> Connection:
        until_s = time.monotonic() + self._fill.connect_timeout
        failure: FillTimeout | FillUnavailable | None = None
        for address in addresses:
            left_s = min(until_s - time.monotonic(), deadline.left_s())
            if left_s <= 0:
                break
            try:
                sock = self._connect(target, address, left_s, cancellation)
                return Connection(sock, address, self._fill.read_timeout)
            except (FillTimeout, FillUnavailable) as error:
                failure = error
        raise failure or ConnectTimeout("connecting took too long")

    def _connect(
        self, target: Target, address: str, timeout_s: float, cancellation: Cancellation
    ) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(timeout_s)
            cancellation.watch(sock)
            sock.connect((address, target.port))
            if target.is_https:
                sock = self._context.wrap_socket(
                    sock, server_hostname=target.host, suppress_ragged_eofs=False
                )
                cancellation.watch(sock)
        except TimeoutError:
            sock.close()
            raise ConnectTimeout("connecting took too long") from None
        except ssl.SSLError as error:
            sock.close()
            self._handshake_failed()
            if isinstance(error, ssl.SSLCertVerificationError):
                raise IntegrityError(f"the origin's certificate: {error.verify_message}") from error
            raise FillUnavailable(f"the TLS handshake failed: {error.reason or error}") from error
        except (OSError, ValueError) as error:
            sock.close()
            raise FillUnavailable(f"connecting failed: {error}") from error
        except BaseException:
            sock.close()
            raise
        return sock


class ConnectTimeout(FillTimeout):
    """No connection within `fill.connect_timeout`."""


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
