"""`svc-edge drill`: break a running instance on purpose, under load, and judge what clients saw.

What it does is in ``drill/``; here are options and exit codes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from edge_server.cli.admin_address import admin_option, parse_admin
from edge_server.cli.drill_proxy import address, duration, proxy, size
from edge_server.config.addresses import Address
from edge_server.drill.plan import FAULTS

if TYPE_CHECKING:
    from edge_server.drill.result import Result, Settings
    from edge_server.drill.run import Listener

MAX_SECONDS, MAX_CONNECTIONS, MAX_RATE = 3600, 256, 5000

_EPILOG = """\b
Examples:
  svc-edge drill --path index.html --path map.js
  svc-edge drill --seconds 180 --admin http://127.0.0.1:9909 --report /var/tmp/drill
  svc-edge drill --fault kill-worker --fault latency --delay 80ms --error-rate 0.02
  svc-edge drill --demo --seconds 60
  svc-edge drill proxy --listen 127.0.0.1:0 --to 127.0.0.1:8080 --delay 50ms --jitter

\b
Exit codes: 0 passed, 1 failed, 2 usage, 69 no instance on this machine.
Signals are sent to workers and sidecar of that instance only. Packs must not change meanwhile.
"""


@click.group("drill", invoke_without_command=True, epilog=_EPILOG)
@admin_option
@click.option(
    "--seconds", type=click.FloatRange(1, MAX_SECONDS), default=60, show_default=True, help="How long."
)
@click.option(
    "--fault",
    "faults",
    type=click.Choice(FAULTS),
    multiple=True,
    help="Only this fault; repeatable. All unless told.",
)
@click.option("--path", "paths", multiple=True, help="A path below /edge/assets/ to ask for; repeatable.")
@click.option("--report", "folder", default="drill-report", show_default=True, help="Folder of the report.")
@click.option(
    "--connections", type=click.IntRange(2, MAX_CONNECTIONS), default=8, show_default=True, help="At once."
)
@click.option(
    "--rate", type=click.FloatRange(1, MAX_RATE), default=200, show_default=True, help="Requests a second."
)
@click.option("--assets", callback=address, metavar="HOST:PORT", help="Ask here instead of the asset plane.")
@click.option("--delay", callback=duration, default="50ms", show_default=True, help="Of the latency fault.")
@click.option("--jitter", callback=duration, default="10ms", show_default=True, help="Around the delay.")
@click.option("--error-rate", type=click.FloatRange(0, 1), default=0.01, show_default=True, help="Resets.")
@click.option("--memory", callback=size, default="64MiB", show_default=True, help="Size of the balloon.")
@click.option(
    "--ready-within",
    callback=duration,
    default="3s",
    show_default=True,
    help="From the end of a fault until readiness holds.",
)
@click.option(
    "--p95-margin", type=click.FloatRange(0), default=0.10, show_default=True, help="Above baseline."
)
@click.option(
    "--p95-floor", callback=duration, default="40ms", show_default=True, help="What p95 may be in any case."
)
@click.option("--demo", is_flag=True, help="Build and start the demo, drill it, end it.")
@click.option("--folder", "demo_folder", default="demo", show_default=True, help="Where --demo builds.")
@click.pass_context
def drill(
    ctx: click.Context, /, admin: Address, folder: str, demo: bool, demo_folder: str, **given: Any
) -> int:
    """Break a running instance on this machine under load, and judge by what clients see.

    Kills a worker and the sidecar, stops a worker, delays and resets connections, takes memory;
    every body is checked against its BLAKE3 tag. Writes report.md, report.json, latency.svg and
    the metrics from before and after.
    """
    if ctx.invoked_subcommand is not None:
        return 0
    settings = _settings(given)
    for place in (admin, settings.through):
        if place is not None and not place.is_loopback:
            raise click.UsageError(
                f"{place} is not a loopback address: a drill breaks nothing on other machines"
            )
    if not demo:
        return _drill(admin, settings, folder)
    with _demo(demo_folder) as (found, paths):
        return _drill(found, _with_paths(settings, paths), folder)


def _settings(given: dict[str, Any]) -> Settings:
    from edge_server.drill.judge import Limits
    from edge_server.drill.proxy import Trouble
    from edge_server.drill.result import Settings

    try:
        trouble = Trouble(given["delay"], given["jitter"], given["error_rate"])
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return Settings(
        seconds=given["seconds"],
        connections=given["connections"],
        rate=given["rate"],
        faults=given["faults"] or FAULTS,
        paths=given["paths"],
        through=given["assets"],
        trouble=trouble,
        balloon_bytes=given["memory"],
        limits=Limits(given["ready_within"], given["p95_margin"], given["p95_floor"]),
    )


def _drill(admin: Address, settings: Settings, folder: str) -> int:
    from rich.console import Console

    from edge_server.cli.drill_screen import print_verdict, progress_bar
    from edge_server.drill import report

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is broken is put back then, too
    with progress_bar(console, settings.seconds) as listener:
        try:
            result = asyncio.run(_run(admin, settings, listener))
        except KeyboardInterrupt as error:
            raise click.Abort from error
    report.write(result, folder)
    print_verdict(console, result)
    console.print(f"report: {os.path.join(folder, 'report.md')}", soft_wrap=True)
    return 0 if result.passed else 1


async def _run(admin: Address, settings: Settings, listener: Listener) -> Result:
    from edge_server.drill.instance import Instance
    from edge_server.drill.run import Drill

    return await Drill(await Instance.find(admin), settings, listener).run()


@contextmanager
def _demo(folder: str) -> Iterator[tuple[Address, tuple[str, ...]]]:
    """Run the demo meanwhile; yield its admin plane and paths of its assets."""
    from rich.console import Console

    from edge_server.cli.demo import build
    from edge_server.demo import server

    build(folder, Console(width=None if sys.stdout.isatty() else 120))
    names = sorted(os.listdir(os.path.join(folder, "assets")))
    plain = tuple(name for name in names if not name.endswith((".gz", ".br", ".zst")))
    with server.running(folder, server.packs_in(folder)) as (_, addresses):
        yield parse_admin(addresses[1]), plain


def _with_paths(settings: Settings, paths: tuple[str, ...]) -> Settings:
    from dataclasses import replace

    return replace(settings, paths=(*paths, *settings.paths))


drill.add_command(proxy)
