"""`svc-edge warm FILE`: have a running instance fetch paths before anybody asks for them.

Asks the admin plane of the instance that the same flags, environment and file belong to, a batch at
a time, and shows how far it is. What is refused as busy is asked for again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, TextIO

import click

from edge_server.cli.drain import AskError, post
from edge_server.cli.flags import CommandLine, settings_flags
from edge_server.cli.targets import batches, query

if TYPE_CHECKING:
    from edge_server.config.schema import Config

_TRIES = 5
_PAUSE_S = 0.2
_SHOWN = 20  # refusals told one by one
_GOOD = ("stored", "revalidated", "stale", "packed")


_EPILOG = """\b
Examples:
  svc-edge warm paths.txt
  svc-edge warm --metrics 127.0.0.1:9910 paths.txt
  grep '^fonts/' paths.txt | svc-edge warm -
"""


@click.command("warm", epilog=_EPILOG)
@click.argument("file", type=click.File("r", encoding="utf-8"))
@settings_flags
def command(given: CommandLine, file: TextIO) -> None:
    """Fetch each path of FILE (one a line, `-` for standard input) into the running instance.

    Exits 0 when all are there, 1 when some are not, 69 when there is no instance.
    """
    paths = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    config = given.load(to_serve=False).config
    refused = _warm(config, paths)
    for path, reason in refused[:_SHOWN]:
        click.echo(f"{path}: {reason}", err=True)
    if refused:
        raise AskError(f"{len(refused)} of {len(paths)} paths are not there")


def _warm(config: Config, paths: list[str]) -> list[tuple[str, str]]:
    """Return the paths that could not be had, and why."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    refused: list[tuple[str, str]] = []
    outcomes: Counter[str] = Counter()
    columns = (TextColumn("warm"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("warm", total=len(paths))
        for batch in batches(paths):
            for result in _settle(config, batch):
                outcomes[result["outcome"]] += 1
                if result["outcome"] not in _GOOD:
                    refused.append((result["path"], result["reason"] or result["outcome"]))
            progress.advance(task, len(batch))
    click.echo(", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())) or "nothing")
    return refused


def _settle(config: Config, paths: list[str]) -> list[dict[str, str]]:
    """Return what became of a batch; what is busy is tried again."""
    settled: list[dict[str, str]] = []
    for attempt in range(_TRIES):
        time.sleep(_PAUSE_S * attempt)
        answer = post(config, f"/api/warm?{query('path', paths)}")
        if answer.status != 200:
            raise AskError(f"not done: {answer.status} {answer.reason or 'and no reason'}")
        results: list[dict[str, str]] = json.loads(answer.body)["results"]
        is_last = attempt == _TRIES - 1
        settled += [result for result in results if is_last or result["reason"] != "busy"]
        paths = [result["path"] for result in results if result["reason"] == "busy"]
        if not paths:
            break
    return settled
