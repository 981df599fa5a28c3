"""Fills a second of the engine, and CPU a fill, against nginx on this machine: unique objects of 16 KiB.

    python -m tests.perf.bench_fill [SECONDS]

Beside it the same requests by urllib3 and by requests, in as many threads, with nothing but the hash.
Loopback without TLS; nginx shares the CPUs. At last the engine with TLS, on connections that are kept, and on
one for each fill.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import trustme
from blake3 import blake3

from edge_server.config.schema import Config, Edge, Fill, OriginMapping
from edge_server.fill.engine import Engine, Fetched, Request
from tests.live import HOST
from tests.origins import MemorySink, free_port, nginx

SIZE, OBJECTS, THREADS = 16 * 1024, 20_000, 16


def measure_engine(
    port: int, seconds: float, threads: int, bundle: Path | None = None
) -> tuple[float, float]:
    """Return fills a second and CPU µs a fill, with so many requests in hand; over TLS with a bundle."""
    origin = f"127.0.0.1:{port}" if bundle is None else f"{HOST}:{port}"
    scheme = "http" if bundle is None else "https"
    edge = Edge(allow=(origin,), origins=(OriginMapping(prefix="", url=f"{scheme}://{origin}"),))
    fill = Fill(
        concurrency=threads,
        per_host=threads,
        insecure_http=True,
        allow_private=("127.0.0.0/8",),
        ca_bundle="system" if bundle is None else str(bundle),
    )
    engine = Engine(Config(edge=edge, fill=fill), open_sink=lambda *_: MemorySink())
    answers: SimpleQueue[object] = SimpleQueue()
    before, began_s = time.process_time(), time.monotonic()
    number = filled = 0
    while filled < number or time.monotonic() < began_s + seconds:
        while number - filled < threads and time.monotonic() < began_s + seconds:
            request = Request(f"{number % OBJECTS}.bin", {}, "", False, time.monotonic() + 10, "bench")
            engine.submit(request, answers.put)
            number += 1
        if filled < number:
            assert isinstance(answers.get(), Fetched)
            filled += 1
    passed_s, cpu_s = time.monotonic() - began_s, time.process_time() - before
    engine.close()
    return filled / passed_s, 1e6 * cpu_s / filled


@contextmanager
def tls_nginx(folder: Path, root: Path, more: str = "") -> Iterator[tuple[int, Path]]:
    """Serve `root` with TLS; yield the port and the bundle to trust."""
    folder.mkdir()
    authority, port = trustme.CA(), free_port()
    bundle, pem = folder / "ca.pem", folder / "server.pem"
    authority.cert_pem.write_to_path(str(bundle))
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(pem))
    listen = f"listen 127.0.0.1:{port} ssl; ssl_certificate {pem}; ssl_certificate_key {pem}; {more}"
    with nginx(folder, root, listen):
        yield port, bundle


def by_urllib3(port: int, threads: int) -> tuple[Callable[[int], None], Callable[[], None]]:
    import urllib3

    pool = urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=threads)

    def fetch(number: int) -> None:
        response: Any = pool.request("GET", f"/{number}.bin", preload_content=False, retries=False)
        hasher = blake3()
        for piece in response.stream(65536):
            hasher.update(piece)
        response.release_conn()
        hasher.digest()

    return fetch, pool.close


def by_requests(port: int, threads: int) -> tuple[Callable[[int], None], Callable[[], None]]:
    import requests

    local = threading.local()

    def fetch(number: int) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
            local.session.trust_env = False
        answer = local.session.get(f"http://127.0.0.1:{port}/{number}.bin", timeout=10)
        blake3(answer.content).digest()

    return fetch, lambda: None


def measure(make: Any, port: int, seconds: float, threads: int) -> tuple[float, float]:
    """Return fills a second and CPU µs a fill of this process."""
    fetch, close = make(port, threads)
    counts = [0] * threads
    until_s = time.monotonic() + seconds

    def run(index: int) -> None:
        number = index
        while time.monotonic() < until_s:
            fetch(number % OBJECTS)
            number += threads
            counts[index] += 1

    before, began_s = time.process_time(), time.monotonic()
    workers = [threading.Thread(target=run, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    passed_s, cpu_s = time.monotonic() - began_s, time.process_time() - before
    close()
    return sum(counts) / passed_s, 1e6 * cpu_s / sum(counts)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    with tempfile.TemporaryDirectory(dir="/dev/shm") as text:
        folder = Path(text)
        root = folder / "root"
        root.mkdir()
        for number in range(OBJECTS):
            (root / f"{number}.bin").write_bytes(number.to_bytes(4, "big") * (SIZE // 4))
        folder.chmod(0o755)
        with nginx(folder / "nginx", root) as port:
            print(f"{SIZE} bytes, {os.cpu_count()} CPUs, Python {sys.version.split()[0]}")
            for threads in (1, THREADS):
                rate, cpu_us = measure_engine(port, seconds, threads)
                print(f"{'engine':12} {threads:2} in hand: {rate:6.0f} fills/s, {cpu_us:5.0f} µs CPU each")
                for make in (by_urllib3, by_requests):
                    rate, cpu_us = measure(make, port, seconds, threads)
                    told = f"{rate:6.0f} fills/s, {cpu_us:5.0f} µs CPU each"
                    print(f"{make.__name__:12} {threads:2} threads: {told}")
        for name, more in (("kept", ""), ("new each", "keepalive_timeout 0;")):
            with tls_nginx(folder / name.replace(" ", "-"), root, more) as (port, bundle):
                rate, cpu_us = measure_engine(port, seconds, THREADS, bundle)
                print(f"engine, TLS, connections {name}: {rate:6.0f} fills/s, {cpu_us:5.0f} µs CPU each")


if __name__ == "__main__":
    main()
