"""The runbook is true: its commands are run as they stand, in their order, in one shell.

Where the manual says one port this says another, since the usual ones may be taken; the origin of its
examples is one on loopback; and what takes minutes there takes seconds here.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from edge_server.cli.main import COMMANDS
from tests.live import HOST as ORIGIN_HOST
from tests.live import Authority, Origin, https_origin
from tests.origins import ok
from tests.servers import environment
from tests.worlds import World, write

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs/RUNBOOK.md").read_text()
RUN = "bash"
ELSEWHERE = {"bash docker", "bash systemd", "bash cluster", "bash root"}  # need more than a machine
OTHER = {"promql"}
WITHIN_S = 280
PORTS = (8080, 9909, 9000)

# What the manual says, and what is said here. A drill of seconds on a busy machine measures no latency.
SHORTER = (
    ("--seconds 180", "--seconds 8 --fault kill-worker --p95-floor 5s --ready-within 20s"),
    ("--seconds 10 ", "--seconds 2 "),
)

# A piece of a block, and what its output must have.
EXPECTED = (
    (
        "--retry-all-errors http://127.0.0.1:9909/readyz\ncurl -sf http://127.0.0.1:8080/readyz",
        '"ready": true',
    ),
    ("{ready, mode, bind_addr", '"ready":1,"mode":"offline"'),
    ("{ready, mode, bind_addr", 'ETag: "b3:'),
    ('select(.event == "drain")', "exit code 0"),
    ("nothing.pmtiles", "did you mean log.level?"),
    ("nothing.pmtiles", "exit code 78\n"),
    ("check --config configs/svc-edge.toml", "ok: 2 packs"),
    ("{ready, degraded, missing", '"missing":[]'),
    ("svc-edge top --once", "serving"),
    ("svc-edge top --once", "200 text/html"),
    ("| jq -c .missing", "[]"),
    ("/no/such/thing", "X-Reason: not_found"),
    ("/no/such/thing", "\n416\n"),
    ("/no/such/thing", 'rejected_total{reason="invalid_range"} 1.0'),
    ("sort -rn", "not_found"),
    ("@tsv", "\tready\t"),
    ("'X-Corr-ID: incident-42'", '"reason":"not_found"'),
    ("{ready, requests, latency_ms", '"ready": true'),
    ("svc-edge profile", "worker.svg"),
    ("wrong.yaml", "generation 2 is served"),
    ("wrong.yaml", "exit code 78"),
    ("world.saved", "exit code 78"),
    ("world.saved", "generation 3 is served"),
    ("| grep amnesia", "cas.path"),
    ("for port in", "8080 ready"),
    ("for port in", "9909 ready"),
    ("font.pbf", "fwd=miss; stored"),
    ("@other.example.org", "403\n"),
    ("@other.example.org", "edge_live_fill_success_total"),
    ("svc-edge cas purge", "purged: 1 response"),
    ("--check data.b3", "ok: 1"),
    ("grep -i '^etag'", "etag: "),
    ("svc-edge cas verify --sample", "ok: 1 body, 600 bytes"),
    ("svc-edge cas verify --sample", "fonts/a.pbf"),
    ("svc-edge cas gc", "removed: "),
    ("touch drain.flag", "not_draining"),
    ("touch drain.flag", "still served"),
    ("svc-edge undrain", "out of rotation"),
    ("ls drill-report", "report.json"),
    ("kill -KILL", 'service_restarts_total{component="worker"} '),
    ("ingress.rps_burst=5", " 429"),
    ("ingress.rps_burst=5", 'rejected_total{reason="rate_limit"}'),
    ("evil.example", "403\n"),
    ("evil.example", "no CORS field"),
    ("configs/appliance.yaml", "settings: ok"),
    ("drill proxy --listen", "200 0."),
)


class Block(NamedTuple):
    """A fenced block: its info string, its text, the line it begins in."""

    mark: str
    text: str
    line: int


def blocks() -> list[Block]:
    found = re.finditer(r"^```([a-z ]*)\n(.*?)^```$", RUNBOOK, re.MULTILINE | re.DOTALL)
    return [Block(each[1], each[2], RUNBOOK.count("\n", 0, each.start()) + 1) for each in found]


def test_every_block_has_a_mark_that_says_where_it_runs() -> None:
    fences = re.findall(r"^```.*$", RUNBOOK, re.MULTILINE)
    assert len(fences) == 2 * len(blocks())
    assert {block.mark for block in blocks()} == {RUN, *ELSEWHERE, *OTHER}
    assert sum(block.mark == RUN for block in blocks()) > 30


@pytest.mark.parametrize(
    "block", [each for each in blocks() if each.mark in ELSEWHERE], ids=lambda block: f"line {block.line}"
)
def test_a_block_for_elsewhere_is_at_least_a_script(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_metric_of_the_manual_is_one_of_this_version() -> None:
    known = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs/METRICS.md").read_text()))
    queries = "\n".join(block.text for block in blocks() if block.mark == "promql")
    named = set(re.findall(r"\b((?:edge|http|request|rejected|io|fill)_[a-z_]+)\b", queries))
    assert {re.sub("_bucket$", "", name) for name in named} - known == set()


def test_every_command_is_in_the_manual() -> None:
    table = RUNBOOK.partition("## A. Commands")[2].partition("\n## ")[0]
    assert set(COMMANDS) - set(re.findall(r"`([a-z]+)`", table)) == set()


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[tuple[Origin, Authority]]:
    """An origin in the place of tiles.example.org."""
    (tmp_path / "authority").mkdir()
    with https_origin(authority := Authority(tmp_path / "authority")) as made:
        made.answers["/fonts/a.pbf"] = ok(b"glyphs" * 100, "Cache-Control: max-age=600")
        yield made, authority


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq (Debian package jq)")
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl (Debian package curl)")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: its flame graph traces another process")
def test_every_command_that_runs_on_one_machine_does_what_the_manual_says(
    world: World, origin: tuple[Origin, Authority], tmp_path: Path
) -> None:
    place = tmp_path / "place"
    _prepare(place, world)
    runnable = [block for block in blocks() if block.mark == RUN]
    ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
    texts = [_here(block.text, ports, f"{ORIGIN_HOST}:{origin[0].port}") for block in runnable]
    code, shown = _run(texts, place, _environment(ports, origin[1]))
    last = len(shown) - 1
    assert code == 0, f"line {runnable[last].line}:\n{texts[last]}\n{shown[last]}"
    assert len(shown) == len(texts)
    assert [
        told for piece, words in EXPECTED for told in _unseen(piece, _here(words, ports, ""), runnable, shown)
    ] == []


def _unseen(piece: str, words: str, runnable: list[Block], shown: list[str]) -> Iterator[str]:
    """Yield what a block should have shown and has not; names of fields are in any case."""
    (index,) = (index for index, block in enumerate(runnable) if piece in block.text)
    if words.lower() not in shown[index].lower():
        yield f"line {runnable[index].line}: no {words!r} in\n{shown[index]}"


def _prepare(place: Path, world: World) -> None:
    """Make what a checkout has after `make demo ONCE=1`."""
    shutil.copytree(ROOT / "configs", place / "configs")
    shutil.copytree(world.folder, place / "demo/assets")
    shutil.copy(world.archive, place / "demo/world.pmtiles")
    write(place / "demo/assets/index.html", b"<!doctype html><title>demo</title>\n")


def _environment(ports: dict[int, int], authority: Authority) -> dict[str, str]:
    return environment(
        {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SVC_EDGE_BIND_ADDR": f"127.0.0.1:{ports[8080]}",
            "SVC_EDGE_METRICS_ADDR": f"127.0.0.1:{ports[9909]}",
            "SVC_EDGE_FILL__CA_BUNDLE": str(authority.bundle),
            "SVC_EDGE_FILL__ALLOW_PRIVATE": "127.0.0.0/8,::1/128",
        }
    )


def _here(text: str, ports: dict[int, int], origin: str) -> str:
    """Return a block as it is run here."""
    for port, other in ports.items():
        text = re.sub(rf"(?<!\d){port}(?!\d)", str(other), text)
    for said, shorter in SHORTER:
        text = text.replace(said, shorter)
    return text.replace("tiles.example.org", origin)


def _run(texts: list[str], place: Path, environ: dict[str, str]) -> tuple[int, list[str]]:
    """Run blocks in one shell, up to the first command that fails; return its code and what each showed."""
    mark = "@@@ next block"
    script = place / "runbook.sh"
    script.write_text("set -e\n" + "".join(f"echo '{mark}'\n{text}\n" for text in texts))
    with (place / "shown").open("wb") as out:
        shell = subprocess.Popen(
            ["bash", "--norc", str(script)],
            cwd=place,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            _end(shell)
    shown = (place / "shown").read_text(errors="replace")
    return code, shown.split(f"{mark}\n")[1:]


def _end(shell: subprocess.Popen[bytes]) -> None:
    """End whatever the shell has left running."""
    try:
        os.killpg(shell.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    shell.wait()


def _free_ports(count: int) -> list[int]:
    """Return ports below those that the kernel gives by itself, so that nobody gets them meanwhile."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            break
    return found
