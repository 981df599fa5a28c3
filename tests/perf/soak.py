"""A long mixed load on a real instance; fails if memory, descriptors or threads of a process grow.

    python -m tests.perf.soak --minutes 30        make soak MINUTES=30

Paced clients ask for whole objects, ranges, tiles and 304s and check every byte; a rude one asks
for what is refused, leaves early and comes back. Each process of the instance is looked at every
few seconds, into a CSV. Judged is the second half, by `trends.judge`: what has grown by more than
`ALLOWED` over it fails, as does a wrong or lost answer, or a process that was replaced.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from edge_server.config.addresses import Address, parse_address
from edge_server.drill.clients import Client, sweep
from edge_server.drill.instance import Instance
from edge_server.drill.journal import Journal
from edge_server.drill.targets import Questions, discover
from tests.perf import trends
from tests.perf._timing import machine
from tests.perf.soak_requests import wait_until_ready
from tests.servers import COMMAND, Place, environment
from tests.wire import Connection
from tests.worlds import make_world

CONNECTIONS = 16
RATE = 300.0  # requests a second: half a core of two, so that others can work beside it
RUDE_EVERY_S = 0.05
SAMPLES = 240  # over the whole run
MIN_PERIOD_S, MAX_PERIOD_S = 0.5, 10.0

# What may be grown over the judged half and is still noise: the greater of a number and a share.
ALLOWED: Mapping[str, tuple[float, float]] = {
    "rss_bytes": (1 << 20, 0.02),
    "pss_bytes": (1 << 20, 0.02),
    "fds": (8, 0.0),
    "threads": (0.5, 0.0),
}
PATHS = ("hello.txt", "bytes.bin", "edge.bin", "big.bin", "style.css", "empty.bin", "offline.zip")

# A request line and fields, and the status that it must get.
RUDE: Sequence[tuple[str, str, dict[str, str], int]] = (
    ("GET", "/edge/assets/nothing", {}, 404),
    ("GET", "/edge/assets/bytes.bin", {"Range": "bytes=5000-"}, 416),
    ("GET", "/edge/assets/style.css", {"Accept-Encoding": "identity;q=0, *;q=0"}, 406),
    ("GET", "/edge/assets/hello.txt", {"If-Match": '"b3:00"'}, 412),
    ("POST", "/edge/assets/hello.txt", {}, 405),
    ("HEAD", "/edge/assets/big.bin", {}, 200),
    ("OPTIONS", "/edge/assets/hello.txt", {}, 204),
    ("GET", "/healthz", {}, 200),
    ("GET", "/readyz", {}, 200),
    ("GET", "/edge/assets/%zz", {}, 400),
)


class Sample(NamedTuple):
    """One process at one moment; `process` is its title, e.g. ``worker 0``."""

    at_s: float
    process: str
    pid: int
    rss_bytes: int
    pss_bytes: int
    fds: int
    threads: int


class Finding(NamedTuple):
    """One series, judged."""

    process: str
    what: str
    last: float
    trend: trends.Trend


def judge(samples: Sequence[Sample]) -> list[Finding]:
    """Return a finding for each process and quantity.

    Raises:
        ValueError: there are too few samples of a process.
    """
    findings = []
    for process, pid in dict.fromkeys((sample.process, sample.pid) for sample in samples):
        own = [sample for sample in samples if sample.pid == pid]
        times = [sample.at_s for sample in own]
        judged = own[trends.second_half(times)]
        for what, (least, share) in ALLOWED.items():
            values = [float(getattr(sample, what)) for sample in judged]
            allowed = max(least, share * values[0])
            trend = trends.judge([sample.at_s for sample in judged], values, allowed)
            findings.append(Finding(f"{process} ({pid})", what, values[-1], trend))
    return findings


def look(supervisor: psutil.Process, at_s: float) -> list[Sample]:
    """Return a sample of every process of an instance."""
    samples = []
    for process in (supervisor, *supervisor.children()):
        with process.oneshot():
            memory = process.memory_full_info()
            title = "supervisor" if process is supervisor else process.cmdline()[0].removeprefix("svc-edge: ")
            samples.append(
                Sample(
                    *(round(at_s, 3), title, process.pid, memory.rss, memory.pss),
                    *(process.num_fds(), process.num_threads()),
                )
            )
    return samples


async def be_rude(assets: Place, until_s: float) -> tuple[int, list[str]]:
    """Ask for what is refused, and leave early; return how often, and what was answered wrongly."""
    count, wrong = 0, []
    while time.monotonic() < until_s:
        method, target, fields, status = RUDE[count % len(RUDE)]
        got = await asyncio.to_thread(ask_rudely, assets, method, target, fields)
        if got != status:
            wrong.append(f"{method} {target}: {got}, not {status}")
        count += 1
        await asyncio.sleep(RUDE_EVERY_S)
    return count, wrong


def ask_rudely(assets: Place, method: str, target: str, fields: Mapping[str, str]) -> int:
    """Return the status of an answer; leave behind a connection that was reset amid a body."""
    with Connection(assets) as connection:
        status = connection.ask(target, method, fields).status
    with Connection(assets, receive_buffer=4096) as leaver:
        leaver.send("/edge/assets/big.bin")
        leaver.socket.recv(1000)
        leaver.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return status


async def soak(admin: Address, supervisor: int, seconds: float, out: Path) -> list[str]:
    """Run it; return what is wrong, nothing if all is well."""
    instance = await Instance.find(admin)
    objects, problems = await discover(instance.assets, instance.first["packs"], PATHS)
    assert not problems, problems
    journal = Journal()
    clients = [
        Client(number, instance.assets, Questions(objects, number), journal, CONNECTIONS / RATE)
        for number in range(CONNECTIONS)
    ]
    until_s = time.monotonic() + seconds
    load = [asyncio.ensure_future(client.run()) for client in clients]
    sweeping = asyncio.ensure_future(sweep(clients))
    rude = asyncio.ensure_future(be_rude(Place(*instance.assets), until_s))
    try:
        samples = await watch(psutil.Process(supervisor), until_s, seconds, out)
        for client in clients:
            client.stop()
        await asyncio.gather(*load)
        rude_count, rude_wrong = await rude
    finally:
        for task in (*load, sweeping, rude):
            task.cancel()
        await asyncio.gather(*load, sweeping, rude, return_exceptions=True)
    print(f"{len(journal):,} paced and {rude_count:,} rude requests in {seconds:.0f} s: {machine()}")
    wrong = [f"{one.path}: {one.what}" for one in journal.wrong] + rude_wrong
    lost = [f"lost after {one.ended_s - one.began_s:.3f} s: {one.error}" for one in journal.losses]
    return [*wrong, *lost, *report(samples)]


async def watch(supervisor: psutil.Process, until_s: float, seconds: float, out: Path) -> list[Sample]:
    """Sample until then, into `out` as well."""
    period_s = min(MAX_PERIOD_S, max(MIN_PERIOD_S, seconds / SAMPLES))
    samples: list[Sample] = []
    began_s = time.monotonic()
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(Sample._fields)
        while time.monotonic() < until_s:
            taken = await asyncio.to_thread(look, supervisor, time.monotonic() - began_s)
            rows.writerows(taken)
            file.flush()
            samples += taken
            await asyncio.sleep(period_s)
    return samples


def report(samples: Sequence[Sample]) -> list[str]:
    """Print every series; return those that rise, and what else must not have happened."""
    problems = []
    processes = dict.fromkeys((sample.process, sample.pid) for sample in samples)
    titles = [title for title, _ in processes]
    for title in dict.fromkeys(title for title in titles if titles.count(title) > 1):
        problems.append(f"{title}: was replaced during the soak")
    for finding in judge(samples):
        trend = finding.trend
        mark = "RISING" if trend.is_rising else "ok"
        print(
            f"  {finding.process:32} {finding.what:10} {finding.last:14,.0f} last "
            f"{trend.growth:+13,.1f} grown, {trend.allowed:11,.1f} allowed  {mark}"
        )
        if trend.is_rising:
            problems.append(
                f"{finding.process}: {finding.what} grew by {trend.growth:,.0f} over the second half"
            )
    return problems


def main(minutes: float, out: Path) -> int:
    """Return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder))
        line = ["serve", "--bind", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--workers", "2"]
        process = subprocess.Popen(
            [*COMMAND, *line, *map(str, world.packs)], stdout=subprocess.PIPE, text=True, env=environment()
        )
        try:
            told = wait_until_ready(process)
            admin = parse_address(told["metrics_addr"])
            problems = asyncio.run(soak(admin, process.pid, minutes * 60, out))
        finally:
            process.terminate()
            code = process.wait(30)
    problems += [] if code == 0 else [f"the instance ended with {code}"]
    print(f"samples: {out}")
    for problem in problems[:20]:
        print(f"FAILED  {problem}")
    print("FAILED" if problems else "PASSED: nothing rises")
    return 1 if problems else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A long mixed load; fails on a rising trend.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--csv", type=Path, default=Path("build/soak.csv"))
    given = parser.parse_args()
    sys.exit(main(given.minutes, given.csv))
