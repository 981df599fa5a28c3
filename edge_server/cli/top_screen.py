"""The picture of `svc-edge top`, for a terminal of any width; draws what it is given, reads nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edge_server.cli.top_figures import TRENDS, Figures, Worker
from edge_server.config.units import spoken_duration, spoken_size

_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = "_.-~=+*#"  # where the terminal's encoding has no blocks
_TREND_NAMES = {"requests": "requests/s", "p95_ms": "p95 ms", "rejects": "rejects/s", "fills": "fills/s"}
_CLASS_STYLES = {"2xx": "green", "3xx": "cyan", "4xx": "yellow", "5xx": "bold red"}
_LINES_ABOVE_WORKERS = 13
_FEWEST_ROWS = 2


class _Column(NamedTuple):
    head: str
    width_from: int  # of the terminal, in columns, for it to be shown
    cell: Callable[[Worker], str]


_COLUMNS = (
    _Column("slot", 0, lambda worker: worker.identity),
    _Column("pid", 70, lambda worker: str(worker.pid)),
    _Column("state", 40, lambda worker: worker.state),
    _Column("CPU %", 60, lambda worker: _number(worker.cpu_percent)),
    _Column("req/s", 0, lambda worker: _number(worker.requests)),
    _Column("sent/s", 80, lambda worker: "" if worker.bytes is None else spoken_size(worker.bytes)),
    _Column("in flight", 0, lambda worker: str(worker.inflight)),
    _Column("parked", 50, lambda worker: str(worker.parked)),
    _Column("lag ms", 60, lambda worker: f"{worker.loop_lag_ms:.1f}"),
)


def render(
    status: Mapping[str, Any],
    figures: Figures,
    width: int,
    height: int | None = None,
    *,
    has_blocks: bool = True,
) -> RenderableType:
    """Return the picture.

    Args:
        width, height: of the terminal, in characters; without a height every worker is shown.
        has_blocks: whether the terminal can show block elements.
    """
    rows = len(figures.workers) if height is None else max(_FEWEST_ROWS, height - _LINES_ABOVE_WORKERS)
    return Group(
        _headline(status, figures),
        _totals(figures),
        _trends(figures, width, _BARS if has_blocks else _PLAIN_BARS),
        _workers(figures.workers, rows, width),
    )


def sparkline(values: Sequence[float], bars: str = _BARS) -> str:
    """Return one character a value, the oldest first; the largest of them has the highest bar."""
    most = max(values, default=0.0)
    if most <= 0:
        return bars[0] * len(values)
    return "".join(bars[min(len(bars) - 1, int(value / most * len(bars)))] for value in values)


def _headline(status: Mapping[str, Any], figures: Figures) -> Text:
    word, style = ("ready", "bold green") if figures.ready else ("NOT READY", "bold red")
    line = Text.assemble(
        (word, style),
        f"  svc-edge {status.get('version', '?')}, {status.get('mode', '?')}, "
        f"generation {status.get('generation', '?')}, up {spoken_duration(status.get('uptime_s', 0))}",
    )
    if figures.missing:
        line.append(f"\nmissing: {', '.join(figures.missing)}", style="red")
    for state in ("draining", "stopping"):
        if status.get(state):
            line.append(f"  {state}", style="yellow")
    return line


def _totals(figures: Figures) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("requests/s", _classes(figures.requests))
    told = (f"{name} {'-' if ms is None else f'{ms:.1f} ms'}" for name, ms in figures.latency_ms.items())
    table.add_row("latency", Text("  ".join(told)))
    ratio = "-" if figures.hit_ratio is None else f"{figures.hit_ratio:.1%}"
    table.add_row(
        "hit ratio", Text(f"{ratio}  fills/s {figures.fills:,.1f}  in hand {figures.inflight:,.0f}")
    )
    table.add_row("rejects/s", _named(figures.rejects, "none"))
    sizes = "  ".join(f"{tier} {spoken_size(count)}" for tier, count in sorted(figures.cas_bytes.items()))
    table.add_row("sent/s", Text(spoken_size(figures.bytes_out)))
    table.add_row("store", Text(sizes or "-"))
    return table


def _classes(rates: Mapping[str, float]) -> Text:
    line = Text(f"{sum(rates.values()):,.0f}")
    for name, rate in rates.items():
        line.append(f"  {name} {rate:,.1f}", style=_CLASS_STYLES.get(name, ""))
    return line


def _named(rates: Mapping[str, float], nothing: str) -> Text:
    shown = sorted(rates.items(), key=lambda each: -each[1])
    return Text("  ".join(f"{name} {rate:,.1f}" for name, rate in shown) or nothing)


def _trends(figures: Figures, width: int, bars: str) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    room = max(8, min(60, width - 28))
    for name in TRENDS:
        values = figures.trends.get(name, [])[-room:]
        if values:
            told = f"{sparkline(values, bars)} {values[-1]:,.1f}, at most {max(values):,.1f}"
            table.add_row(_TREND_NAMES[name], Text(told, style="cyan", overflow="crop"))
    return table


def _workers(workers: Sequence[Worker], rows: int, width: int) -> Table:
    columns = [column for column in _COLUMNS if column.width_from <= width]
    shown = workers if len(workers) <= rows else workers[: rows - 1]
    left = len(workers) - len(shown)
    table = Table(box=None, pad_edge=False, caption=f"... and {left} more" if left else None)
    for column in columns:
        table.add_column(column.head, justify="left" if column.head in ("slot", "state") else "right")
    for worker in shown:
        table.add_row(*(column.cell(worker) for column in columns), style=_style(worker))
    return table


def _style(worker: Worker) -> str:
    return "" if worker.state == "serving" else "yellow"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
