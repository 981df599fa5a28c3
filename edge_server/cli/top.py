"""`svc-edge top`: a running instance, live in a terminal: rates, percentiles, workers, the last minute.

Asks the admin plane once a period for ``/api/status`` and ``/metrics``; changes nothing. An instance that
does not answer is asked again until it does. Without a terminal one picture is printed.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from edge_server.cli.admin_address import admin_option, read_metrics, read_status
from edge_server.errors import ResourceError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from edge_server.cli.top_figures import Figures, History
    from edge_server.config.addresses import Address

_WIDTH_WITHOUT_TERMINAL = 100
_QUIT = ("q", "Q", "\x1b", "\x04", "")  # escape, end of file

_EPILOG = """\b
Examples:
  svc-edge top
  svc-edge top --admin http://127.0.0.1:9910 --every 5
  svc-edge top --once
  svc-edge top --json | jq '.latency_ms, .rejects'

\b
q or Ctrl-C ends it. Exit codes of --once and --json: 0 ready, 1 not ready, 69 no instance answers.
CPU is shown where the processes are on this machine. Percentiles and hit ratio are of the last 10 s.
"""


@click.command("top", epilog=_EPILOG)
@admin_option
@click.option(
    "--every",
    "period_s",
    type=click.FloatRange(0.1, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@click.option("--once", "is_once", is_flag=True, help="Print one picture, of one period, and exit.")
@click.option("--json", "is_json", is_flag=True, help="Print the figures of one period as JSON, and exit.")
def command(admin: Address, period_s: float, is_once: bool, is_json: bool) -> int:
    """Show what a running instance does, second by second."""
    if is_once or is_json or not sys.stdout.isatty():
        return _print_once(admin, period_s, is_json)
    _watch(admin, period_s)
    return 0


def _print_once(admin: Address, period_s: float, is_json: bool) -> int:
    from edge_server.cli.top_figures import History

    history = History()
    _look(admin, history)
    time.sleep(period_s)
    status, figures = _look(admin, history)
    if is_json:
        click.echo(json.dumps(figures.as_json(), indent=2))
    else:
        console = _console()
        console.print(_picture(console, status, figures, has_end=False))
    return 0 if figures.ready else 1


def _watch(admin: Address, period_s: float) -> None:
    """Show it until a key or Ctrl-C ends it."""
    from rich.live import Live
    from rich.text import Text

    from edge_server.cli.top_figures import History

    history, console = History(), _console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the terminal is put back then, too
    try:
        with _keys() as key, Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                begun_s = time.monotonic()
                try:
                    picture = _picture(console, *_look(admin, history), has_end=True)
                except ResourceError as error:
                    history = History()  # what answers next may be another instance
                    picture = Text(f"{error}\n\ntrying again; q ends this", style="red")
                live.update(picture, refresh=True)
                if key(max(0.05, begun_s + period_s - time.monotonic())) in _QUIT:
                    return
    except KeyboardInterrupt:
        return


def _look(admin: Address, history: History) -> tuple[dict[str, Any], Figures]:
    """Ask the instance, and return its status and the figures so far; ResourceError if it is gone."""
    from edge_server.cli.top_figures import Look, cpu_seconds

    status, samples = read_status(admin), read_metrics(admin)
    pids = [row["pid"] for row in status.get("workers", ())] if admin.is_loopback else []
    return status, history.add(Look(time.monotonic(), status, samples, cpu_seconds(pids)))


def _picture(console: Console, status: dict[str, Any], figures: Figures, *, has_end: bool) -> RenderableType:
    from edge_server.cli.top_screen import render

    has_blocks = console.encoding.lower().replace("-", "") in ("utf8", "utf16")
    height = console.height if has_end else None
    return render(status, figures, console.width, height, has_blocks=has_blocks)


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL, highlight=False)


@contextmanager
def _keys() -> Iterator[Any]:
    """Yield a function that waits for a key: it gets seconds and returns one, None after that time.

    The terminal gives single keys meanwhile, and is put back. Without one to read from it only waits.
    """
    if not sys.stdin.isatty():
        yield time.sleep
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield _key
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _key(within_s: float) -> str | None:
    """Return what is typed within that time, all of it at once, as an arrow key is several characters."""
    readable, _, _ = select.select([sys.stdin], [], [], within_s)
    return os.read(sys.stdin.fileno(), 16).decode("latin-1") if readable else None
