from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_server.config.schema import Config
from edge_server.observe import metrics
from edge_server.packs.reader import NO_FILE, Entry, Pack
from edge_server.roles import Brief
from edge_server.shm.admission import Ledger
from edge_server.shm.catalog import Catalog
from edge_server.shm.scoreboard import SIDECAR_SLOT, Gate, Scoreboard, WorkerState

SLOTS = 3


@pytest.fixture
def metrics_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of metrics files that this process writes as ``sidecar-a``."""
    from prometheus_client import values

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(metrics._Process, "identity", "")
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    metrics.metrics.cache_clear()
    metrics.name_process("sidecar-a")
    yield tmp_path
    metrics.metrics.cache_clear()


@pytest.fixture
def scoreboard() -> Iterator[Scoreboard]:
    """An instance that is ready, with one worker serving in slot 0 and a sidecar."""
    board = Scoreboard.create(SLOTS, f"test-sidecar-{os.getpid()}")
    board.missing_gates, board.is_degraded, board.generation = Gate(0), False, 7
    for slot, cpu in ((0, 1), (SIDECAR_SLOT, None)):
        row = board.row(board.row_index(slot, "a"))
        row.begin(os.getpid(), 7, cpu)
        row.words[1] = WorkerState.SERVING
    yield board
    board.segment.unlink()
    board.close()


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    """One small pack, whose files nobody reads."""
    entry = Entry("a.txt", NO_FILE, 0, 5, "text/plain", inline=b"hello")
    pack = Pack("site", "directory", "/secret/place/site", entries=[entry], verified="full")
    built = Catalog.build([pack], generation=7, name=f"test-sidecar-catalog-{os.getpid()}")
    yield built
    built.unlink()
    built.close()


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """What two workers have admitted: nothing."""
    made = Ledger.create(2, f"test-sidecar-admission-{os.getpid()}")
    yield made
    made.segment.unlink()
    made.close()


@pytest.fixture
def brief(metrics_dir: Path, scoreboard: Scoreboard, catalog: Catalog, ledger: Ledger) -> Iterator[Brief]:
    """What the sidecar of such an instance is handed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Brief(
            slot=SIDECAR_SLOT,
            identity="sidecar-a",
            row=scoreboard.row_index(SIDECAR_SLOT, "a"),
            cpu=None,
            listener=listener,
            addresses=("127.0.0.1:8080", "127.0.0.1:9909"),
            metrics_dir=str(metrics_dir),
            config=Config(),
            catalog=catalog,
            scoreboard=scoreboard,
            ledger=ledger,
        )
