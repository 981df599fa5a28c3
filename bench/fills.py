"""What live fills cost: ``python -m bench.fills``, beside nginx's proxy_cache on the same origin.

Both fetch unique objects of 16 KiB from an nginx on the loopback, two workers each; origin and wrk share the
CPUs. Then objects that were filled are asked for again, beside objects of a pack. At last hits at a steady
pace, alone and while one request in twenty waits for an origin that takes 200 ms.
Prints Markdown. Ends what it started.
"""

from __future__ import annotations

import multiprocessing
import os
import socketserver
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from bench import BenchError, load, machine
from bench.cases import Expected, Request
from bench.client import Connection
from bench.edge import live_edge
from bench.nginx import nginx_cache, nginx_origin
from bench.process import Server, cpu_ns, waited_ns

SIZE, SECONDS = 16 << 10, 3
OBJECTS, KEYS = 10_000, 60_000  # keys beyond the objects name the same ones again
REPEATED = 256  # objects that hits ask for
SLOW_S, SLOW_SHARE = 0.2, 20  # every 20th request waits for the slow origin
PACED_THREADS, PACE_S, PACED_S = 8, 0.02, 10
_ROOT = "/edge/assets"


class _Slow(socketserver.StreamRequestHandler):
    """Answers each request after SLOW_S."""

    def handle(self) -> None:
        body = bytes(SIZE)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\nCache-Control: max-age=3600\r\n\r\n".encode()
        for line in self.rfile:
            if line == b"\r\n":
                time.sleep(SLOW_S)
                self.wfile.write(head + body)


class _SlowServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextmanager
def slow_origin() -> Iterator[int]:
    """Run an origin that takes SLOW_S for each answer; yield its port."""
    with _SlowServer(("127.0.0.1", 0), _Slow) as server, beside(server.serve_forever):
        yield int(server.server_address[1])


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Do some work in a process of its own, so that it is not in the way of what is measured in this one."""
    process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    process.start()
    try:
        yield
    finally:
        if process.is_alive():
            process.terminate()
        process.join()


def requests_for(names: list[str]) -> list[Request]:
    """Return a GET for each name below the assets, whose body is not compared but by its length."""
    return [Request(f"{_ROOT}/{name}", (), Expected(Path(os.devnull), 0, SIZE)) for name in names]


def rate(server: Server, folder: Path, requests: list[Request], pids: list[int]) -> tuple[float, float]:
    """Return answers a second and CPU µs an answer of these processes; every answer is looked at.

    Raises:
        BenchError: an answer was none with status 200 and SIZE bytes.
    """
    load.write_requests(folder / "requests", requests)
    before = cpu_ns(pids)
    cpu = max(os.sched_getaffinity(0))
    seen = load.run(
        folder, folder / "requests", server.port, cpu=cpu, seconds=SECONDS, counted=True, body_bytes=SIZE
    )
    spent = cpu_ns(pids) - before
    refused = seen.requests - seen.statuses.get("200", 0)
    if refused > seen.requests // 100 or seen.wrong_bytes > refused:
        raise BenchError(f"{server.name}: {seen.statuses}, {seen.wrong_bytes} of a wrong length")
    return seen.requests / seen.seconds, spent / 1000 / seen.requests


def paced(port: int) -> list[float]:
    """Return how long hits took, ms, at a steady pace, shortest first."""
    took: list[float] = []
    until_s = time.monotonic() + PACED_S

    def hit(first: int) -> None:
        with Connection(port) as connection:
            for number in range(first, 1 << 30):
                began_s = time.monotonic()
                if began_s > until_s:
                    return
                if connection.get(f"{_ROOT}/fast/{number % REPEATED:06}").status == 200:
                    took.append(1000 * (time.monotonic() - began_s))
                time.sleep(max(0.0, PACE_S - (time.monotonic() - began_s)))

    run_threads(hit, [31 * index for index in range(PACED_THREADS)])
    return sorted(took)


def miss(port: int) -> None:
    """Ask for what the slow origin has, once for SLOW_SHARE - 1 hits, until this process is ended."""

    def wait(first: int) -> None:
        with Connection(port) as connection:
            for number in range(first, 1 << 30, PACED_THREADS):
                began_s = time.monotonic()
                if connection.get(f"{_ROOT}/slow/{number}").status != 200:
                    raise BenchError("a miss that was not filled")
                time.sleep(max(0.0, PACE_S * (SLOW_SHARE - 1) - (time.monotonic() - began_s)))

    run_threads(wait, list(range(PACED_THREADS)))


def run_threads(work: Callable[[int], None], numbers: list[int]) -> None:
    """Do `work` for each number at the same time; return when all is done."""
    threads = [threading.Thread(target=work, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def pace(edge: Server) -> None:
    """Print how long hits take, and how long workers were ready meanwhile and had no CPU."""
    print("\n| hits at a steady pace | hits | p50 ms | p99 ms | workers kept off their CPUs, ms a s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, misses in (
        ("without misses", nullcontext()),
        (f"one request in {SLOW_SHARE} waits for 200 ms", beside(lambda: miss(edge.port))),
    ):
        before = waited_ns(edge.workers())
        with misses:
            took = paced(edge.port)
        waited_ms = (waited_ns(edge.workers()) - before) / 1e6
        print(f"| {name} | {percentiles(took)} | {waited_ms / PACED_S:.0f} |")


def percentiles(took: list[float]) -> str:
    """Return p50 and p99 of sorted times, ms, as cells of a row."""
    return f"{len(took):,} | {took[len(took) // 2]:.2f} | {took[len(took) * 99 // 100]:.2f}"


def measure(folder: Path, slow_port: int) -> None:
    """Run everything and print the tables."""
    files = folder / "pack" / "fast"
    files.mkdir(parents=True)
    for number in range(OBJECTS):
        (files / f"{number:04}").write_bytes(os.urandom(SIZE))
    load.write_scripts(folder)
    unique = requests_for([f"fast/{number:06}" for number in range(KEYS)])
    packed = requests_for([f"packed/{number:04}" for number in range(REPEATED)])
    with nginx_origin(folder / "pack", folder / "origin") as origin:
        print("| fills | a second | CPU µs a fill, all its processes |\n| --- | ---: | ---: |")
        with nginx_cache(origin.port, folder / "cache") as cache:
            print(
                "| nginx, proxy_cache | {:,.0f} | {:.0f} |".format(
                    *rate(cache, folder, unique, cache.processes())
                )
            )
        pack = folder / "some"
        pack.mkdir()
        for number in range(REPEATED):
            os.link(files / f"{number:04}", pack / f"{number:04}")
        with live_edge(origin.port, slow_port, pack, folder / "edge") as edge:
            print("| svc-edge | {:,.0f} | {:.0f} |".format(*rate(edge, folder, unique, edge.processes())))
            print("\n| hits | a second | CPU µs a hit, workers |\n| --- | ---: | ---: |")
            hits = unique[:REPEATED]
            print("| filled objects | {:,.0f} | {:.1f} |".format(*rate(edge, folder, hits, edge.workers())))
            print("| pack entries | {:,.0f} | {:.1f} |".format(*rate(edge, folder, packed, edge.workers())))
            pace(edge)


def main() -> None:
    """Measure in a temporary folder."""
    machine.require_tools()
    facts = machine.describe(machine.choose_cpus())
    print("; ".join(f"{name}: {value}" for name, value in facts.items()) + "\n")
    with tempfile.TemporaryDirectory(prefix="svc-edge-fills-", dir="/dev/shm") as root, slow_origin() as port:
        folder = Path(root)
        folder.chmod(0o755)
        try:
            measure(folder, port)
        except BenchError as error:
            sys.exit(f"bench.fills: {error}")


if __name__ == "__main__":
    main()
