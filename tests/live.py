"""Instances in live mode, and an HTTPS origin that answers by path, for tests of fills.

The origin is real, on loopback, with a certificate of an authority made for the run; what it says of each
path is a table that the test fills in.
"""

from __future__ import annotations

import socket
import ssl
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import trustme

from tests.origins import Script, ScriptedOrigin, ok, scripted
from tests.servers import Server
from tests.wire import Answer, ask

HOST = "localhost"


class Origin:
    """An HTTPS origin.

    Attributes:
        answers: by path; what is not there is a 404.
        streamed: scripts by path, for what is too large to be made at once.
        asked: how often each path was asked for.
        release: held answers (`hold`) go out when it is set.
        heads: heads of all requests.
    """

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Callable[[bytes], bytes]] = {}
        self.held: set[str] = set()
        self.release = threading.Event()
        self.asked: Counter[str] = Counter()
        self.heads: list[bytes] = []
        self.streamed: dict[str, Script] = {}
        self.default: Callable[[str], bytes] | None = None
        self.server: ScriptedOrigin
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        return self.server.port

    def script(self, sock: socket.socket, head: bytes) -> None:
        path = head.split(b" ", 2)[1].decode()
        with self._lock:
            self.asked[path] += 1
            self.heads.append(head)
        if path in self.held or "*" in self.held:
            self.release.wait(30)
        if path in self.streamed:
            self.streamed[path](sock, head)
            return
        answer = self.answers.get(path)
        if answer is None:
            absent = ok(b"no", status="404 Not Found")
            answer = absent if self.default is None else self.default(path)
        sock.sendall(answer(head) if callable(answer) else answer)


class Live(NamedTuple):
    """An instance with its origin."""

    server: Server
    origin: Origin

    def get(self, path: str, method: str = "GET", **fields: str) -> Answer:
        """Ask on a connection of its own; ``If_None_Match`` is If-None-Match."""
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return ask(self.server.assets, f"/edge/assets/{path}", method, named)


class Authority:
    """A certificate authority of this run."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.bundle = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.bundle))

    def context(self, name: str = HOST) -> ssl.SSLContext:
        """Return what a server of that name shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(name).configure_cert(context)
        return context


@contextmanager
def https_origin(authority: Authority) -> Iterator[Origin]:
    """Run an origin."""
    origin = Origin()
    with scripted(origin.script, authority.context()) as server:
        origin.server = server
        yield origin
        origin.release.set()


def flags(origin: Origin, authority: Authority, **settings: object) -> list[str]:
    """Return the flags of an instance that is filled from it; ``fill__queue=3`` is fill.queue."""
    given = {
        "edge__mode": "live",
        "edge__allow": f"{HOST}:{origin.port}",
        "fill__allow_private": "127.0.0.0/8,::1/128",
        "fill__ca_bundle": authority.bundle,
        "workers__count": 2,
        **settings,
    }
    return [word for name, value in given.items() for word in ("--set", f"{name.replace('__', '.')}={value}")]


def post(server: Server, target: str) -> bytes:
    """Return the body of a POST on the admin plane that must succeed."""
    request = urllib.request.Request(f"http://{server.admin}{target}", method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        body: bytes = answer.read()
    return body
