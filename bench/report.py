"""Tables for people, JSON for programs.

On a terminal the tables are rich's; elsewhere plain aligned columns, or Markdown.
Does no measuring.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.duel import Outcome, Spread
from bench.memory import Weight
from bench.startup import Start

# CPU a request, svc-edge to nginx, at most.
CPU_RATIO_GOALS = {
    **dict.fromkeys(("object-1KiB", "object-4KiB", "object-16KiB", "range-16KiB"), 1.1),
    **dict.fromkeys(("object-64KiB", "range-64KiB"), 0.95),
    **dict.fromkeys(("object-256KiB", "object-1MiB", "range-256KiB"), 0.7),
    "not-modified": 1.2,
}
READY_GOAL_S = 0.3
VERIFIED_GOAL_S = 2.0
IDLE_GOAL_MIB = 40.0


class Table(NamedTuple):
    """A title, a head, and rows of texts; the first column is words, the others are figures."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


class Results(NamedTuple):
    """Everything one run of the benchmark found."""

    machine: dict[str, str]
    command: str
    servers: tuple[str, str]
    outcomes: list[Outcome]
    weights: list[Weight]
    starts: list[Start]


def tables(results: Results) -> list[Table]:
    """Return the tables that have rows."""
    made = [_speed(results), _memory(results.weights), _starts(results.starts), _goals(results)]
    return [table for table in made if table.rows]


def print_results(results: Results, *, markdown: bool) -> None:
    """Print machine, command and tables to stdout."""
    if markdown:
        print(_machine_line(results), *map(_markdown, tables(results)), sep="\n\n")
    elif sys.stdout.isatty():
        _print_rich(results)
    else:
        print(_machine_line(results), *map(_plain, tables(results)), sep="\n\n")
    for outcome in results.outcomes:
        if outcome.failure:
            print(f"\nFAILED {outcome.failure}")


def write_json(results: Results, path: Path) -> None:
    """Write every round of every case, and what was derived from it."""
    document = {
        "machine": results.machine,
        "command": results.command,
        "servers": results.servers,
        "cases": [_case_json(results.servers, outcome) for outcome in results.outcomes],
        "memory_mib": [weight._asdict() for weight in results.weights],
        "start_s": [{"name": start.name, **start.ready_s._asdict()} for start in results.starts],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def _case_json(servers: tuple[str, str], outcome: Outcome) -> dict[str, object]:
    if outcome.failure:
        return {"name": outcome.case, "failure": outcome.failure}
    return {
        "name": outcome.case,
        "cpu_ratio": outcome.ratio("cpu_us")._asdict(),
        "requests_per_s_ratio": outcome.ratio("requests_per_s")._asdict(),
        "rounds": [
            {name: run._asdict() for name, run in zip(servers, pair, strict=True)} for pair in outcome.runs
        ],
    }


def _machine_line(results: Results) -> str:
    facts = "; ".join(f"{name}: {value}" for name, value in results.machine.items())
    return f"{facts}\ncommand: {results.command}"


def _speed(results: Results) -> Table:
    both = " / ".join(results.servers)
    head = ("case", "requests/s", "p50 ms", "p99 ms", "CPU µs", "CPU ratio", "rate ratio")
    rows = [_speed_row(outcome) for outcome in results.outcomes if not outcome.failure]
    return Table(
        f"Speed: {both}; CPU a request of the worker; ratios {results.servers[1]} to {results.servers[0]}",
        head,
        rows,
    )


def _speed_row(outcome: Outcome) -> tuple[str, ...]:
    def pair(figure: str, form: str) -> str:
        return " / ".join(format(outcome.median(server, figure), form) for server in (0, 1))

    rates, p50, p99 = pair("requests_per_s", ",.0f"), pair("p50_ms", ".2f"), pair("p99_ms", ".2f")
    ratios = _spread(outcome.ratio("cpu_us")), _spread(outcome.ratio("requests_per_s"))
    return outcome.case, rates, p50, p99, pair("cpu_us", ".1f"), *ratios


def _memory(weights: Sequence[Weight]) -> Table:
    head = ("state", "worker PSS", "of it private", "of it shared memory", "all processes")
    return Table(
        "Memory of two workers, MiB", head, [(w.state, *(f"{x:.1f}" for x in w[1:])) for w in weights]
    )


def _starts(starts: list[Start]) -> Table:
    rows = [(start.name, _spread(start.ready_s, scale=1000, form=".0f")) for start in starts]
    return Table("Start, ms from exec to ready", ("mounted", "median (least-greatest)"), rows)


def _goals(results: Results) -> Table:
    found: list[tuple[str, float, float, str]] = []
    for outcome in results.outcomes:
        goal = CPU_RATIO_GOALS.get(outcome.case)
        if goal is not None and not outcome.failure:
            found.append((f"CPU a request, {outcome.case}", outcome.ratio("cpu_us").median, goal, "x nginx"))
    for start in results.starts:
        if start.name == "20,000-tile archive, verify none":
            found.append((f"ready, {start.name}", start.ready_s.median, READY_GOAL_S, "s"))
        if start.name == "10,000 files, verify full":
            found.append((f"ready, {start.name}", start.ready_s.median, VERIFIED_GOAL_S, "s"))
    found += [(f"worker PSS, {w.state}", w.worker_pss, IDLE_GOAL_MIB, "MiB") for w in results.weights[:1]]
    rows = [(name, f"{x:.2f} {u}", f"{goal} {u}", "yes" if x <= goal else "NO") for name, x, goal, u in found]
    return Table("Goals", ("what", "measured", "at most", "reached"), rows)


def _spread(spread: Spread, *, scale: float = 1, form: str = ".2f") -> str:
    median, low, high = (format(value * scale, form) for value in spread)
    return f"{median} ({low}-{high})"


def _plain(table: Table) -> str:
    widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]

    def line(cells: tuple[str, ...]) -> str:
        first, *rest = (
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *rest]).rstrip()

    return "\n".join(
        [table.title, line(table.head), "  ".join("-" * width for width in widths), *map(line, table.rows)]
    )


def _markdown(table: Table) -> str:
    rule = ["---", *["---:"] * (len(table.head) - 1)]
    lines = [f"| {' | '.join(cells)} |" for cells in (table.head, rule, *table.rows)]
    return "\n".join([f"**{table.title}**", "", *lines])


def _print_rich(results: Results) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console()
    console.print(_machine_line(results), style="dim", highlight=False)
    for table in tables(results):
        shown = RichTable(title=table.title, title_justify="left")
        for index, name in enumerate(table.head):
            shown.add_column(name, justify="left" if index == 0 else "right")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
