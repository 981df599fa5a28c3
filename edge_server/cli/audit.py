"""`svc-edge audit`: hold an audit chain against itself. Reads files; changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import BinaryIO

import click

from edge_server.errors import EdgeError, ResourceError
from edge_server.observe.audit_verify import Line, Verifier

_SHOWN = 20
_EPILOG = """\b
Examples:
  svc-edge audit verify /var/log/svc-edge/audit.log
  svc-edge audit verify audit.log.2 audit.log.1 audit.log
  journalctl -u svc-edge -o cat | svc-edge audit verify --mixed -
  svc-edge audit verify --expect "$(cat /safe/head)" audit.log
"""


class BrokenError(EdgeError):
    """A chain that is not as it was written."""


@click.group("audit", epilog=_EPILOG)
def group() -> None:
    """Verify the audit chain (audit.enabled)."""


@group.command("verify", epilog=_EPILOG)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@click.option("--mixed", is_flag=True, help="Other lines stand between records, as on standard output.")
@click.option("--expect", metavar="HASH", help="The head that an earlier run has printed; it must be there.")
def verify(files: tuple[str, ...], mixed: bool, expect: str | None) -> None:
    """Find a record that was changed, dropped, inserted or moved.

    The oldest FILE comes first; - is standard input. Exits 1 if there is such a record, and names its
    line. Prints the head of the chain: keep it elsewhere and give it as --expect, as a chain alone cannot
    tell that its last records are missing. With --mixed a chain may end and another begin, which is told.
    """
    expected = None if expect is None else expect.strip().lower()
    verifier = Verifier(is_mixed=mixed, may_begin_again=mixed, expected=expected)
    errors = 0
    for finding in verifier.findings(_lines(files)):
        errors += finding.is_error
        if errors <= _SHOWN or not finding.is_error:
            word = "error" if finding.is_error else "note"
            click.echo(f"{word}: {finding.file}:{finding.number}: {finding.text}", err=True)
    if not verifier.has_expected:
        errors += 1
        click.echo(f"error: no record is {expected}: the last ones are missing, or all is new", err=True)
    if not verifier.records:
        raise ResourceError("there is no audit record in it")
    click.echo(f"records: {verifier.records}\nhead: {verifier.head} (record {verifier.seq})")
    if errors:
        raise BrokenError(f"the chain is broken: {errors} finding" + ("" if errors == 1 else "s"))
    click.echo("ok")


def _lines(files: tuple[str, ...]) -> Iterator[Line]:
    for name in files:
        if name == "-":
            yield from _lines_of("standard input", sys.stdin.buffer)
            continue
        try:
            with open(name, "rb") as file:
                yield from _lines_of(name, file)
        except OSError as error:
            raise ResourceError(f"{name} cannot be read: {error.strerror}") from error


def _lines_of(name: str, file: BinaryIO) -> Iterator[Line]:
    number = 0
    while data := file.readline():
        number += 1
        yield Line(name, number, data.removesuffix(b"\n"), data.endswith(b"\n"))
