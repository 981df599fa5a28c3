"""`svc-edge demo`: build a small world, serve it, prove it, and keep serving.

Builds in the folder it is given, starts the server as an operator would, waits until it
is ready, prints what ``demo/proof.py`` found and where to look. The server lives in a
process group of its own and gets exactly one SIGTERM, however this command ends.
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
from collections.abc import Iterator

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from edge_server.demo import assets, world
from edge_server.demo.archive import ArchiveWriter
from edge_server.demo.proof import Checked, Plane, prove
from edge_server.errors import EdgeError

_HOST = "127.0.0.1"
_READY_WITHIN_S = 20
_DRAINED_WITHIN_S = 20
_LOG_LINES_SHOWN = 15
_PR_SET_PDEATHSIG = 1


class DemoError(EdgeError):
    """The demo cannot go on: the server did not start, or did not end."""


@click.command("demo")
@click.option("--once", is_flag=True, help="Stop after the proof; exit 0 only if all of it holds.")
@click.option("--folder", default="demo", show_default=True, help="Where to build.")
def command(once: bool, folder: str) -> int:
    """Build a small world, serve it, and prove that it is served right."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        is_proven = _run(console, folder, once)
    except KeyboardInterrupt:
        console.print("stopped before the proof was complete")
        is_proven = False
    except DemoError as error:
        console.print(Text(str(error), style="red"))
        is_proven = False
    return 0 if is_proven else 1


def build(folder: str, console: Console) -> None:
    """Build ``world.pmtiles`` and ``assets/`` in `folder`; every run writes the same bytes."""
    os.makedirs(folder, exist_ok=True)
    columns = (TextColumn("{task.description:<7}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("tiles", total=world.count_tiles())
        archive = ArchiveWriter(
            {
                "name": "World",
                "attribution": "Natural Earth",
                "vector_layers": [{"id": layer, "fields": {}} for layer in world.LAYERS],
            }
        )
        for tile in world.tiles():
            if tile is not None:
                archive.add(*tile)
            progress.advance(task)
        archive.write(os.path.join(folder, "world.pmtiles"))
        task = progress.add_task("assets", total=assets.count_assets())
        for _ in assets.write_assets(os.path.join(folder, "assets")):
            progress.advance(task)


def _run(console: Console, folder: str, once: bool) -> bool:
    build(folder, console)
    addresses = (_free_address(8080), _free_address(9909))
    started = time.monotonic()
    with _server(folder, addresses) as server:
        planes = Plane(addresses[0]), Plane(addresses[1])
        _wait_until_ready(server, planes[1], folder)
        console.print(f"ready {(time.monotonic() - started) * 1000:.0f} ms after the start")
        checked = list(prove(*planes, folder))
        _print_proof(console, checked)
        for plane in planes:
            plane.close()
        with contextlib.suppress(KeyboardInterrupt):
            if not once:
                _print_urls(console, planes)
                server.wait()
    if server.returncode != 0:
        raise DemoError(f"the server ended with {server.returncode} instead of 0; see {folder}/server.log")
    console.print("the server drained and ended with 0")
    return all(line.is_proven for line in checked)


@contextlib.contextmanager
def _server(folder: str, addresses: tuple[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``svc-edge serve`` on the demo; drain it on the way out, kill it if it does not."""
    packs = [os.path.join(folder, name) for name in ("world.pmtiles", "assets")]
    arguments = ["serve", *packs, "--bind", addresses[0], "--metrics", addresses[1]]
    with open(os.path.join(folder, "server.log"), "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "edge_server", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C reaches this process only
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - no other thread runs here
        )
    try:
        yield server
    finally:
        _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    try:
        if server.poll() is None:
            server.terminate()
        server.wait(_DRAINED_WITHIN_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait_until_ready(server: subprocess.Popen[bytes], admin: Plane, folder: str) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
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


def _print_proof(console: Console, checked: list[Checked]) -> None:
    table = Table("proof", "", "ms", "seen")
    table.columns[2].justify = "right"
    for line in checked:
        mark = Text("ok", style="green") if line.is_proven else Text("FAILED", style="red")
        table.add_row(line.what, mark, f"{line.elapsed_ms:.1f}", Text(line.seen))
    console.print(table)


def _print_urls(console: Console, planes: tuple[Plane, Plane]) -> None:
    assets_url, admin_url = planes[0].url, planes[1].url
    table = Table.grid(padding=(0, 2))
    table.add_row("a map to look at", f"{assets_url}/edge/assets/index.html")
    table.add_row("TileJSON for a map client", f"{assets_url}/edge/assets/world.json")
    table.add_row("the archive, in ranges", f"{assets_url}/edge/assets/world.pmtiles")
    table.add_row("status and metrics", f"{admin_url}/api/status   {admin_url}/metrics")
    console.print(table)
    console.print("serving until Ctrl-C")
