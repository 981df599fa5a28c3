"""The demo's server: ``svc-edge serve`` on what was built, as an operator would start it.

Process      the one that runs the demo starts it as a child in a process group of its own; the
             child gets exactly one SIGTERM, however its parent ends.
Lifetime     that of the context manager `running`, which drains it and kills it if it does not.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from edge_server.demo.proof import Plane
from edge_server.errors import EdgeError

_HOST = "127.0.0.1"
_READY_WITHIN_S = 20
_DRAINED_WITHIN_S = 20
_LOG_LINES_SHOWN = 15
_PR_SET_PDEATHSIG = 1

Server = subprocess.Popen[bytes]


class DemoError(EdgeError):
    """The demo cannot go on: the server did not start, or did not end."""


@contextlib.contextmanager
def running(folder: str, what: Sequence[str]) -> Iterator[tuple[Server, tuple[str, str]]]:
    """Run the server; yield it and its two addresses once it is ready.

    Args:
        folder: for its log.
        what: packs and flags of what it serves.

    Raises:
        DemoError: it is not ready in time, or its last lines say why it ended.
    """
    addresses = (_free_address(8080), _free_address(9909))
    server = _start(folder, what, addresses)
    try:
        _wait_until_ready(server, addresses[1], folder)
        yield server, addresses
    finally:
        _stop(server)


def packs_in(folder: str) -> list[str]:
    """Return what `build` has made there."""
    return [os.path.join(folder, name) for name in ("world.pmtiles", "assets")]


def _start(folder: str, what: Sequence[str], addresses: tuple[str, str]) -> Server:
    arguments = ["serve", *what, "--bind", addresses[0], "--metrics", addresses[1]]
    with open(os.path.join(folder, "server.log"), "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "edge_server", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C reaches this process only
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - no other thread runs here
        )


def _stop(server: Server) -> None:
    try:
        if server.poll() is None:
            server.terminate()
        server.wait(_DRAINED_WITHIN_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait_until_ready(server: Server, address: str, folder: str) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    with contextlib.closing(Plane(address)) as admin:
        while time.monotonic() < deadline and server.poll() is None:
            try:
                if admin.get("/readyz").status == 200:
                    return
            except OSError:
                admin.close()
            time.sleep(0.02)
    how = "was not ready in time" if server.poll() is None else f"ended with {server.returncode}"
    with open(os.path.join(folder, "server.log"), errors="replace") as log:
        last = "".join(log.readlines()[-_LOG_LINES_SHOWN:])
    raise DemoError(f"the server {how}; its last lines:\n{last}")


def _free_address(preferred: int) -> str:
    """Return ``host:port`` with the preferred port, or another one where that is taken."""
    for port in (preferred, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((_HOST, port))
            return f"{_HOST}:{probe.getsockname()[1]}"
    raise DemoError(f"no free port on {_HOST}")
