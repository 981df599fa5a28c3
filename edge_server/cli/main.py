"""The ``svc-edge`` command: sub-commands, loaded when they are used, and exit codes.

Without a command, options mean ``serve``. Errors that are raised on purpose end with
one message and their exit code: 2 usage, 69 resource unavailable, 78 configuration or
pack; 1 is a failure at run time. Imports nothing that a chosen command does not need.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from edge_server import __version__
from edge_server.errors import EdgeError

NAME = "svc-edge"
COMPLETE_VARIABLE = "_SVC_EDGE_COMPLETE"
_OWN_OPTIONS = ("-h", "--help", "-V", "--version")

# name -> (module and attribute, line in --help)
COMMANDS = {
    "serve": ("edge_server.cli.serve:command", "Serve packs; what options without a command mean."),
    "check": ("edge_server.cli.check:command", "Check configuration and packs without serving."),
    "config": ("edge_server.cli.config:group", "Show settings and where they come from; schema; reference."),
    "pack": ("edge_server.cli.pack:pack", "Look into packs and verify them."),
    "cas": ("edge_server.cli.cas:group", "Look into the store of filled objects, verify and tidy it."),
    "audit": ("edge_server.cli.audit:group", "Verify the chain of audit records."),
    "status": ("edge_server.cli.status:command", "Show how a running instance is."),
    "top": ("edge_server.cli.top:command", "Show what a running instance does, live."),
    "drain": ("edge_server.cli.drain:drain", "Take a running instance out of rotation."),
    "undrain": ("edge_server.cli.drain:undrain", "Put it back."),
    "reload": (
        "edge_server.cli.reload:command",
        "Have a running instance take new settings and packs.",
    ),
    "warm": ("edge_server.cli.warm:command", "Have a running instance fetch paths ahead of requests."),
    "profile": ("edge_server.cli.profile:command", "Write a flame graph of a running worker."),
    "doctor": ("edge_server.cli.doctor:command", "Check this machine and say what to do."),
    "drill": ("edge_server.cli.drill:drill", "Break a running instance under load, and judge."),
    "demo": ("edge_server.cli.demo:command", "Build a small world and serve it."),
    "version": ("edge_server.cli.version:command", "Print versions."),
    "man": ("edge_server.cli.man:command", "Print the manual page."),
    "completion": ("edge_server.cli.completion:command", "Print shell completions."),
}

_EPILOG = """\b
Examples:
  svc-edge serve world.pmtiles assets/
  svc-edge --config /etc/svc-edge.yaml --bind 0.0.0.0:8080
  SVC_EDGE_EDGE__PACKS=world.pmtiles svc-edge
  svc-edge check --config /etc/svc-edge.yaml
  svc-edge config show --origin

Exit codes: 0 drained, 1 failure at run time, 2 usage, 69 port or resource
unavailable, 78 configuration or pack.
"""


class _Commands(click.Group):
    """Sub-commands by name, imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Completion parses without a complete line: there, nothing is not yet `serve`.
        is_bare = args[0].startswith("-") if args else not ctx.resilient_parsing
        if is_bare and not (args and args[0] in _OWN_OPTIONS):
            args = ["serve", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not ctx.resilient_parsing and (os.path.exists(name) or "/" in name):
            ctx.fail(f"No such command {name!r}. To serve it: {NAME} serve {name}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Commands,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", prog_name=NAME)
def root() -> None:
    """Serve static and ranged bytes from packs, one pinned worker per core."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code of the process.

    Args:
        args: without the program's name; None takes those of the process.
    """
    _open_standard_streams()
    try:
        code = root.main(args, prog_name=NAME, complete_var=COMPLETE_VARIABLE, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130  # 128 + SIGINT, as shells count
    except EdgeError as error:
        click.echo(f"{NAME}: error: {error}", err=True)
        return error.exit_code
    except BrokenPipeError:
        _forget_output()
        return 1
    return code if isinstance(code, int) else 0


def _open_standard_streams() -> None:
    """Let nothing that is opened later become standard output, where log lines would then go."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _forget_output() -> None:
    """Keep the interpreter from writing to a reader who left, when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
