"""`svc-edge demo`: build a small world, serve it, prove it, and keep serving.

Builds in the folder it is given, with ``--live`` an origin instead of packs; starts the server
(``demo/server.py``), prints what ``demo/proof.py`` or ``demo/live_proof.py`` found and where to
look. The server ends when this command does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from edge_server.demo import assets, origin, world
from edge_server.demo.archive import ArchiveWriter
from edge_server.demo.live_proof import prove_live
from edge_server.demo.origin import NoAuthority
from edge_server.demo.proof import Checked, Plane, prove
from edge_server.demo.server import DemoError, packs_in, running

Proof = Callable[[Plane, Plane], Iterator[Checked]]


_EPILOG = """\b
Examples:
  svc-edge demo
  svc-edge demo --once
  svc-edge demo --live --folder /tmp/demo
"""


@click.command("demo", epilog=_EPILOG)
@click.option("--once", is_flag=True, help="Stop after the proof; exit 0 only if all of it holds.")
@click.option("--live", is_flag=True, help="Show how misses are filled, from an HTTPS origin on loopback.")
@click.option("--folder", default="demo", show_default=True, help="Where to build.")
def command(once: bool, live: bool, folder: str) -> int:
    """Build a small world, serve it, and prove that it is served right."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        is_proven = _run_live(console, folder, once) if live else _run(console, folder, once)
    except KeyboardInterrupt:
        console.print("stopped before the proof was complete")
        is_proven = False
    except (DemoError, NoAuthority) as error:
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
    return _serve(console, folder, once, packs_in(folder), lambda plane, admin: prove(plane, admin, folder))


def _run_live(console: Console, folder: str, once: bool) -> bool:
    with origin.prepared(folder) as made:
        flags = {
            "edge.mode": "live",
            "edge.allow": f"{origin.HOST}:{made.port}",
            "fill.ca_bundle": made.bundle,
            "fill.allow_private": "127.0.0.0/8,::1/128",
        }
        what = [word for key, value in flags.items() for word in ("--set", f"{key}={value}")]

        def prove_started(assets_plane: Plane, admin: Plane) -> Iterator[Checked]:
            made.start()  # not before: the server is forked while no other thread runs
            return prove_live(assets_plane, admin, made)

        return _serve(console, folder, once, what, prove_started)


def _serve(console: Console, folder: str, once: bool, what: Sequence[str], proof: Proof) -> bool:
    started = time.monotonic()
    with running(folder, what) as (server, addresses):
        planes = Plane(addresses[0]), Plane(addresses[1])
        console.print(f"ready {(time.monotonic() - started) * 1000:.0f} ms after the start")
        checked = list(proof(*planes))
        _print_proof(console, checked)
        with contextlib.suppress(KeyboardInterrupt):
            if not once:
                _print_urls(console, *planes)
            for plane in planes:
                plane.close()
            if not once:
                server.wait()
    if server.returncode != 0:
        raise DemoError(f"the server ended with {server.returncode} instead of 0; see {folder}/server.log")
    console.print("the server drained and ended with 0")
    return all(line.is_proven for line in checked)


def _print_proof(console: Console, checked: list[Checked]) -> None:
    table = Table("proof", "", "ms", "seen")
    table.columns[2].justify = "right"
    for line in checked:
        mark = Text("ok", style="green") if line.is_proven else Text("FAILED", style="red")
        table.add_row(line.what, mark, f"{line.elapsed_ms:.1f}", Text(line.seen))
    console.print(table)


def _print_urls(console: Console, assets_plane: Plane, admin: Plane) -> None:
    table = Table.grid(padding=(0, 2))
    if json.loads(admin.get("/api/packs").body):
        assets_url = f"{assets_plane.url}/edge/assets"
        table.add_row("a map to look at", f"{assets_url}/index.html")
        table.add_row("TileJSON for a map client", f"{assets_url}/world.json")
        table.add_row("the archive, in ranges", f"{assets_url}/world.pmtiles")
        table.add_row("the pack on a map", f"{admin.url}/preview/world")
    table.add_row("what it does, live", f"{admin.url}/")
    table.add_row("the same for programs", f"{admin.url}/api/status   {admin.url}/metrics")
    console.print(table)
    console.print("serving until Ctrl-C")
