"""What a person sees of a drill: progress while it runs, the verdict at its end. Prints, judges nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from edge_server.drill.journal import Journal
    from edge_server.drill.result import Result
    from edge_server.drill.run import Listener


@contextmanager
def progress_bar(console: Console, seconds: float) -> Iterator[Listener]:
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as progress:
        task = progress.add_task("starting", total=seconds, told="")
        began_s = time.monotonic()

        def listener(phase: str, journal: Journal) -> None:
            told = f"{len(journal):,} requests, {journal.lost_count} lost, {journal.wrong_count} wrong"
            progress.update(task, description=phase, completed=time.monotonic() - began_s, told=told)

        yield listener


def print_verdict(console: Console, result: Result) -> None:
    """Print a row for each phase, what failed, and the verdict; the report has every check."""
    table = Table("phase", "p95 meanwhile", "p95 afterwards", "successor", "ready again", "lost", "checks")
    for column in list(table.columns)[1:6]:
        column.justify = "right"
    table.add_row(
        "baseline",
        _ms(result.baseline.p95_s),
        "",
        "",
        "",
        str(result.baseline.lost),
        _mark(result, "baseline"),
    )
    for done in result.faults:
        seen = done.observed
        if seen.skipped:
            table.add_row(seen.name, *[""] * 5, Text(f"skipped: {seen.skipped}", style="yellow"))
            continue
        table.add_row(
            seen.name,
            *(_ms(value) for value in (done.during.p95_s, seen.after.p95_s, seen.replaced_s, seen.steady_s)),
            str(seen.explained + seen.unexplained),
            _mark(result, seen.name),
        )
    table.add_row("whole run", *[""] * 4, str(result.journal.lost_count), _mark(result, ""))
    console.print(table)
    for check in result.checks:
        if not check.passed:
            words = f"{check.phase or 'whole run'}: {check.what}: {check.seen}, allowed: {check.allowed}"
            console.print(Text(words, style="red"))
    _print_sum(console, result)


def _print_sum(console: Console, result: Result) -> None:
    journal = result.journal
    verdict = Text("PASSED", style="bold green") if result.passed else Text("FAILED", style="bold red")
    told = f"  {len(journal):,} requests in {result.length_s:.0f} s, {journal.wrong_count} wrong"
    console.print(verdict.append(told, style="not bold default"))


def _mark(result: Result, phase: str) -> Text:
    checks = [check for check in result.checks if check.phase == phase]
    failed = sum(not check.passed for check in checks)
    if failed:
        return Text(f"{failed} of {len(checks)} FAILED", style="bold red")
    return Text(f"{len(checks)} ok", style="green")


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:,.1f} ms"
