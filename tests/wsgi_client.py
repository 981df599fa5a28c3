"""A client of the asset plane's WSGI callable, called as bjoern calls it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_server.observe.tally import Tally
from edge_server.shm.catalog import Catalog
from edge_server.shm.scoreboard import Scoreboard
from edge_server.worker.hitpath import HitPath, WsgiApp

BIG = bytes(range(256)) * 4096  # 1 MiB
TILE = b"a vector tile " * 20


@dataclass
class Answer:
    """What a client would have got; `cut` is the error that ended the body early."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    cut: Exception | None = None

    def __getitem__(self, name: str) -> str:
        values = [value for field_name, value in self.fields if field_name.lower() == name.lower()]
        assert len(values) == 1, (name, values)
        return values[0]

    def all(self, name: str) -> list[str]:
        return [value for field_name, value in self.fields if field_name.lower() == name.lower()]


class PlannedBodies:
    """Stands in for the guard where there is no connection: keeps what would have been sent.

    Reads the file at once and by the same rules, so that a whole answer can be looked at.
    """

    def __init__(self) -> None:
        self.body: bytes | None = None
        self.lines = b""

    def send_fields(self, lines: bytes) -> None:
        self.lines = lines

    def file(self, descriptor: int, size: int, mtime_ns: int, min_links: int) -> PlannedFile:
        return PlannedFile(self, descriptor, size, mtime_ns, min_links)

    def take_fields(self) -> list[tuple[str, str]]:
        """Return the fields that were to be sent with this answer."""
        lines, self.lines = self.lines.decode("latin-1").split("\r\n")[1:], b""
        return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]

    def take(self) -> bytes | None:
        body, self.body = self.body, None
        return body


class PlannedFile:
    """Stands in for guard.File."""

    def __init__(
        self, planned: PlannedBodies, descriptor: int, size: int, mtime_ns: int, min_links: int
    ) -> None:
        self._planned = planned
        self._descriptor = descriptor
        self._expected = (size, mtime_ns, True)
        self._min_links = min_links

    def send(self, offset: int, length: int) -> bool:
        data = os.pread(self._descriptor, length, offset)
        now = os.fstat(self._descriptor)
        found = (now.st_size, now.st_mtime_ns, now.st_nlink >= self._min_links)
        if len(data) != length or found != self._expected:
            return False
        self._planned.body = data
        return True

    def at_hand(self, offset: int, length: int) -> bool:
        return True

    def __del__(self) -> None:
        os.close(self._descriptor)


@dataclass
class Client:
    """Calls the app as bjoern does, under a guard."""

    app: WsgiApp
    root: Path
    state: HitPath
    tally: Tally
    scoreboard: Scoreboard
    catalog: Catalog
    planned: PlannedBodies
    between_chunks: Callable[[], None] = field(default=lambda: None)

    def __call__(self, path: str, method: str = "GET", **fields: str) -> Answer:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path if path.startswith("/") else f"/edge/assets/{path}",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8080",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
            **{f"HTTP_{name.upper()}": value for name, value in fields.items()},
        }
        started: list[tuple[str, list[tuple[str, str]]]] = []
        body = self.app(environ, lambda status, headers, exc_info=None: started.append((status, headers)))
        assert len(started) == 1
        status, headers = started[0]
        assert all(type(value) is str for pair in headers for value in pair)
        planned = self.planned.take()
        headers = [*headers, *self.planned.take_fields()]
        if isinstance(body, bytes):
            assert planned is None or body == b""
            return Answer(int(status[:3]), headers, body if planned is None else planned)
        chunks = []
        cut = None
        try:
            for chunk in body:
                chunks.append(chunk)
                self.between_chunks()
        except Exception as error:
            cut = error
        close = getattr(body, "close", None)
        if close is not None:
            close()
        return Answer(int(status[:3]), headers, b"".join(chunks), cut)
