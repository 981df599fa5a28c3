"""wrk as the source of load: one thread, 64 connections, pinned to its own CPU.

A counted run looks at the status and length of every answer; a timed run only at
wrk's own error counters and the bytes received, which costs wrk nothing.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import BenchError
from bench.cases import Request

CONNECTIONS = 64
_HERE = Path(__file__).parent
_GRACE_S = 30


class Summary(NamedTuple):
    """What wrk saw in one run."""

    requests: int
    seconds: float
    bytes_in: int
    p50_us: int
    p99_us: int
    errors: dict[str, int]
    statuses: dict[str, int]  # counted runs only
    wrong_bytes: int  # counted runs only


def write_requests(path: Path, requests: Sequence[Request]) -> None:
    """Write the list that load.lua reads."""
    lines = ("\t".join([r.path, *(f"{name}: {value}" for name, value in r.fields)]) for r in requests)
    path.write_text("\n".join(lines) + "\n")


def write_scripts(folder: Path) -> None:
    """Write the two scripts of `run`: wrk takes one file, so the counted one is a concatenation."""
    plain, counting = (_HERE / "load.lua").read_text(), (_HERE / "count.lua").read_text()
    (folder / "timed.lua").write_text(plain)
    (folder / "counted.lua").write_text(plain + counting)


def run(
    scripts: Path, requests: Path, port: int, *, cpu: int, seconds: int, counted: bool, body_bytes: int | None
) -> Summary:
    """Load a server for some seconds.

    Args:
        scripts: folder of `write_scripts`.
        requests: file of `write_requests`.
        port: the server's, on 127.0.0.1.
        cpu: what wrk is bound to.
        seconds: whole seconds; wrk knows no other.
        counted: look at every answer.
        body_bytes: how long every body must be; None where lengths differ.

    Raises:
        BenchError: wrk failed or reported nothing.
    """
    script = scripts / ("counted.lua" if counted else "timed.lua")
    command = [
        "taskset",
        "-c",
        str(cpu),
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "--timeout",
        "5s",
    ]
    command += ["-s", str(script), f"http://127.0.0.1:{port}/", "--", str(requests)]
    command += [str(-1 if body_bytes is None else body_bytes)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + _GRACE_S)
    last = said.stdout.strip().splitlines()[-1:]
    if said.returncode or not last or not last[0].startswith("{"):
        raise BenchError(f"wrk failed with {said.returncode}: {said.stdout[-500:]}{said.stderr[-500:]}")
    return _summary(json.loads(last[0]))


def _summary(record: dict[str, Any]) -> Summary:
    return Summary(
        requests=record["requests"],
        seconds=record["duration_us"] / 1e6,
        bytes_in=record["bytes"],
        p50_us=record["p50_us"],
        p99_us=record["p99_us"],
        errors=record["errors"],
        statuses=record["statuses"],
        wrong_bytes=record["wrong_bytes"],
    )
