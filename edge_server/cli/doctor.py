"""`svc-edge doctor`: what of this machine makes the server slow or unable to run.

The checks are in ``machine.py``; here they are put in order, with the configured ports,
and printed. Changes nothing. Exits 1 when something must be repaired, else 0.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_server.cli import machine
from edge_server.cli.machine import Finding
from edge_server.errors import EdgeError

if TYPE_CHECKING:
    from edge_server.config.schema import Config


_EPILOG = """\b
Examples:
  svc-edge doctor
  svc-edge doctor --config /etc/svc-edge.yaml
  svc-edge doctor --json | jq '.checks[] | select(.status != "ok")'
"""


@click.command("doctor", epilog=_EPILOG)
@click.option(
    "-c", "--config", "path", metavar="FILE", type=click.Path(), help="The file whose ports are checked."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(path: str | None, as_json: bool) -> int:
    """Check interpreter, bjoern, libev, limits, CPUs, shared memory and ports."""
    findings = list(examine(path))
    if as_json:
        click.echo(
            json.dumps({"ok": is_healthy(findings), "checks": [found._asdict() for found in findings]})
        )
    elif sys.stdout.isatty():
        _print_table(findings)
    else:
        _print_plain(findings)
    return 0 if is_healthy(findings) else 1


def is_healthy(findings: list[Finding]) -> bool:
    """Whether nothing has to be repaired before the server can run."""
    return all(found.status != "fail" for found in findings)


def examine(path: str | None = None) -> Iterator[Finding]:
    """Yield the findings in the order in which a person would repair them."""
    from edge_server.supervisor.pinning import usable_cpus
    from edge_server.supervisor.room import needed_bytes

    config, trouble = _read_config(path)
    yield machine.check_platform(sys.platform, platform.release())
    yield machine.check_python(
        sys.version_info[:3], is_free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    )
    yield machine.check_build(
        sys.base_prefix, sysconfig.get_config_var("CONFIG_ARGS") or "", machine.os_ids()
    )
    yield from machine.check_bjoern()
    yield machine.check_descriptors(
        resource.getrlimit(resource.RLIMIT_NOFILE), config.ingress.max_connections
    )
    yield machine.check_backlog("somaxconn", machine.sysctl("net/core/somaxconn"))
    yield machine.check_backlog("tcp_max_syn_backlog", machine.sysctl("net/ipv4/tcp_max_syn_backlog"))
    yield machine.check_cpus(usable_cpus(), os.cpu_count() or 1)
    yield machine.check_shared_memory(Path("/dev/shm"), needed_bytes(config))
    yield trouble or check_ports(config)


def check_ports(config: Config) -> Finding:
    """Whether both addresses can be bound now; a running instance holds them too."""
    from edge_server.supervisor.listen import bind_alone

    addresses = (config.bind_addr, config.metrics_addr)
    for address in addresses:
        try:
            bind_alone(address).close()
        except EdgeError as error:
            return Finding("ports", "warn", str(address), f"{error}; harmless if it is the running svc-edge")
    return Finding("ports", "ok", " and ".join(map(str, addresses)) + " are free")


def _read_config(path: str | None) -> tuple[Config, Finding | None]:
    from edge_server.config.load import load
    from edge_server.config.schema import Config

    try:
        return load(path, flags={}, environ=os.environ, to_serve=False).config, None
    except EdgeError as error:
        remedy = "svc-edge check" if path is None else f"svc-edge check --config {path}"
        return Config(), Finding("configuration", "fail", str(error), remedy)


def _print_plain(findings: list[Finding]) -> None:
    for found in findings:
        click.echo(f"{found.status:4}  {found.check}: {found.seen}")
        if found.remedy:
            click.echo(f"      {found.remedy}")


def _print_table(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    table = Table("check", "", "seen", "what to do", title="svc-edge doctor", title_justify="left")
    for found in findings:
        mark = Text(found.status, style=colours[found.status])
        table.add_row(found.check, mark, Text(found.seen), Text(found.remedy))
    Console().print(table)
