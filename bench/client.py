"""A small HTTP/1.1 client for checks: one connection, exact bytes, nothing forgiven.

Source: RFC 9112. Reads answers that carry Content-Length or have no body (204, 304),
which is all that a static server may send here.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import NamedTuple

from bench import BenchError

Fields = Iterable[tuple[str, str]]


class Answer(NamedTuple):
    """What came back; `fields` has lower-case names, `head_bytes` counts the blank line too."""

    status: int
    fields: dict[str, str]
    body: bytes
    head_bytes: int


class Connection:
    """A persistent connection to a server on the loopback."""

    def __init__(self, port: int, timeout_s: float = 10.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self._file = self._socket.makefile("rb")

    def get(self, path: str, fields: Fields = ()) -> Answer:
        """Send a GET and return its answer.

        Raises:
            BenchError: the answer is not HTTP, ends early, or has a body of unknown length.
        """
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in fields)]
        self._socket.sendall("\r\n".join([*lines, "\r\n"]).encode("latin-1"))
        return self._read(path)

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, path: str) -> Answer:
        head = self._file.readline()
        if not head.startswith(b"HTTP/1.1 "):
            raise BenchError(f"{path}: the connection answered {head[:80]!r}")
        status = int(head[9:12])
        fields: dict[str, str] = {}
        size = len(head)
        while (line := self._file.readline()) not in (b"\r\n", b""):
            size += len(line)
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip()
        body = b"" if status in (204, 304) else self._read_body(path, fields)
        return Answer(status, fields, body, size + 2)

    def _read_body(self, path: str, fields: dict[str, str]) -> bytes:
        if "content-length" not in fields:
            raise BenchError(f"{path}: the answer has no Content-Length")
        length = int(fields["content-length"])
        body = self._file.read(length)
        if len(body) != length:
            raise BenchError(f"{path}: {len(body)} of {length} bytes came before the connection ended")
        return body
