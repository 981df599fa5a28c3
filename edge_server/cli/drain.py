"""`svc-edge drain` and `svc-edge undrain`: take a running instance out of rotation, or back.

Asks the admin plane of the instance that the same flags, environment and file belong to,
with the token if there is one. Readiness fails meanwhile; requests are still served.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from edge_server.cli import admin_address
from edge_server.cli.admin_address import Answer
from edge_server.cli.flags import CommandLine, settings_flags
from edge_server.errors import ConfigError, EdgeError

if TYPE_CHECKING:
    from edge_server.config.schema import Config

_TIMEOUT_S = 10


class AskError(EdgeError):
    """The instance does not do what it was asked."""


_DRAIN_EPILOG = """\b
Examples:
  svc-edge drain
  svc-edge drain --metrics 127.0.0.1:9910
  svc-edge drain --config /etc/svc-edge.yaml
"""
_UNDRAIN_EPILOG = """\b
Examples:
  svc-edge undrain
  svc-edge undrain --metrics 127.0.0.1:9910
"""


@click.command("drain", epilog=_DRAIN_EPILOG)
@settings_flags
def drain(given: CommandLine) -> None:
    """Let readiness fail, so that no new traffic comes; what comes is served.

    Takes what `serve` takes, and finds the instance by its metrics_addr. Exits 0 once
    readiness fails, 1 when the instance refuses, 69 when there is none.
    """
    _ask(given.load(to_serve=False).config, is_wanted=True)


@click.command("undrain", epilog=_UNDRAIN_EPILOG)
@settings_flags
def undrain(given: CommandLine) -> None:
    """End what `drain` began."""
    _ask(given.load(to_serve=False).config, is_wanted=False)


def _ask(config: Config, *, is_wanted: bool) -> None:
    answer = post(config, "/api/drain" if is_wanted else "/api/undrain")
    if answer.status == 202 and not is_wanted:
        raise AskError("asked, and it drains on: is admin.drain_file still there?")
    if answer.status != 200:
        raise AskError(f"not done: {answer.status} {answer.reason or 'and no reason'}")
    click.echo("draining" if json.loads(answer.body)["draining"] else "not draining")


def post(config: Config, path: str) -> Answer:
    """Return the answer to a POST without a body, with the token if there is one.

    Raises:
        ResourceError: no instance answers.
    """
    fields = {"Content-Length": "0", **token(config.admin.token_file)}
    return ask(config, "POST", path, fields)


def ask(config: Config, method: str, path: str, headers: Mapping[str, str]) -> Answer:
    """Return the answer of the admin plane that `config` names.

    Raises:
        ResourceError: no instance answers.
    """
    address = config.metrics_addr
    if not address.port:
        raise click.UsageError("metrics_addr has port 0; give the one in the ready line: --metrics HOST:PORT")
    return admin_address.ask(address.from_here, path, method, headers, timeout_s=_TIMEOUT_S)


def token(path: str | None) -> dict[str, str]:
    """Return the field that carries the token in a file; none without a file.

    Raises:
        ConfigError: the file cannot be read.
    """
    if path is None:
        return {}
    try:
        with open(path, encoding="latin-1") as file:
            return {"Authorization": f"Bearer {file.read().strip()}"}
    except OSError as error:
        raise ConfigError(f"admin.token_file: {path!r} cannot be read: {error.strerror}") from error
