"""What admission costs a request: not limited, limited and admitted, limited and refused.

Measured inside of a request, in a process that serves one under the guard, with two workers'
rows in the ledger, as the hit path asks.

.venv/bin/python tests/perf/bench_admission.py
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from time import monotonic
from typing import Any

from edge_server import guard
from edge_server.config.schema import Ingress
from edge_server.guard import pressure
from edge_server.guard.limits import limits_of
from edge_server.http.dates import DateClock
from edge_server.observe import logs
from edge_server.observe.logs import AccessLog
from edge_server.observe.tally import Tally
from edge_server.shm.admission import Ledger
from edge_server.shm.scoreboard import Scoreboard
from edge_server.shm.segment import segment_name
from edge_server.worker.admission import EXEMPT, RATE_LIMIT, Admission
from edge_server.worker.refusals import LINES_A_TICK, Refusals
from tests.perf._timing import Loop, compare

WORKERS = 2
PATH = "/edge/assets/a.bin"


def nothing(count: int) -> None:
    for _ in range(count):
        pass


def asking(admission: Admission) -> Loop:
    """Return a loop of what the hit path does before it looks for anything."""
    judge, limits_rate = admission.judge, admission.limits_rate

    def loop(count: int) -> None:
        for _ in range(count):
            if ((pressed := pressure()) or limits_rate) and PATH not in EXEMPT:
                judge(pressed)

    return loop


def refusing(environ: dict[str, Any]) -> Loop:
    """Return a loop of whole refusals, in which no line of the log is due any more."""
    made = Refusals(tally=Tally(), access_log=AccessLog(0), clock=DateClock(), cors=None)

    def ignore(status: str, fields: list[tuple[str, str]]) -> None:
        pass

    for _ in range(LINES_A_TICK):
        made.refuse(environ, ignore, monotonic(), "id", RATE_LIMIT)

    def loop(count: int) -> None:
        for _ in range(count):
            made.refuse(environ, ignore, monotonic(), "id", RATE_LIMIT)

    return loop


def bind(board: Scoreboard, ledger: Ledger, row: int = 0, **settings: int) -> Admission:
    return Admission(Ingress(**settings), board, board.row(row), ledger, row)


def measure(environ: dict[str, Any]) -> None:
    board = Scoreboard.create(WORKERS, segment_name("bench-scores"))
    ledgers = [Ledger.create(WORKERS, segment_name(f"bench-{name}")) for name in ("all", "none")]
    try:
        unlimited = bind(board, ledgers[0])
        unlimited.refresh()
        variants = {
            "loop alone": nothing,
            "not limited": asking(unlimited),
            "limited, admitted": asking(bind(board, ledgers[0], rps_limit=10**9, rps_burst=10**9)),
            "limited, refused": asking(bind(board, ledgers[1], rps_limit=1, rps_burst=1)),
            "a whole refusal": refusing(environ),
        }
        compare("admission of a request", variants)
    finally:
        for segment in (board.segment, *(ledger.segment for ledger in ledgers)):
            segment.unlink()


def serve_once(listener: socket.socket) -> None:
    """Serve one request, in which everything is measured, and end with it."""
    logs.configure("json", "error")

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> bytes:
        try:
            measure(environ)
        finally:
            sys.stdout.flush()
            os._exit(0)

    guard.serve(listener, app, limits_of(Ingress()), lambda: None)


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        pid = os.fork()
        if pid == 0:
            serve_once(listener)
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(f"GET {PATH} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
            client.recv(1)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
