"""Log lines: one JSON object each on standard output, or text for people.

Process      any; each calls `configure` once, after its fork.
Memory       the lines that the sink holds back; see log_sink.py.
Consistency  a line is at most 4096 bytes and never mixes with another process's.
Lifetime     its process's.

A line has ``ts`` (RFC 3339, UTC, milliseconds), ``level``, ``service``, ``event``, ``pid`` and
``latency_ms`` (0 where it means nothing), then what the event knows. Never logged: header
values other than the correlation id, query strings, file contents.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping

from edge_server.observe.log_sink import WHOLE_BYTES, LogSink

SERVICE = "svc-edge"
LEVELS = ("debug", "info", "warning", "error")

_RANK = {level: rank for rank, level in enumerate(LEVELS)}
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


class Log:
    """Makes lines of events and hands them to a sink.

    Args:
        log_format: ``json`` or ``text``.
        level: least level that is logged, of LEVELS.
        bound: fields that every line has, e.g. ``slot``.
        descriptor: where lines go.
    """

    def __init__(self, log_format: str, level: str, bound: Mapping[str, object], descriptor: int = 1) -> None:
        self._render: Callable[[dict[str, object]], str] = _as_text if log_format == "text" else _encode
        self._least = _RANK[level]
        self._bound = {"pid": os.getpid(), **bound}
        self._sink = LogSink(descriptor, self._tell_dropped)
        self._second = (0, "")

    def is_on(self, level: str) -> bool:
        """Whether events of this level are logged."""
        return _RANK[level] >= self._least

    def write(self, event: str, level: str, fields: Mapping[str, object]) -> None:
        """Log an event with the next flush."""
        if _RANK[level] >= self._least:
            self._sink.append(self._line(event, level, fields))

    def flush(self) -> None:
        """Write what is waiting, as far as that is possible without waiting."""
        self._sink.flush()

    def _line(self, event: str, level: str, fields: Mapping[str, object]) -> bytes:
        record: dict[str, object] = {
            "ts": self._timestamp(),
            "level": level,
            "service": SERVICE,
            "event": event,
            **self._bound,
            "latency_ms": 0,
            **fields,
        }
        line = self._render(record)
        while len(line) >= WHOLE_BYTES:
            _halve_longest(record)
            line = self._render(record)
        return line.encode("ascii") + b"\n"

    def _tell_dropped(self, lines: int) -> bytes:
        return self._line("log_dropped", "warning", {"lines": lines})

    def _timestamp(self) -> str:
        second, ns = divmod(time.time_ns(), 1_000_000_000)
        cached, text = self._second
        if cached != second:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        return f"{text}.{ns // 1_000_000:03}Z"


class AccessLog:
    """Requests: every refused or failed one, and a share of the others.

    Args:
        sample: the share, 0 to 1; 0.01 logs each hundredth.
    """

    def __init__(self, sample: float) -> None:
        self._log = _Process.log()
        self._sample = sample if self._log.is_on("info") else 0.0
        self._credit = 0.0

    def wants(self, status: int) -> bool:
        """Whether the request that ends with this status is logged; asked once a request."""
        if status >= 400:
            return True
        self._credit += self._sample
        if self._credit < 1:
            return False
        self._credit -= 1
        return True

    def request(
        self,
        route: str,
        method: str,
        status: int,
        *,
        latency_s: float,
        bytes_out: int,
        corr_id: str,
        peer_addr: str,
        reason: str = "",
        **more: object,
    ) -> None:
        """Log one request with the next flush: ``reject`` where there is a reason, else ``request``."""
        fields: dict[str, object] = {
            "route": route,
            "method": method,
            "status": status,
            "corr_id": corr_id,
            "peer_addr": peer_addr,
            "latency_ms": round(latency_s * 1000, 3),
            "bytes_out": bytes_out,
            **more,
        }
        if reason:
            fields["reason"] = reason
        self._log.write("reject" if reason else "request", _level_of(status, reason), fields)

    def flush(self) -> None:
        """Write what is waiting, as far as that is possible without waiting."""
        self._log.flush()


class _Process:
    """The log of this process."""

    _log: Log | None = None

    @classmethod
    def log(cls) -> Log:
        if cls._log is None:
            cls._log = Log("json", "info", {})
        return cls._log

    @classmethod
    def replace(cls, log: Log) -> None:
        cls._log = log


def configure(log_format: str, level: str, *, descriptor: int = 1, **bound: object) -> None:
    """Begin this process's log; what an earlier one of the parent still holds stays the parent's.

    Args:
        log_format: ``json`` or ``text``.
        level: least level that is logged.
        descriptor: where lines go.
        bound: fields that every line of this process has, e.g. ``slot`` and ``mode``.
    """
    _Process.replace(Log(log_format, level, bound, descriptor))


def log(event: str, level: str = "info", **fields: object) -> None:
    """Log an event now."""
    current = _Process.log()
    current.write(event, level, fields)
    current.flush()


def flush() -> None:
    """Write what this process's log still holds, as far as that is possible without waiting."""
    _Process.log().flush()


def _level_of(status: int, reason: str) -> str:
    if status >= 500 and reason:
        return "error"
    return "warning" if status >= 400 else "info"


def _halve_longest(record: dict[str, object]) -> None:
    """Shorten the longest value of a record, as text, to half of its length."""
    key, text = max(((key, str(value)) for key, value in record.items()), key=lambda pair: len(pair[1]))
    record[key] = text[: len(text) // 2 - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _as_text(record: dict[str, object]) -> str:
    told = {key: value for key, value in record.items() if key not in ("ts", "level", "service", "event")}
    if not told["latency_ms"]:
        del told["latency_ms"]
    words = [str(record["ts"]), f"{str(record['level']).upper():7}", f"{record['event']:12}"]
    return " ".join(words + [f"{key}={_bare(value)}" for key, value in told.items()])


def _bare(value: object) -> str:
    """Return a value without quotes where that is unmistakable, else as JSON: controls escaped."""
    if isinstance(value, str) and value.isascii() and value.isprintable() and not set(value) & set(' "='):
        return value or '""'
    return _encode(value)
