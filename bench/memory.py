"""What a worker of svc-edge weighs: idle, with a million entries, and after serving them.

PSS divides a shared page among those who map it, so the catalog in shared memory shows
up once in the sum and in parts in each process; private memory is what a worker would
cost more of. A catalog copied by each worker would show as private memory.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench import BenchError, process
from bench.client import Connection
from bench.edge import edge
from bench.process import Server
from bench.world import MILLION, World, million_tile, tile_path

WORKERS = 2
TILES_ASKED = 20_000
CONNECTIONS = 16  # SO_REUSEPORT spreads connections, not requests
SETTLE_S = 1.0

_SEED = 8


class Weight(NamedTuple):
    """Memory in MiB: the heaviest worker's PSS, private and shared-memory part; the PSS of all processes."""

    state: str
    worker_pss: float
    worker_private: float
    worker_shared: float
    all_pss: float


def measure(world: World, folder: Path, say: Callable[[str], None]) -> list[Weight]:
    """Return the weights of a small and of a million-entry server with two workers."""
    weights = []
    say("memory: idle")
    with edge([world.objects], folder / "idle", workers=WORKERS) as server:
        weights.append(_weigh("idle, 6 entries", server))
    say("memory: 1,000,000 entries")
    with edge([world.million_archive], folder / "million", workers=WORKERS) as server:
        weights.append(_weigh("1,000,000 entries, before", server))
        _ask(server.port)
        weights.append(_weigh(f"1,000,000 entries, {TILES_ASKED:,} served", server))
    return weights


def _weigh(state: str, server: Server) -> Weight:
    time.sleep(SETTLE_S)
    workers = [process.memory(pid) for pid in server.workers()]
    if len(workers) != WORKERS:
        raise BenchError(f"memory: {len(workers)} workers run, {WORKERS} were asked for")
    heaviest = max(workers, key=lambda memory: memory.pss)
    everyone = sum(process.memory(pid).pss for pid in server.processes())
    mib = [n / 2**20 for n in (heaviest.pss, heaviest.private, heaviest.shared_memory, everyone)]
    return Weight(state, mib[0], mib[1], mib[2], mib[3])


def _ask(port: int) -> None:
    """Fetch random tiles over several connections and compare each with what it must be."""
    connections = [Connection(port) for _ in range(CONNECTIONS)]
    try:
        for index, tile_id in enumerate(random.Random(_SEED).sample(range(MILLION), TILES_ASKED)):
            path = f"/edge/assets/million/{tile_path(tile_id)}"
            answer = connections[index % CONNECTIONS].get(path)
            if answer.status != 200 or answer.body != million_tile(tile_id):
                raise BenchError(f"memory: {path}: status {answer.status}, {answer.body[:80]!r}")
    finally:
        for connection in connections:
            connection.close()
