"""`svc-edge status`: how a running instance is, at one look, for people and for programs.

Reads ``/api/status`` of the admin plane and shows it; changes nothing. A field that an
instance of another version does not have is left out, not an error.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from edge_server.cli.admin_address import admin_option, read_status, require_alive
from edge_server.config.units import spoken_duration, spoken_size
from edge_server.errors import ResourceError

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.table import Table
    from rich.text import Text

    from edge_server.config.addresses import Address

Status = Mapping[str, Any]

WIDTH_WITHOUT_TERMINAL = 120

_EPILOG = """\b
Examples:
  svc-edge status
  svc-edge status --watch 1
  svc-edge status --admin http://127.0.0.1:9910 --json | jq '.workers[].requests'
  svc-edge status >/dev/null || echo "not ready"
  svc-edge status --alive || echo "dead"

Exit codes: 0 ready, 1 not ready, 2 usage, 69 no instance answers.
"""


@click.command("status", epilog=_EPILOG)
@admin_option
@click.option("--json", "is_json", is_flag=True, help="Print the document as the admin plane gives it.")
@click.option(
    "--alive", "is_alive_only", is_flag=True, help="Print nothing; exit 0 if it answers, ready or not."
)
@click.option(
    "--watch",
    "period_s",
    type=click.FloatRange(min=0.1),
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Show it again every so often (2 s unless told) until Ctrl-C.",
)
def command(admin: Address, is_json: bool, is_alive_only: bool, period_s: float | None) -> int:
    """Show whether an instance is ready, its workers, packs and generation."""
    if is_json + is_alive_only + (period_s is not None) > 1:
        raise click.UsageError("--alive, --json and --watch do not go together")
    if is_alive_only:
        require_alive(admin)
        return 0
    if period_s is not None:
        return _watch(admin, period_s)
    status = read_status(admin)
    if is_json:
        click.echo(json.dumps(status, indent=2, ensure_ascii=False))
    else:
        _console().print(render(status))
    return exit_code(status)


def exit_code(status: Status) -> int:
    """Return 0 for an instance that is ready, else 1."""
    return 0 if status.get("ready") is True else 1


def render(status: Status, before: Status | None = None, elapsed_s: float = 0.0) -> Group:
    """Return what a person sees.

    Args:
        status: what ``/api/status`` answered.
        before: an earlier one of the same instance, `elapsed_s` seconds before; adds rates.
    """
    from rich.console import Group

    parts: list[Text | Table] = [_headline(status), _facts(status)]
    for title, key in (("Workers", "workers"), ("Sidecar", "sidecars")):
        parts.append(_processes(title, status.get(key, ()), (before or {}).get(key, ()), elapsed_s))
    parts.append(_packs(status.get("packs", ())))
    return Group(*parts)


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)


def _watch(admin: Address, period_s: float) -> int:
    """Show it until Ctrl-C; an instance that does not answer for a while is waited for."""
    from rich.live import Live
    from rich.text import Text

    status = read_status(admin)
    read_s, shown = time.monotonic(), render(status)
    try:
        with Live(shown, console=_console(), auto_refresh=False) as live:
            while True:
                time.sleep(period_s)
                try:
                    before, before_s = status, read_s
                    status, read_s = read_status(admin), time.monotonic()
                    live.update(render(status, before, read_s - before_s), refresh=True)
                except ResourceError as error:
                    live.update(Text(str(error), style="red"), refresh=True)
    except KeyboardInterrupt:
        return exit_code(status)


def _headline(status: Status) -> Text:
    from rich.text import Text

    is_ready = exit_code(status) == 0
    line = Text.assemble(
        ("ready" if is_ready else "NOT READY", "bold green" if is_ready else "bold red"),
        f"  svc-edge {status.get('version', '?')}, {status.get('mode', '?')}, "
        f"generation {status.get('generation', '?')}, up {spoken_duration(status.get('uptime_s', 0))}",
    )
    for word in ("draining", "stopping", "degraded"):
        if status.get(word):
            line.append(f"  {word}", style="yellow")
    return line


def _facts(status: Status) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    missing = [name for name, holds in status.get("gates", {}).items() if not holds]
    if missing:
        table.add_row("missing", Text(", ".join(missing), style="red"))
    addresses = status.get("addresses", {})
    table.add_row("assets", Text(f"http://{addresses.get('assets', '?')}/edge/assets/"))
    table.add_row("admin", Text(f"http://{addresses.get('admin', '?')}/"))
    if reload := _reload(status.get("last_reload") or {}):
        table.add_row("last reload", Text(reload))
    if status.get("digests_pending"):
        table.add_row("digests to compute", Text(f"{status['digests_pending']:,}"))
    return table


def _reload(told: Status) -> str:
    """Return what became of the last reload; empty where there was none yet."""
    result = told.get("result")
    words = [] if result in (None, "none") else [result, told.get("at"), told.get("reason")]
    if told.get("running"):
        words.append("another one is running" if words else "running")
    return ", ".join(str(word) for word in words if word)


def _processes(title: str, rows: Any, before: Any, elapsed_s: float) -> Table:
    from rich.table import Table

    heads = ["slot", "pid", "state", "CPU", "requests", "in flight", "sent", "lag", "beat", "memory (PSS)"]
    earlier = {row["pid"]: row["requests"] for row in before} if elapsed_s > 0 else {}
    if earlier:
        heads.insert(5, "a second")
    table = Table(*heads, title=title, title_justify="left", title_style="bold")
    for column in table.columns:
        column.justify = "left" if column.header in ("slot", "state") else "right"
    for row in rows:
        cells = _process(row)
        if earlier:
            grown = row["requests"] - earlier.get(row["pid"], row["requests"])
            cells.insert(5, f"{grown / elapsed_s:,.0f}")
        table.add_row(*cells)
    return table


def _process(row: Status) -> list[str]:
    cpu, pss = row.get("cpu"), row.get("pss_bytes")
    return [
        str(row.get("identity", "?")).removeprefix("sidecar-"),
        str(row.get("pid", "?")),
        str(row.get("state", "?")),
        "any" if cpu is None else str(cpu),
        f"{row.get('requests', 0):,}",
        str(row.get("inflight", 0)),
        spoken_size(row.get("bytes_out", 0)),
        f"{row.get('loop_lag_ms', 0):.1f} ms",
        f"{row.get('beat_age_ms', 0):,} ms",
        "" if pss is None else spoken_size(pss),
    ]


def _packs(packs: Any) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        *("name", "kind", "entries", "tiles", "size"),
        title="Packs",
        title_justify="left",
        title_style="bold",
    )
    for column in list(table.columns)[2:]:
        column.justify = "right"
    for pack in packs:
        counts = (
            f"{pack.get('entries', 0):,}",
            f"{pack.get('tiles', 0):,}",
            spoken_size(pack.get("bytes", 0)),
        )
        table.add_row(Text(pack.get("name") or "/"), str(pack.get("kind", "?")), *counts)
    return table
