"""`svc-edge serve`: load the configuration and hand it to the supervisor."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import click

from edge_server.cli.flags import CommandLine, settings_flags

if TYPE_CHECKING:
    from edge_server.config.load import Loaded


_EPILOG = """\b
Examples:
  svc-edge serve world.pmtiles assets/
  svc-edge serve --config configs/svc-edge.yaml
  svc-edge serve --bind 0.0.0.0:8080 --rps 500 --amnesia world.pmtiles
  svc-edge serve --mode live --allow tiles.example.org --set cas.path=/var/cache/svc-edge
  SVC_EDGE_EDGE__PACKS=world.pmtiles svc-edge serve

\b
Exit codes: 0 drained, 1 failure at run time, 2 usage, 69 port or resource
unavailable, 78 configuration or pack.
"""


@click.command("serve", epilog=_EPILOG)
@settings_flags
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path())
def command(paths: tuple[str, ...], given: CommandLine) -> int:
    """Serve packs until SIGTERM or SIGINT.

    PATH is a pack, a directory or a glob, as with --pack. Flags come before SVC_EDGE_
    variables, these before the file, this before the defaults.
    """
    gc.disable()  # until the fork: what is imported stays, and looking through it costs a tenth of the start
    _refuse_misplaced_command(paths)
    load = partial(given.with_packs(paths).load, to_serve=True)
    return supervise(load(), load)


def _refuse_misplaced_command(paths: tuple[str, ...]) -> None:
    """Catch ``svc-edge --config F check``, which would serve a pack called check."""
    from edge_server.cli.main import COMMANDS

    for path in paths:
        if path in COMMANDS and not os.path.exists(path):
            raise click.UsageError(f"The command comes first: svc-edge {path} ...")


def supervise(loaded: Loaded, load: Callable[[], Loaded]) -> int:
    """Run the supervisor with the entry points of worker and sidecar; return its exit code.

    Args:
        load: gives what a reload is to serve, from the same flags, environment and file.
    """
    # Read when numpy is loaded: its BLAS would start a thread for each other CPU, before the fork.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"

    from edge_server.roles import Roles
    from edge_server.sidecar import main as sidecar
    from edge_server.supervisor import main as supervisor
    from edge_server.worker import main as worker

    roles = Roles(worker=worker.run, sidecar=sidecar.run)
    return supervisor.serve(loaded.config, roles, load, warnings=loaded.warnings)
