"""The demo's origin: a small HTTPS server on loopback, with an authority made for this run.

Process      the one that runs the demo; a thread a connection.
Lifetime     that of the context manager `prepared`. It listens at once, and answers after `start`: the
             server is forked between the two, while no other thread runs.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import blake3

from edge_server.errors import EdgeError

HOST = "localhost"
GREETING = b"Hello from an origin, over TLS.\n" * 64
SLOW = b"fetched once, however many ask" * 512
SLOW_S = 0.3
LYING_TAG = f'"b3:{blake3.blake3(b"something else").hexdigest()}"'

# path -> (body, fields, seconds that the answer takes)
_ANSWERS: dict[str, tuple[bytes, dict[str, str], float]] = {
    "/greeting.txt": (GREETING, {"Content-Type": "text/plain", "Cache-Control": "max-age=600"}, 0.0),
    "/slow.bin": (SLOW, {"Cache-Control": "max-age=600"}, SLOW_S),
    "/lying.txt": (GREETING, {"ETag": LYING_TAG}, 0.0),
}


class NoAuthority(EdgeError):
    """There is nothing to make a certificate with."""


class Origin:
    """The origin.

    Attributes:
        port: where it listens.
        bundle: path of its authority's certificate.
        asked: how often each path was asked for.
    """

    def __init__(self, folder: str) -> None:
        try:
            import trustme
        except ImportError as error:
            raise NoAuthority("the live demo needs trustme: pip install 'svc-edge[demo]'") from error
        authority = trustme.CA()
        self.bundle = os.path.join(folder, "origin-ca.pem")
        authority.cert_pem.write_to_path(self.bundle)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(context)
        self.asked: Counter[str] = Counter()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.origin = self
        self._server.context = context
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def prepared(folder: str) -> Iterator[Origin]:
    """Yield an origin that listens, and whose authority is in `folder`.

    Raises:
        NoAuthority: it cannot have a certificate.
    """
    os.makedirs(folder, exist_ok=True)
    origin = Origin(folder)
    try:
        yield origin
    finally:
        origin.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    origin: Origin
    context: ssl.SSLContext


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_GET(self) -> None:
        self.server.origin.asked[self.path] += 1
        found = _ANSWERS.get(self.path)
        body, fields, seconds = found if found is not None else (b"", {}, 0.0)
        time.sleep(seconds)
        self.send_response(404 if found is None else 200)
        for name, value in {**fields, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the demo shows what it has seen."""
