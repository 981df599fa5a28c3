"""`svc-edge version`: what runs here."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version

import click

from edge_server import __version__

_LIBRARIES = ("bjoern", "falcon", "pydantic", "prometheus-client", "numpy", "blake3")


_EPILOG = """\b
Examples:
  svc-edge version
  svc-edge version --json | jq -r .bjoern
"""


@click.command("version", epilog=_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """Print the versions of svc-edge, Python and the libraries under it."""
    versions = _versions()
    if as_json:
        click.echo(json.dumps(versions))
    else:
        click.echo("\n".join(f"{name} {number}" for name, number in versions.items()))


def _versions() -> dict[str, str]:
    found = {"svc-edge": __version__, platform.python_implementation().lower(): platform.python_version()}
    found |= {name: _installed(name) for name in _LIBRARIES}
    return found | {"platform": f"{platform.system()} {platform.release()} {platform.machine()}"}


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
