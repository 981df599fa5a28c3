"""What the guard costs a request: ``python -m bench.guard_cost``, instructions counted by callgrind.

The same bare application answers the same requests on one keep-alive connection: under bjoern
alone, under the guard, and with the guard repeating its first answer. What is printed is the
difference between two runs of different length, so that start and end of the process count for
nothing. Instructions of the kernel are not counted: the guard saves two calls of epoll_ctl and one
of epoll_wait a request, which are most of what it costs.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FEW, MANY = 200, 2200
INSTRUCTIONS_A_NS = 3.0  # what a core of these years retires, about
WITHIN_S = 120
FIELDS = b" HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n"
REQUEST = b"GET /edge/assets/a" + FIELDS
LAST_REQUEST = b"GET /end" + FIELDS
SERVER = """
import os, socket, sys
import bjoern, _bjoern
listener = socket.socket(fileno=int(sys.argv[1]))
listener.setblocking(False)
mode = sys.argv[2]
def app(environ, start_response):
    if environ["PATH_INFO"] == "/end":
        os._exit(0)
    if mode == "repeated":
        guard.remember(0, "", None, 0)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return b"hello"
if mode != "bare":
    from edge_server import guard
    if mode == "repeated":
        guard.repeat(1, (1.0,), 0)
    guard.serve(listener, app, guard.Limits(
        header_timeout_s=60, body_timeout_s=60, idle_timeout_s=60, parked_timeout_s=60, min_send_rate=0,
        max_connections=100, max_head_bytes=16384, max_target_bytes=8192, max_fields=100, max_body_bytes=1024,
        warm_bytes=0,
    ), lambda: None)
else:
    _bjoern.server_run(listener, app)
"""


def instructions(mode: str, requests: int) -> int:
    """Return how many instructions a process spends that answers so many requests."""
    with socket.socket() as listener, tempfile.TemporaryDirectory() as folder:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", sys.executable]
        command += ["-c", SERVER, str(listener.fileno()), mode]
        server = subprocess.Popen(
            command,
            pass_fds=[listener.fileno()],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
            stderr=subprocess.PIPE,
            text=True,
        )
        _ask(listener.getsockname(), requests)
        _, told = server.communicate(timeout=WITHIN_S)
    (collected,) = re.findall(r"Collected : (\d+)", told)
    return int(collected)


def _ask(place: tuple[str, int], requests: int) -> None:
    with socket.create_connection(place, timeout=WITHIN_S) as client:
        for _ in range(requests):
            client.sendall(REQUEST)
            answer = b""
            while not answer.endswith(b"hello"):
                answer += client.recv(4096)
        client.sendall(LAST_REQUEST)
        client.recv(4096)


def main() -> None:
    cost = {}
    for mode in ("bare", "guarded", "repeated"):
        cost[mode] = (instructions(mode, MANY) - instructions(mode, FEW)) / (MANY - FEW)
        print(f"{mode:8} {cost[mode]:7.0f} instructions a request")
    for mode in ("guarded", "repeated"):
        more = cost[mode] - cost["bare"]
        print(f"{mode:8} {more:+7.0f}, about {more / INSTRUCTIONS_A_NS / 1000:+.2f} µs")


if __name__ == "__main__":
    main()
