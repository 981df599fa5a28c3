"""Log lines: one JSON object each on standard output or in a file, or text for people.

Process      any; each calls `configure` once, after its fork.
Memory       the lines that the sink holds back; see log_sink.py.
Consistency  a line is at most 4096 bytes and never mixes with another process's.
Lifetime     its process's. The supervisor counts SIGUSR1 in a word that all inherit (log_file.py); each
             process opens its file again before it next writes.

events.py declares the events.

A line has ``ts`` (RFC 3339, UTC, milliseconds), ``level``, ``service``, ``event``, ``pid`` and
``latency_ms`` (0 where it means nothing), then what the event knows. Never logged: header
values other than the correlation id, query strings, file contents.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from functools import lru_cache

from edge_server.config import checks
from edge_server.config.schema import Config
from edge_server.observe import log_file
from edge_server.observe.log_file import STDOUT, LogFile
from edge_server.observe.log_sink import WHOLE_BYTES, LogSink

SERVICE = "svc-edge"
LEVELS = ("debug", "info", "warning", "error")

_COLOURS = {"debug": 2, "info": 32, "warning": 33, "error": 31}
_RANK = {level: rank for rank, level in enumerate(LEVELS)}
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


class Log:
    """Makes lines of events and hands them to a sink.

    Args:
        log_format: ``json`` or ``text``.
        level: least level that is logged, of LEVELS.
        bound: fields that every line has, e.g. ``slot``.
        descriptor: where lines go.
        file: whose descriptor it is, if it is to be opened again after SIGUSR1.
    """

    def __init__(
        self,
        log_format: str,
        level: str,
        bound: Mapping[str, object],
        descriptor: int = 1,
        file: LogFile | None = None,
    ) -> None:
        self._render: Callable[[dict[str, object]], str] = _encode
        if log_format == "text":
            self._render = _as_coloured if _wants_colour(descriptor) else _as_text
        self.file = file
        self._least = _RANK[level]
        self.pid = os.getpid()
        self._bound = {"pid": self.pid, **bound}
        self._sink = LogSink(descriptor, self._tell_dropped)

    def is_on(self, level: str) -> bool:
        """Whether events of this level are logged."""
        return _RANK[level] >= self._least

    def write(self, event: str, level: str, fields: Mapping[str, object]) -> None:
        """Log an event with the next flush."""
        if _RANK[level] >= self._least:
            self._sink.append(self._line(event, level, fields))

    def flush(self) -> None:
        """Write what is waiting, as far as that is possible without waiting."""
        if self.file is not None and self.file.is_due:
            self._reopen(self.file)
        self._sink.flush()

    def close(self) -> None:
        """Let go of what was opened for it."""
        self._sink.close()
        if self.file is not None:
            self.file.close()

    def _reopen(self, file: LogFile) -> None:
        trouble = file.reopen()
        if trouble:
            self.write(
                "logs_reopened", "error", {"reason": f"{trouble}; the file that is open is written on"}
            )

    def _line(self, event: str, level: str, fields: Mapping[str, object]) -> bytes:
        record: dict[str, object] = {
            "ts": timestamp(),
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


OnReject = Callable[[Mapping[str, object]], None]


class AccessLog:
    """Requests: every refused or failed one, and a share of the others.

    Args:
        sample: the share, 0 to 1; 0.01 logs each hundredth.
        on_reject: is given the fields of each reject too.

    Attributes:
        share: of the answers that the guard repeats, the part that it should tell one by one.
    """

    def __init__(
        self, sample: float, on_reject: Callable[[Mapping[str, object]], None] | None = None
    ) -> None:
        self._log = _Process.log()
        self._sample = sample if self._log.is_on("info") else 0.0
        self._credit = 0.0
        self._on_reject = on_reject
        self.share = sample

    def wants(self, status: int) -> bool:
        """Whether the request that ends with this status is logged; asked once a request."""
        if status >= 400:
            return True
        self._credit += self._sample
        if self._credit < 1:
            return False
        self._credit -= 1
        return True

    def wants_repeated(self) -> bool:
        """Whether one of the share of repeated answers is to be told."""
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
        self.tell(status, reason, fields)

    def tell(self, status: int, reason: str, fields: Mapping[str, object]) -> None:
        """Log what `request` was told."""
        self._log.write("reject" if reason else "request", _level_of(status, reason), fields)
        if reason and self._on_reject is not None:
            self._on_reject(fields)

    def more(self, status: int, reason: str, count: int) -> None:
        """Log together so many rejects that were too many to have a line each."""
        detail = f"{count} more, too many to tell each"
        self._log.write("reject", "warning", {"status": status, "reason": reason, "detail": detail})
        if self._on_reject is not None:
            self._on_reject({"status": status, "reason": reason, "count": count})

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
        """Go on with another log, and close the one before, an inherited one too."""
        before, cls._log = cls._log, log
        if before is not None:
            if before.pid == os.getpid():
                before.flush()
            before.close()


def configure(
    log_format: str, level: str, *, file: str = STDOUT, descriptor: int = 1, **bound: object
) -> None:
    """Begin this process's log; what an earlier one of the parent still holds stays the parent's.

    Args:
        log_format: ``json`` or ``text``.
        level: least level that is logged.
        file: a path, or ``stdout``. Where it cannot be opened lines go to `descriptor`, and one says why.
        descriptor: where lines go otherwise.
        bound: fields that every line of this process has, e.g. ``slot`` and ``mode``.
    """
    _begin(log_format, level, file, descriptor, bound)


def _begin(log_format: str, level: str, file: str, descriptor: int, bound: Mapping[str, object]) -> None:
    opened, trouble = (None, "") if file == STDOUT else log_file.open_log(file)
    where = descriptor if opened is None else opened.descriptor
    _Process.replace(Log(log_format, level, bound, where, opened))
    if trouble:
        log("logs_reopened", "error", reason=f"{trouble}; lines go to standard output")


def begin(config: Config, slot: int | None = None) -> None:
    """Begin this process's log as a configuration wants it; see `configure`."""
    wanted, file = config.log, checks.log_file(config)
    bound: dict[str, object] = {"mode": config.edge.mode}
    if slot is not None:
        bound["slot"] = slot
    _begin(wanted.format, wanted.level, file, 1, bound)


def reopen() -> None:
    """Have every process of the instance open its log file again: for the supervisor, on SIGUSR1."""
    log_file.turn()
    current = _Process.log()
    told = "standard output is not a file: there is nothing to open again"
    log("logs_reopened", reason="SIGUSR1" if current.file is not None else f"SIGUSR1: {told}")


def is_on(level: str) -> bool:
    """Return whether events of this level are logged, where making one costs something."""
    return _Process.log().is_on(level)


def log(event: str, level: str = "info", **fields: object) -> None:
    """Log an event now."""
    current = _Process.log()
    if current.is_on(level):
        current.write(event, level, fields)
        current.flush()


def timestamp() -> str:
    """Return the time as lines have it: RFC 3339, UTC, milliseconds."""
    second, ns = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second_of(second)}.{ns // 1_000_000:03}Z"


@lru_cache(maxsize=4)
def _second_of(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


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


def _as_coloured(record: dict[str, object]) -> str:
    """Return text whose level stands out on a terminal: ECMA-48, section 8.3.117 (SGR)."""
    level = str(record["level"])
    plain = _as_text(record)
    return plain.replace(f" {level.upper()}", f" \x1b[{_COLOURS[level]}m{level.upper()}\x1b[0m", 1)


def _wants_colour(descriptor: int) -> bool:
    """Whether a person looks, who has not said no: no-color.org."""
    return os.isatty(descriptor) and not os.environ.get("NO_COLOR")


def _bare(value: object) -> str:
    """Return a value without quotes where that is unmistakable, else as JSON: controls escaped."""
    if isinstance(value, str) and value.isascii() and value.isprintable() and not set(value) & set(' "='):
        return value or '""'
    return _encode(value)
