"""`svc-edge cas`: look into the disk tier of the store of filled objects, verify and tidy it.

Works on the folder itself. Looking may be done at any time; what changes something asks the
running instance, where one has the folder, or says that it has to be stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from edge_server.cas.shelf import DiskShelf, Held, InUse
from edge_server.cli.drain import AskError, post
from edge_server.cli.flags import CommandLine, settings_flags
from edge_server.cli.targets import batches, query
from edge_server.errors import EdgeError, ResourceError
from edge_server.shm.fill_index import NO_DIGEST, Flag

T = TypeVar("T")

_FOLDER = click.argument("folder", required=False, metavar="[FOLDER]", type=click.Path())
_EPILOG = """\b
Examples:
  svc-edge cas ls /var/cache/svc-edge
  svc-edge cas verify --sample 100 --config /etc/svc-edge.yaml
  svc-edge cas purge --prefix fonts/
"""
_LS_EPILOG = """\b
Examples:
  svc-edge cas ls /var/cache/svc-edge
  svc-edge cas ls --prefix fonts/ --json | jq -r .key
"""
_VERIFY_EPILOG = """\b
Examples:
  svc-edge cas verify /var/cache/svc-edge
  svc-edge cas verify --sample 100 --config /etc/svc-edge.yaml
  svc-edge cas verify --remove
"""
_GC_EPILOG = """\b
Examples:
  svc-edge cas gc /var/cache/svc-edge
"""
_PURGE_EPILOG = """\b
Examples:
  svc-edge cas purge fonts/a.pbf fonts/b.pbf
  svc-edge cas purge --prefix fonts/ --config /etc/svc-edge.yaml
  svc-edge cas purge --prefix '' --folder /var/cache/svc-edge
"""


class DamageError(EdgeError):
    """Bodies that are not what their names say."""


@click.group("cas", epilog=_EPILOG)
def group() -> None:
    """Look into the store of filled objects on the disk (cas.path), verify and tidy it."""


@group.command("ls", epilog=_LS_EPILOG)
@settings_flags
@_FOLDER
@click.option("--prefix", default="", metavar="TEXT", help="Only keys that begin so.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def list_command(given: CommandLine, folder: str | None, prefix: str, as_json: bool) -> None:
    """List what is stored: size, freshness, status, hash, key; the oldest first."""
    now_ms = time.time() * 1000
    shown = [held for held in _shelf(given, folder).held() if held.key.startswith(prefix)]
    for held in shown:
        click.echo(json.dumps(_as_json(held)) if as_json else _as_line(held, now_ms))
    if not as_json:
        bodies = {held.record.digest: held.record.size for held in shown}
        click.echo(f"{_counted(len(shown), 'response')}, {sum(bodies.values()):,} bytes of bodies")


@group.command("verify", epilog=_VERIFY_EPILOG)
@settings_flags
@_FOLDER
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Only so many bodies, by chance.")
@click.option("--remove", "is_removing", is_flag=True, help="Remove what is damaged.")
def verify(given: CommandLine, folder: str | None, sample: int | None, is_removing: bool) -> None:
    """Hash bodies and compare them with their names. Exits 1 if one is damaged or missing."""
    shelf = _shelf(given, folder)
    bodies = shelf.bodies(sample)
    with _progress(bodies) as watched:
        damaged = [digest for digest, size in watched if not shelf.is_whole(digest, size)]
    for digest in damaged:
        click.echo(f"damaged: b3:{digest.hex()}", err=True)
    if is_removing and damaged:
        click.echo(f"removed: {_counted(shelf.remove(damaged), 'response')}")
    elif damaged:
        raise DamageError(f"{len(damaged):,} of {_body_count(len(bodies))} damaged or missing")
    click.echo(f"ok: {_body_count(len(bodies) - len(damaged))}, {sum(size for _, size in bodies):,} bytes")


@group.command("gc", epilog=_GC_EPILOG)
@settings_flags
@_FOLDER
def collect(given: CommandLine, folder: str | None) -> None:
    """Remove what is of no use: bodies without a record, records without a body, temporary files.

    A running instance does this by itself; exits 69 while one has the folder.
    """
    done = _shelf(given, folder).tidy()
    click.echo(
        f"removed: {_body_count(done.bodies)}, {_counted(done.records, 'record')}, "
        f"{_counted(done.temporary, 'temporary file')}; {done.freed_bytes:,} bytes freed"
    )


@group.command("purge", epilog=_PURGE_EPILOG)
@settings_flags
@click.argument("keys", nargs=-1, metavar="KEY...")
@click.option("--prefix", metavar="TEXT", help="All keys that begin so; '' is all.")
@click.option("--folder", metavar="FOLDER", type=click.Path(), help="The store, instead of cas.path.")
def purge(given: CommandLine, keys: tuple[str, ...], prefix: str | None, folder: str | None) -> None:
    """Remove the responses of keys, in all variants, or of all keys that begin with a prefix.

    KEY is the path below /edge/assets/. Where an instance has the folder, it is asked to do so.
    """
    if bool(keys) == (prefix is not None):
        raise click.UsageError("give KEY... or --prefix")
    shelf = _shelf(given, folder)
    try:
        count = _purge(shelf, keys, prefix)
    except InUse:
        count = _ask_to_purge(given, keys, prefix)
    click.echo(f"purged: {_counted(count, 'response')}")


def _purge(shelf: DiskShelf, keys: tuple[str, ...], prefix: str | None) -> int:
    if prefix is not None:
        return shelf.purge(prefix, is_prefix=True)
    return sum(shelf.purge(key, is_prefix=False) for key in keys)


def _ask_to_purge(given: CommandLine, keys: tuple[str, ...], prefix: str | None) -> int:
    config = given.load(to_serve=False).config
    queries = (
        [query("path", batch) for batch in batches(keys)] if prefix is None else [query("prefix", [prefix])]
    )
    count = 0
    for each in queries:
        answer = post(config, f"/api/purge?{each}")
        if answer.status != 200:
            raise AskError(f"not done: {answer.status} {answer.reason or 'and no reason'}")
        count += json.loads(answer.body)["purged"]
    return count


def _shelf(given: CommandLine, folder: str | None) -> DiskShelf:
    """Return the folder that is given, or cas.path of the settings."""
    path = folder or given.load(to_serve=False).config.cas.path
    if path is None:
        raise ResourceError("cas.path is not set, and no FOLDER is given")
    return DiskShelf(path)


def _as_json(held: Held) -> dict[str, Any]:
    record = held.record
    return {
        "key": held.key,
        "hash": None if record.digest == NO_DIGEST else record.digest.hex(),
        "size": record.size,
        "status": record.status,
        "flags": [flag.name for flag in Flag if flag & record.flags & ~Flag.UNVERIFIED],
        "stored_ms": record.stored_ms,
        "fresh_ms": record.fresh_ms,
        "meta": json.loads(record.meta or b"{}"),
    }


def _as_line(held: Held, now_ms: float) -> str:
    record = held.record
    state = "fresh" if record.fresh_ms > now_ms else "stale"
    name = "varies" if record.digest == NO_DIGEST else record.digest.hex()[:16]
    return f"{record.size:>12,}  {state}  {record.status}  {name:16}  {json.dumps(held.key)[1:-1]}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _body_count(count: int) -> str:
    return f"{count:,} {'body' if count == 1 else 'bodies'}"


@contextmanager
def _progress(items: Iterable[T]) -> Iterator[Iterable[T]]:
    """Yield the items, with a bar on standard error where a person looks."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield items
        return
    from rich.progress import track

    yield track(list(items), "verifying", console=console, transient=True)
