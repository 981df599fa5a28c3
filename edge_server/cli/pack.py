"""``svc-edge pack``: look into packs, verify them, and compute the hashes that ETags carry.

Reads packs with the code that mounts them, so what passes here is served. Errors end
with their own exit code, 78 for a pack that would not be mounted.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import click

from edge_server.errors import PackError
from edge_server.packs.entry_checks import hash_entries
from edge_server.packs.mount import mount
from edge_server.packs.pmtiles import read_header
from edge_server.packs.pmtiles_header import CODINGS, TILE_TYPES
from edge_server.packs.progress import Progress
from edge_server.packs.reader import Entry, Pack, PackSpec
from edge_server.packs.source import open_regular, opened
from edge_server.packs.tile_ids import id_to_zxy

SAMPLED = 64
OnEvent = Callable[[str, Mapping[str, object]], None]


_EPILOG = """\b
Examples:
  svc-edge pack show world.pmtiles
  svc-edge pack verify world.pmtiles assets/
  svc-edge pack hash assets/
"""
_SHOW_EPILOG = """\b
Examples:
  svc-edge pack show world.pmtiles
  svc-edge pack show world.pmtiles --tiles 20
  svc-edge pack show assets/ --json | jq '.[].entries'
"""
_VERIFY_EPILOG = """\b
Examples:
  svc-edge pack verify world.pmtiles assets/
  svc-edge pack verify --sample 1000 world.pmtiles
  svc-edge pack verify --mode full --threads 8 planet.pmtiles
"""
_HASH_EPILOG = """\b
Examples:
  svc-edge pack hash world.pmtiles
  svc-edge pack hash assets/ > assets.b3
  svc-edge pack hash --check assets.b3 --sample 100 assets/
"""


@click.group(epilog=_EPILOG)
def pack() -> None:
    """Look into packs and verify them."""


@pack.command(epilog=_SHOW_EPILOG)
@click.argument("path", metavar="PACK", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--tiles", default=5, show_default=True, type=click.IntRange(0, 10_000), help="Show the first N tiles."
)
def show(path: str, as_json: bool, tiles: int) -> None:
    """Show what a pack holds: kind, counts, header, bounds, first tiles."""
    described = [_describe(found, tiles) for found in mount([PackSpec(path)], verify="none", on_event=_warn)]
    if as_json:
        click.echo(json.dumps(described, indent=2))
        return
    for description in described:
        _print_table(description)


@pack.command(epilog=_VERIFY_EPILOG)
@click.argument("paths", metavar="PACK...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--mode", type=click.Choice(["index", "full"]), help="How much; full unless there is a --sample."
)
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Objects that index reads, by chance; {SAMPLED} unless told.",
)
@click.option(
    "--threads", default=4, show_default=True, type=click.IntRange(1, 64), help="Threads to hash with."
)
def verify(paths: Sequence[str], mode: str | None, sample: int | None, threads: int) -> int:
    """Verify packs as a server does at start: `index` checks structure and a sample, `full` everything.

    Every pack is tried; the exit code is 78 if one of them fails.
    """
    if mode == "full" and sample is not None:
        raise click.UsageError("--mode full reads everything; leave out --sample")
    mode = mode or ("full" if sample is None else "index")
    failures = 0
    for path in paths:
        try:
            with _progress() as on_event:
                packs = mount(
                    [PackSpec(path)],
                    verify=mode,
                    on_event=on_event,
                    threads=threads,
                    sample=SAMPLED if sample is None else sample,
                )
        except PackError as error:
            failures += 1
            click.echo(f"failed: {error}", err=True)
        else:
            for found in packs:
                click.echo(f"ok: {found.path}: {_summary(found)}")
    return PackError.exit_code if failures else 0


@pack.command(name="hash", epilog=_HASH_EPILOG)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--check", "known", metavar="FILE", type=click.File("r"), help="Compare with what this printed earlier."
)
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="With --check: only so many, by chance."
)
def hash_command(paths: Sequence[str], known: TextIO | None, sample: int | None) -> int:
    """Print the BLAKE3 hash of files, and of all that is served from directories, as in their ETags.

    With --check, exits 78 if what is there now has other hashes, or is not there.
    """
    if known is not None:
        return _compare(paths, _read_hashes(known), sample)
    for path in paths:
        for digest, name in _hashes(path):
            click.echo(f"b3:{digest.hex()}  {name}")
    return 0


def _compare(paths: Sequence[str], known: Mapping[str, str], sample: int | None) -> int:
    """Say which hashes are others than `known`; return the exit code."""
    chosen = set(known) if sample is None else set(random.sample(sorted(known), min(sample, len(known))))
    found = {name: f"b3:{digest.hex()}" for path in paths for digest, name in _hashes(path, chosen)}
    wrong = [name for name in sorted(chosen) if found.get(name) != known[name]]
    for name in wrong:
        click.echo(f"{'changed' if name in found else 'missing'}: {name}", err=True)
    click.echo(f"ok: {len(chosen) - len(wrong):,} of {len(chosen):,}")
    return PackError.exit_code if wrong else 0


def _read_hashes(known: TextIO) -> dict[str, str]:
    """Return hash by name; raises UsageError for what `hash` has not printed."""
    hashes: dict[str, str] = {}
    for number, line in enumerate(known, 1):
        tag, gap, name = line.rstrip("\n").partition("  ")
        if not gap or not tag.startswith("b3:"):
            raise click.UsageError(f"{known.name}:{number}: not a line of svc-edge pack hash")
        hashes[name] = tag
    return hashes


def _hashes(path: str, wanted: Container[str] | None = None) -> Iterator[tuple[bytes, str]]:
    if os.path.isdir(path):
        packs = mount([PackSpec(path)], verify="none", on_event=_warn)
    else:
        packs = [_single_file(path)]
    for found in packs:
        places = [
            place for place, entry in enumerate(found.entries) if wanted is None or entry.path in wanted
        ]
        for place, digest in hash_entries(found, places, Progress()):
            yield digest, found.entries[place].path


def _single_file(path: str) -> Pack:
    fd, file = open_regular(path, os.path.realpath(path))
    os.close(fd)
    return Pack("", "file", path, [file], [Entry(path, 0, 0, file.size, "")])


def _describe(found: Pack, tiles: int) -> dict[str, Any]:
    """Return what is known of a pack, in words and numbers."""
    description: dict[str, Any] = {
        "path": found.path,
        "kind": found.kind,
        "name": found.name,
        "entries": len(found.entries),
        "bytes": sum(file.size for file in found.files),
    }
    if found.kind == "pmtiles":
        description.update(_describe_archive(found, tiles))
    else:
        description["variants"] = sum(len(entry.variants) for entry in found.entries)
    return description


def _describe_archive(found: Pack, tiles: int) -> dict[str, Any]:
    tileset, file = found.tilesets[0], found.files[0]
    with opened(found.path, file) as fd:
        header = read_header(found.path, fd, file.size)
    columns = (tileset.first_ids, tileset.offsets, tileset.lengths)
    rows = zip(*(column[:tiles].tolist() for column in columns), strict=True)
    return {
        "tile type": TILE_TYPES[header.tile_type].label,
        "tile compression": CODINGS.get(header.tile_compression, "unknown") or "none",
        "internal compression": CODINGS[header.internal_compression] or "none",
        "media type": tileset.media_type,
        "addressed tiles": int(tileset.run_lengths.sum(dtype="u8")),
        "tile entries": len(tileset.first_ids),
        "clustered": bool(header.clustered),
        "tilejson": dict(tileset.tilejson),
        "header": header._asdict(),
        "first tiles": [
            {"tile": "/".join(map(str, id_to_zxy(first))), "offset": offset, "length": length}
            for first, offset, length in rows
        ],
    }


def _print_table(description: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for label, value in _lines(description):
        table.add_row(label, value)
    Console(highlight=False, markup=False, soft_wrap=True).print(table)


def _lines(description: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for label, value in description.items():
        if label == "header":
            continue
        if label == "tilejson":
            for key in ("name", "description", "attribution", "bounds", "center", "minzoom", "maxzoom"):
                if key in value:
                    yield "title" if key == "name" else key, str(value[key])
            if "vector_layers" in value:
                yield "layers", ", ".join(layer["id"] for layer in value["vector_layers"]) or "none"
        elif label == "first tiles":
            for tile in value:
                yield f"tile {tile['tile']}", f"{tile['length']} bytes at {tile['offset']}"
        else:
            yield label, f"{value:,}" if type(value) is int else str(value)


def _summary(found: Pack) -> str:
    tiles = sum(int(tileset.run_lengths.sum(dtype="u8")) for tileset in found.tilesets)
    return f"{len(found.entries):,} entries" + (f", {tiles:,} tiles" if tiles else "")


def _warn(name: str, fields: Mapping[str, object]) -> None:
    if fields.get("level") == "warning":
        click.echo(f"warning: {fields.get('path', fields['pack'])}: {fields['reason']}", err=True)


@contextmanager
def _progress() -> Iterator[OnEvent]:
    """Yield a receiver of events: warnings always, a bar on standard error where a person looks."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _warn
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Bars(*columns, TimeRemainingColumn(), console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def on_event(name: str, fields: Mapping[str, Any]) -> None:
            _warn(name, fields)
            if name == "pack_verify":
                place = str(fields["pack"])
                if place not in tasks:
                    tasks[place] = bars.add_task(os.path.basename(place), total=None)
                bars.update(tasks[place], completed=fields["done"], total=fields["total"])

        yield on_event
