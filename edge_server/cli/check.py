"""`svc-edge check`: would `serve` start with this? Reads everything, serves nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from edge_server.cli.flags import CommandLine, settings_flags

if TYPE_CHECKING:
    from edge_server.config.schema import Config
    from edge_server.packs.reader import Pack


_EPILOG = """\b
Examples:
  svc-edge check --config configs/svc-edge.yaml
  svc-edge check --config configs/hardened.yaml --no-packs
  svc-edge check --verify full world.pmtiles assets/
"""


@click.command("check", epilog=_EPILOG)
@settings_flags
@click.option("--no-packs", is_flag=True, help="Judge the settings alone: packs and files may be elsewhere.")
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path())
def command(paths: tuple[str, ...], no_packs: bool, given: CommandLine) -> None:
    """Check the configuration, and read and verify its packs.

    Takes what `serve` takes. Exits 0 when serve would start with it, and 78 with every
    problem named when it would not.
    """
    loaded = given.with_packs(paths).load(to_serve=not no_packs)
    for warning in loaded.warnings:
        _warn(warning)
    click.echo(f"settings: ok ({given.path or 'no file'})")
    if not no_packs:
        _check_packs(loaded.config)


def _check_packs(config: Config) -> None:
    from edge_server.packs.mount import mount
    from edge_server.packs.reader import PackSpec

    started = time.monotonic()
    specs = [PackSpec(source.path, source.name, source.verify) for source in config.edge.packs]
    packs = mount(specs, verify=config.edge.verify, on_event=_tell)
    for pack in packs:
        click.echo(f"pack: ok {pack.path} ({pack.kind}, {_counted([pack])})")
    took_s = time.monotonic() - started
    many = "pack" if len(packs) == 1 else "packs"
    click.echo(f"ok: {len(packs)} {many}, {_counted(packs)}, verify {config.edge.verify}, {took_s:.1f} s")


def _counted(packs: list[Pack]) -> str:
    entries = sum(len(pack.entries) for pack in packs)
    tiles = sum(int(tileset.run_lengths.sum()) for pack in packs for tileset in pack.tilesets)
    return f"{entries:,} entries, {tiles:,} tiles"


def _tell(event: str, fields: Mapping[str, object]) -> None:
    """Show what mounting left out, and to a person how far verification is."""
    if fields.get("level") == "warning":
        _warn(f"{fields.get('path', fields['pack'])}: {fields['reason']}")
    elif event == "pack_verify" and sys.stderr.isatty():
        done = fields["done"] == fields["total"]
        line = f"verifying {fields['pack']}: {fields['done']:,} of {fields['total']:,}"
        click.echo(f"\r{line}\x1b[K", err=True, nl=done)


def _warn(text: str) -> None:
    click.echo(f"warning: {text}", err=True)
