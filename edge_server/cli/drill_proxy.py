"""`svc-edge drill proxy`: the network fault alone, before whatever listens; and kinds of options.

Runs `drill/proxy.py` until SIGINT or SIGTERM, then prints what it did.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import click

from edge_server.config.addresses import Address, parse_address
from edge_server.config.units import parse_duration, parse_size

if TYPE_CHECKING:
    from edge_server.drill.proxy import Trouble

_EPILOG = """\b
Examples:
  svc-edge drill proxy --to 127.0.0.1:8080 --delay 50ms --jitter --error-rate 0.01
  svc-edge drill proxy --listen 127.0.0.1:9000 --to origin.example.org:80 --delay 200ms --jitter 80ms
"""


def duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    return None if value is None else read(parse_duration, value)


def size(ctx: click.Context, param: click.Parameter, value: str) -> int:
    return int(read(parse_size, value))


def address(ctx: click.Context, param: click.Parameter, value: str | None) -> Address | None:
    return None if value is None else read(parse_address, value)


def read(parse: Any, value: str) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}") from error


@click.command("proxy", epilog=_EPILOG)
@click.option(
    "--listen",
    callback=address,
    default="127.0.0.1:0",
    show_default=True,
    metavar="HOST:PORT",
    help="Where it takes connections; loopback only.",
)
@click.option("--to", callback=address, required=True, metavar="HOST:PORT", help="Where it passes to.")
@click.option("--delay", callback=duration, default="0", help="Added once to each round trip.")
@click.option(
    "--jitter",
    is_flag=False,
    flag_value="half",
    metavar="[DURATION]",
    help="Around it; half unless told.",
)
@click.option("--error-rate", type=click.FloatRange(0, 1), default=0.0, help="Share of requests to reset.")
def proxy(listen: Address, to: Address, delay: float, jitter: str | None, error_rate: float) -> int:
    """Pass connections on, and make the network worse: delay, jitter, resets. Needs no privilege."""
    from edge_server.drill.proxy import Trouble

    if not listen.is_loopback:
        raise click.UsageError(f"{listen} is not a loopback address: the proxy serves this machine only")
    jitter_s = delay / 2 if jitter == "half" else read(parse_duration, jitter or "0")
    try:
        trouble = Trouble(delay, jitter_s, error_rate)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return asyncio.run(_run_proxy(listen, to, trouble))


async def _run_proxy(listen: Address, to: Address, trouble: Trouble) -> int:
    from edge_server.drill.proxy import Proxy
    from edge_server.errors import ResourceError

    running, is_told = Proxy(to, trouble), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, is_told.set)
    try:
        await running.start(listen)
    except OSError as error:
        raise ResourceError(f"{listen} is not to be had: {error.strerror}") from error
    click.echo(f"{running.address} -> {to}")
    await is_told.wait()
    await running.close()
    click.echo(f"{running.accepted} connections, {running.resets} reset")
    return 0
