"""`svc-edge profile`: a flame graph of a running worker or sidecar, by py-spy, without restarting it.

py-spy is an optional extra; it reads the process from outside and stops it for a fraction of a millisecond at
each sample. Which process: the one that ``/api/status`` names, if it is one of this service on this machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import click

from edge_server.cli.admin_address import admin_option, read_status
from edge_server.errors import EdgeError, ResourceError

if TYPE_CHECKING:
    from edge_server.config.addresses import Address

_RATE = 200
_GRACE_S = 30  # beyond the sampling itself: looking up symbols takes a while with --native
_SAMPLES = re.compile(r"Samples: (\d+)")
_DENIED = ("Permission Denied", "Operation not permitted", "EPERM")

_EPILOG = """\b
Examples:
  svc-edge profile
  svc-edge profile --slot 1 --seconds 30 -o worker1.svg
  svc-edge profile --native --rate 500
  svc-edge profile --sidecar --admin http://127.0.0.1:9910

\b
Needs py-spy: pip install 'svc-edge[profile]'. Reading another process needs the right to trace it:
root, or CAP_SYS_PTRACE; in a container, start that with --cap-add SYS_PTRACE.
"""


class ProfileError(EdgeError):
    """No flame graph was made."""


@click.command("profile", epilog=_EPILOG)
@admin_option
@click.option(
    "--slot", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Of the worker."
)
@click.option("--sidecar", "is_sidecar", is_flag=True, help="The sidecar instead of a worker.")
@click.option("--seconds", type=click.IntRange(1, 3600), default=10, show_default=True, help="How long.")
@click.option(
    "--rate", type=click.IntRange(1, 1000), default=_RATE, show_default=True, help="Samples a second."
)
@click.option(
    "-o", "--output", metavar="FILE.svg", type=click.Path(dir_okay=False), help="Where to write it."
)
@click.option(
    "--native", "is_native", is_flag=True, help="Show native code, too, such as the guard and libev."
)
@click.option("--idle", "is_idle", is_flag=True, help="Count time in which it only waits, too.")
def command(
    admin: Address,
    slot: int,
    is_sidecar: bool,
    seconds: int,
    rate: int,
    output: str | None,
    is_native: bool,
    is_idle: bool,
) -> None:
    """Write a flame graph (SVG) of a running worker or sidecar."""
    tool = _find_tool()
    row = _process(admin, None if is_sidecar else slot)
    path = output or f"svc-edge-{row['identity']}.svg"
    options = [*(["--native"] if is_native else []), *(["--idle"] if is_idle else [])]
    click.echo(f"{row['identity']}, process {row['pid']}: {seconds} s", err=True)
    samples = _record(tool, int(row["pid"]), path, seconds, ["--rate", str(rate), *options])
    click.echo(f"{path}: {samples:,} samples")
    if not samples:
        click.echo("it did nothing but wait; ask it for something meanwhile, or give --idle", err=True)


def _find_tool() -> str:
    """Return the path of py-spy: the one of this environment first."""
    here = os.path.dirname(sys.executable)
    found = shutil.which("py-spy", path=os.pathsep.join([here, os.environ.get("PATH", os.defpath)]))
    if found is None:
        raise ResourceError("py-spy is not installed; pip install 'svc-edge[profile]'")
    return found


def _process(admin: Address, slot: int | None) -> dict[str, Any]:
    """Return the row of the process that serves a slot, or of the sidecar.

    Raises:
        ResourceError: no instance, none with that slot, or its processes are not on this machine.
    """
    from edge_server.cli import local_process

    status = read_status(admin)
    rows = status["sidecars"] if slot is None else status["workers"]
    serving = [row for row in rows if row["state"] == "serving" and slot in (None, row["slot"])]
    if not serving:
        known = sorted({row["slot"] for row in rows})
        where = (
            "sidecar" if slot is None else f"worker in slot {slot}; slots are {', '.join(map(str, known))}"
        )
        raise ResourceError(f"the instance at {admin} has no serving {where}")
    row = dict(serving[0])
    if local_process.find(row["pid"]) is None:
        raise ResourceError(
            f"process {row['pid']} of the instance at {admin} is on another machine or in another "
            "container: run this where it is"
        )
    return row


def _record(tool: str, pid: int, path: str, seconds: int, options: list[str]) -> int:
    """Have py-spy write `path`, whole or not at all; return the number of samples.

    It writes into a folder of its own first: nobody can lay a link under a name that is not known.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".svc-edge-", dir=os.path.dirname(path) or ".") as folder:
            part = os.path.join(folder, "part.svg")
            line = [tool, "record", "--pid", str(pid), "--duration", str(seconds), "--output", part, *options]
            done = subprocess.run(
                line,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds + _GRACE_S,
                env={**os.environ, "RUST_BACKTRACE": "0"},
                check=False,
            )
            if done.returncode != 0:
                raise _told(pid, done.stderr)
            os.replace(part, path)
    except subprocess.TimeoutExpired as error:
        raise ProfileError(f"py-spy has not ended {_GRACE_S} s after the last sample") from error
    except OSError as error:
        raise ProfileError(f"{path}: cannot be written: {error.strerror}") from error
    found = _SAMPLES.search(done.stdout + done.stderr)
    return int(found[1]) if found else 0


def _told(pid: int, words: str) -> EdgeError:
    """Return what a failure of py-spy means, with the remedy where there is one."""
    if any(each in words for each in _DENIED) or not _is_readable(pid):
        return ResourceError(
            f"process {pid} may not be traced by this user: run this as root, or with CAP_SYS_PTRACE; in a "
            f"container, start that with --cap-add SYS_PTRACE, or run this on its host{_yama()}"
        )
    lines = [line for line in words.splitlines() if line.strip()]
    return ProfileError(f"py-spy: {lines[0] if lines else 'ended without a word'}")


def _is_readable(pid: int) -> bool:
    """Whether the kernel lets this user look at a process. Source: proc(5), /proc/pid/exe."""
    try:
        os.readlink(f"/proc/{pid}/exe")
    except PermissionError:
        return False
    except OSError:
        pass  # it is gone, which is another matter
    return True


def _yama() -> str:
    """Return what the kernel's own setting adds; empty where it forbids nothing. Source: ptrace(2)."""
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as file:
            scope = int(file.read())
    except (OSError, ValueError):
        return ""
    if scope >= 3:
        return "; kernel.yama.ptrace_scope is 3: nothing may be traced before the next boot"
    return f"; kernel.yama.ptrace_scope is {scope}" if scope else ""
