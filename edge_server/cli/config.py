"""`svc-edge config`: effective settings, the JSON Schema for editors, the reference."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from edge_server.cli.flags import CommandLine, settings_flags

if TYPE_CHECKING:
    from edge_server.config.load import Loaded


class _Row(NamedTuple):
    key: str
    value: str
    origin: str
    is_default: bool


_EPILOG = """\b
Examples:
  svc-edge config show
  svc-edge config schema > svc-edge.schema.json
  svc-edge config reference > CONFIG.md
"""
_SHOW_EPILOG = """\b
Examples:
  svc-edge config show --origin --config configs/svc-edge.yaml
  SVC_EDGE_LOG__LEVEL=debug svc-edge config show --origin
  svc-edge config show --json | jq .ingress
"""
_SCHEMA_EPILOG = """\b
Examples:
  svc-edge config schema > svc-edge.schema.json
"""
_REFERENCE_EPILOG = """\b
Examples:
  svc-edge config reference > CONFIG.md
"""


@click.group("config", epilog=_EPILOG)
def group() -> None:
    """Show settings, their schema and their reference."""


@group.command("show", epilog=_SHOW_EPILOG)
@settings_flags
@click.option("--origin", "with_origin", is_flag=True, help="Say where each value came from.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: bytes and seconds.")
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path())
def show(paths: tuple[str, ...], with_origin: bool, as_json: bool, given: CommandLine) -> None:
    """Show the effective settings of these flags, the environment and the file."""
    loaded = given.with_packs(paths).load(to_serve=False)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        click.echo(json.dumps(_as_json(loaded, with_origin), indent=2))
    elif sys.stdout.isatty():
        _print_table(_rows(loaded), with_origin)
    else:
        _print_plain(_rows(loaded), with_origin)


@group.command("schema", epilog=_SCHEMA_EPILOG)
def schema() -> None:
    """Print the JSON Schema of configuration files, for editors."""
    from edge_server.config.reference import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@group.command("reference", epilog=_REFERENCE_EPILOG)
def reference() -> None:
    """Print the reference of all settings, in Markdown."""
    from edge_server.config.reference import markdown

    click.echo(markdown(), nl=False)


def _rows(loaded: Loaded) -> list[_Row]:
    from edge_server.config import keys

    return [
        _Row(key, keys.written(key, value), str(loaded.origins[key]), loaded.origins[key].kind == "default")
        for key, value in keys.flatten(loaded.config)
    ]


def _as_json(loaded: Loaded, with_origin: bool) -> dict[str, object]:
    from edge_server.config import keys

    values = {key: keys.jsonable(value) for key, value in keys.flatten(loaded.config)}
    if not with_origin:
        return values
    return {key: {"value": value, "origin": str(loaded.origins[key])} for key, value in values.items()}


def _print_plain(rows: Sequence[_Row], with_origin: bool) -> None:
    key_width = max(len(row.key) for row in rows)
    value_width = max(len(row.value) for row in rows) if with_origin else 0
    for row in rows:
        line = f"{row.key:<{key_width}}  {row.value:<{value_width}}"
        click.echo(f"{line}  {row.origin}" if with_origin else line)


def _print_table(rows: Sequence[_Row], with_origin: bool) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("setting", "value", *(["from"] if with_origin else []), box=SIMPLE)
    for row in rows:
        cells = [row.key, row.value, row.origin][: 3 if with_origin else 2]
        table.add_row(*map(Text, cells), style="dim" if row.is_default else "")
    Console().print(table)
