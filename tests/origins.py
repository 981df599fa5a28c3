"""Origins on loopback: nginx for what is honest, and a server that says exactly what a test wants.

Each is a real server on a free port, ended by the context manager that started it.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blake3 import blake3

from tests.servers import eventually

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")

_CONFIG = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors.log;
events {{ worker_connections 1024; }}
http {{
  access_log {folder}/access.log; default_type application/octet-stream; keepalive_requests 1000000;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5; sendfile on; tcp_nopush off;
  server {{ listen 127.0.0.1:{port}; root {root}; {more} }}
}}
"""


def free_port() -> int:
    """Return a port that nobody listens on at present."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def nginx(folder: Path, root: Path, more: str = "") -> Iterator[int]:
    """Serve `root` without TLS; yield the port. The access log is ``folder/access.log``."""
    assert NGINX is not None
    port = free_port()
    folder.mkdir(exist_ok=True)
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, root=root, port=port, more=more))
    process = subprocess.Popen(
        [NGINX, "-c", str(config), "-p", str(folder), "-e", str(folder / "errors.log")]
    )
    try:
        eventually(lambda: _answers(port), within=5)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class MemorySink:
    """A sink that remembers what became of it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_aborted = False

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)

    def digest(self) -> bytes:
        return blake3(self.data).digest()

    def abort(self) -> None:
        self.is_aborted = True


Script = Callable[[socket.socket, bytes], None]


class ScriptedOrigin:
    """An origin that lets a script answer each request: it may lie, trickle, break off or say nothing.

    Attributes:
        port: where it listens on 127.0.0.1.
        requests: heads of the requests that came, in order.
    """

    def __init__(self, script: Script, context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.connections = 0
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = int(self._listener.getsockname()[1])
        self._is_closed = threading.Event()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Close the listener and all connections."""
        self._is_closed.set()
        self._listener.close()
        for sock in list(self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def wait(self, seconds: float) -> None:
        """Wait, but not longer than the origin lives."""
        self._is_closed.wait(seconds)

    def _accept(self) -> None:
        while not self._is_closed.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        self._open.add(sock)
        try:
            sock.settimeout(20)
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            while (head := _read_head(sock)) and not self._is_closed.is_set():
                self.requests.append(head)
                self.script(sock, head)
        except (OSError, Closed):
            pass
        finally:
            self._open.discard(sock)
            sock.close()


class Closed(Exception):
    """A script wants the connection to end here."""


def _read_head(sock: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = sock.recv(65536)
        if not piece:
            return b""
        data += piece
    return data


@contextmanager
def scripted(script: Script, context: ssl.SSLContext | None = None) -> Iterator[ScriptedOrigin]:
    """Run an origin that answers by a script."""
    origin = ScriptedOrigin(script, context)
    try:
        yield origin
    finally:
        origin.close()


def says(data: bytes, *, then_close: bool = False, times: list[float] | None = None) -> Script:
    """Return a script that answers every request with the same bytes."""

    def script(sock: socket.socket, head: bytes) -> None:
        if times is not None:
            times.append(time.monotonic())
        sock.sendall(data)
        if then_close:
            raise Closed

    return script


def ok(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    """Return an honest answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
