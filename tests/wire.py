"""HTTP/1.1 over a raw socket, for tests that must see every byte of an answer.

Specification: RFC 9112. Reads exactly one answer at a time and refuses what a strict
client may not understand; bytes behind an answer stay visible.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import NamedTuple

from tests.servers import Place

TIMEOUT_S = 15.0
_STATUS_LINE = re.compile(r"HTTP/1\.1 ([1-5][0-9]{2}) (.+)")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")


class Answer(NamedTuple):
    """One answer."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        """Return every value of a field."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:  # type: ignore[override]
        values = self.all(name)
        assert len(values) == 1, (name, self.fields)
        return values[0]

    @property
    def is_last(self) -> bool:
        """Whether the server closes the connection after it."""
        return "close" in [value.lower() for value in self.all("Connection")]


class Cut(ConnectionError):
    """The connection ended inside an answer, or before one: `received` bytes of it had come."""

    def __init__(self, received: int) -> None:
        super().__init__(f"the connection ended after {received} bytes of an answer")
        self.received = received


class Connection:
    """A connection of a client that sends one request after another."""

    def __init__(self, place: Place, timeout: float = TIMEOUT_S, receive_buffer: int | None = None) -> None:
        host = place.host.strip("[]")
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect((host, place.port))
        self._host = str(place)
        self._received = bytearray()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def ask(
        self, target: str, method: str = "GET", fields: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Send one request and return its whole answer."""
        self.send(target, method, fields, body)
        return self.read(method)

    def send(
        self, target: str, method: str = "GET", fields: Mapping[str, str] | None = None, body: bytes = b""
    ) -> None:
        """Send one request."""
        self.socket.sendall(request(target, method, {"Host": self._host, **(fields or {})}, body))

    def read(self, method: str = "GET") -> Answer:
        """Read one answer to a request of this method."""
        head = self.read_head()
        length = self.body_length(head, method)
        return head._replace(body=self.read_exactly(length))

    def read_head(self) -> Answer:
        """Read up to the end of the header section."""
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            self._receive()
        text = bytes(self._received[:end]).decode("latin-1")
        del self._received[: end + 4]
        status_line, *lines = text.split("\r\n")
        match = _STATUS_LINE.fullmatch(status_line)
        assert match is not None, f"no status line: {status_line!r}"
        return Answer(int(match[1]), list(_parse_fields(lines)))

    @staticmethod
    def body_length(head: Answer, method: str) -> int:
        """Return how many bytes follow a head. Source: RFC 9112 section 6.3."""
        assert not head.all("Transfer-Encoding"), "every answer of this service has a known length"
        if head.status == 204:
            assert not head.all("Content-Length"), "RFC 9110 section 8.6"
        if method == "HEAD" or head.status in (204, 304):
            return 0
        return int(head["Content-Length"])

    def read_exactly(self, length: int) -> bytes:
        """Read so many bytes of a body."""
        while len(self._received) < length:
            self._receive()
        data = bytes(self._received[:length])
        del self._received[:length]
        return data

    def unread(self) -> bytes:
        """Return what has come beyond the answers that were read, without waiting."""
        self.socket.setblocking(False)
        try:
            self._received += self.socket.recv(1 << 16)
        except BlockingIOError:
            pass
        finally:
            self.socket.settimeout(TIMEOUT_S)
        return bytes(self._received)

    @property
    def received(self) -> int:
        """How many bytes have come that nobody has read yet."""
        return len(self._received)

    def is_ended(self) -> bool:
        """Wait for the server to say something; return whether that is the end of the connection."""
        return not self._received and not self.socket.recv(1)

    def _receive(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise Cut(len(self._received))
        self._received += data


def request(target: str, method: str, fields: Mapping[str, str], body: bytes = b"") -> bytes:
    """Return the bytes of a request; `target` goes out as it is."""
    if body:
        fields = {**fields, "Content-Length": str(len(body))}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def ask(place: Place, target: str, method: str = "GET", fields: Mapping[str, str] | None = None) -> Answer:
    """Ask on a connection of its own."""
    with Connection(place) as connection:
        return connection.ask(target, method, fields)


def _parse_fields(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        match = _FIELD.fullmatch(line)
        assert match is not None, f"no field: {line!r}"
        yield match[1], match[2]
