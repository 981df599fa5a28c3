"""The guard: bjoern, made safe to expose and asynchronous.

Process      a worker or the sidecar; `serve` is called once, after the fork, in the main thread.
Owns         every client connection of the process: what bjoern reads, what becomes of what it
             writes, limits of size and time, and when a connection ends.
Threads      none: everything here is called by bjoern's loop, or from what that calls.

bjoern runs unmodified; its calls for accept, read, write and close, and to libev, are led to the
extension (hooks.c). Where that is not possible importing fails, and nothing is served unguarded.
"""

from __future__ import annotations

import secrets
import signal
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

try:
    import _bjoern
    import bjoern

    from edge_server.guard import _guard
except ImportError as error:
    raise ImportError(f"{error}; `svc-edge doctor` says what is missing") from error

_guard.install(_bjoern.server_run)

File = _guard.File
close_after_answers = _guard.close_after_answers
close_idle = _guard.close_idle
connections = _guard.connections
cold = _guard.cold
counters = _guard.counters
arrived = _guard.arrived
forget = _guard.forget
give_up = _guard.give_up
go_on = _guard.go_on
least_wait = _guard.least_wait
load = _guard.load
may_wait = _guard.may_wait
on_cold = _guard.on_cold
park = _guard.park
peer = _guard.peer
press_at = _guard.press_at
pressure = _guard.pressure
refusals = _guard.refusals
remember = _guard.remember
repeat = _guard.repeat
repeated = _guard.repeated
replay_of = _guard.replay_of
resume = _guard.resume
send_fields = _guard.send_fields
send_memory = _guard.send_memory
stop_accepting = _guard.stop_accepting
watch = _guard.watch

# Bits of `pressure`.
CROWDED, LATE, REPLAY = 1, 2, 4

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], bytes | Iterable[bytes]]

_TCP_NOTSENT_LOWAT = 25  # linux/tcp.h
# Unsent bytes that the kernel holds for one client: enough to keep a fast one busy between
# two turns of the loop, and all that a slow one can make it hold.
_NOTSENT_BYTES = 256 << 10


def header_lines(fields: Iterable[tuple[str, str]]) -> bytes:
    """Return header fields as `send_fields` takes them.

    Raises:
        ValueError: one has CR, LF or NUL in it, or is no latin-1 text.
    """
    given = list(fields)
    text = "".join([f"\r\n{name}: {value}" for name, value in given])
    if text.count("\r") != len(given) or text.count("\n") != len(given) or "\0" in text or "\r\n: " in text:
        raise ValueError("not header fields: CR, LF or NUL in one of them, or one without a name")
    return text.encode("latin-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a client may ask for, and how long it may take; durations in seconds, sizes in bytes."""

    header_timeout_s: float  # first byte to blank line, and connecting to first byte
    body_timeout_s: float  # blank line to last byte of a request body
    idle_timeout_s: float  # between requests
    parked_timeout_s: float  # after which a parked request is replayed unasked
    min_send_rate: int  # bytes a second that a client must read
    max_connections: int
    max_head_bytes: int
    max_target_bytes: int
    max_fields: int
    max_body_bytes: int
    warm_bytes: int  # of files, kept in memory to be sent without copying; 0 for none


def serve(
    listener: socket.socket, app: WsgiApp, limits: Limits, tick: Callable[[], None], corr_prefix: str = ""
) -> None:
    """Serve `app` on a listening socket until the process exits.

    Args:
        listener: bound, listening and non-blocking.
        app: called by bjoern for each complete request.
        limits: what clients may do.
        tick: called about ten times a second from the loop; what it raises is printed.
        corr_prefix: begins the correlation ids of the guard's own answers; a random one if empty.
    """
    listener.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _NOTSENT_BYTES)  # clients inherit it
    _guard.configure(
        header_timeout_s=limits.header_timeout_s,
        body_timeout_s=limits.body_timeout_s,
        idle_timeout_s=limits.idle_timeout_s,
        parked_timeout_s=limits.parked_timeout_s,
        min_send_rate=limits.min_send_rate,
        max_connections=limits.max_connections,
        max_head_bytes=limits.max_head_bytes,
        max_target_bytes=limits.max_target_bytes,
        max_fields=limits.max_fields,
        max_body_bytes=limits.max_body_bytes,
        warm_bytes=limits.warm_bytes,
        corr_prefix=corr_prefix or secrets.token_hex(8),
    )
    _guard.tick(tick)
    # NOTE: bjoern handles SIGINT itself, and stops; Ctrl-C is the supervisor's to answer.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    bjoern.server_run(listener, _guard.checked(app))
