"""The ``python -m bench`` command: builds, checks, measures, prints.

Runs nginx, svc-edge and wrk on the loopback for a bounded time, all inside one temporary
folder (or ``--world DIR``, which is kept), and ends every process that it started.
Exit codes: 0 every figure stands, 1 one had to be refused, 2 usage, 69 a tool is missing.
"""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from bench import BenchError, MissingToolsError, cases, machine, memory, startup
from bench.duel import Duel, Outcome
from bench.edge import edge
from bench.machine import Cpus
from bench.nginx import nginx
from bench.report import Results, print_results, write_json
from bench.world import World

EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h
EXIT_TERMINATED = 143
STARTS = 5


def say(line: str) -> None:
    """Print a line of progress where it does not mix with the tables."""
    print(line, file=sys.stderr, flush=True)


def choose(only: str | None) -> list[str]:
    """Return the names of the parts to run, checked."""
    known = [*cases.all_names(), "memory", "start"]
    chosen = [name.strip() for name in only.split(",")] if only else known
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}; choose from {', '.join(known)}", param_hint="--only")
    return chosen


@contextmanager
def world_folder(kept: Path | None) -> Iterator[Path]:
    """Give the folder of the world: a temporary one, or the one to keep."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="svc-edge-bench-") as folder:
        yield Path(folder).resolve()


class Options(NamedTuple):
    """What one run of the benchmark does; the names are those of the command's options."""

    names: list[str]
    rounds: int
    seconds: int
    starts: int
    noise: bool


def measure_speed(world: World, folder: Path, cpus: Cpus, options: Options) -> list[Outcome]:
    """Run the chosen cases on nginx and svc-edge, or on nginx twice."""
    chosen = cases.build(world, options.names)
    if not chosen:
        return []
    packs = [world.assets, *([world.tile_archive] if "tiles" in options.names else [])]
    with ExitStack() as stack:
        first = stack.enter_context(nginx(world, folder / "nginx", cpus.server))
        if options.noise:
            second = stack.enter_context(nginx(world, folder / "nginx-again", cpus.server))
        else:
            second = stack.enter_context(edge(packs, folder / "svc-edge", cpu=cpus.server))
        return Duel((first, second), folder, cpus.load, options.rounds, options.seconds, say).fight(chosen)


@click.command(help="Measure svc-edge against nginx: one worker each, same CPU, same load, rounds in turn.")
@click.option(
    "--quick", is_flag=True, help="One round of one second a case, two starts: to see that it works."
)
@click.option(
    "--rounds", type=click.IntRange(1, 50), default=3, show_default=True, help="Timed runs of each server."
)
@click.option(
    "--seconds", type=click.IntRange(1, 60), default=2, show_default=True, help="Length of a timed run."
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write every round here.",
)
@click.option("--only", metavar="NAME,...", help="Cases to run; also 'memory' and 'start'.")
@click.option(
    "--world", "kept", type=click.Path(file_okay=False, path_type=Path), help="Build or reuse the files here."
)
@click.option("--markdown", is_flag=True, help="Print Markdown tables.")
@click.option(
    "--noise", is_flag=True, help="nginx against itself: how far figures of equal servers lie apart."
)
def main(
    *,
    quick: bool,
    rounds: int,
    seconds: int,
    json_path: Path | None,
    only: str | None,
    kept: Path | None,
    markdown: bool,
    noise: bool,
) -> None:
    # Python's own answer to SIGTERM would leave the servers running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    names = choose(only)
    options = Options(names, 1, 1, 2, noise) if quick else Options(names, rounds, seconds, STARTS, noise)
    try:
        results = run(options, kept)
    except MissingToolsError as missing:
        say(f"bench: {missing}")
        sys.exit(EXIT_UNAVAILABLE)
    except BenchError as error:
        say(f"bench: {error}")
        sys.exit(1)
    print_results(results, markdown=markdown)
    if json_path is not None:
        write_json(results, json_path)
    sys.exit(1 if any(outcome.failure for outcome in results.outcomes) else 0)


def run(options: Options, kept: Path | None) -> Results:
    """Run the chosen parts in the world at `kept`, or in a temporary one, and return what they found."""
    machine.require_tools()
    cpus = machine.choose_cpus()
    if machine.is_busy():
        say("bench: something else keeps this machine busy; figures will be noise")
    described = machine.describe(cpus)
    servers = ("nginx", "nginx again" if options.noise else "svc-edge")
    with world_folder(kept) as root, tempfile.TemporaryDirectory(prefix="svc-edge-bench-") as scratch:
        world, folder = World(root, say), Path(scratch).resolve()
        outcomes = measure_speed(world, folder, cpus, options)
        weights = memory.measure(world, folder, say) if "memory" in options.names else []
        starts = startup.measure(world, folder, options.starts, say) if "start" in options.names else []
    command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    return Results(described, command, servers, outcomes, weights, starts)


if __name__ == "__main__":
    main()
