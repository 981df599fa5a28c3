"""`svc-edge completion`: click's completion scripts under our name."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from edge_server.cli.main import COMPLETE_VARIABLE, NAME, root

_EPILOG = """\b
Examples:
  svc-edge completion bash > /etc/bash_completion.d/svc-edge
  svc-edge completion zsh > "${fpath[1]}/_svc-edge"
  svc-edge completion fish > ~/.config/fish/completions/svc-edge.fish
"""


@click.command("completion", epilog=_EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a script that completes commands and options."""
    completion = get_completion_class(shell)
    assert completion is not None
    click.echo(completion(root, {}, NAME, COMPLETE_VARIABLE).source())
