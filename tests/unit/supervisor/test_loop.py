"""The loop's own duties that need no child."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from edge_server.config.load import Loaded
from edge_server.config.schema import Config
from edge_server.observe import logs
from edge_server.observe.logs import log
from edge_server.roles import Roles
from edge_server.shm.admission import Ledger
from edge_server.shm.catalog import Catalog
from edge_server.shm.scoreboard import Scoreboard
from edge_server.shm.segment import segment_name
from edge_server.supervisor.channels import Channels
from edge_server.supervisor.generations import Generation
from edge_server.supervisor.listen import Listeners, bind_alone
from edge_server.supervisor.loop import Instance, Supervisor
from edge_server.supervisor.notify import Notifier
from edge_server.supervisor.signals import SignalQueue


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    """A supervisor of no worker slot, with signals of its own that are not installed."""
    config = Config()
    board = Scoreboard.create(0, segment_name("loop"))
    catalog = Catalog.build([], generation=1, name=segment_name("loop-catalog"))
    ledger = Ledger.create(0, segment_name("loop-admission"))
    signals = SignalQueue()
    listeners = Listeners((), bind_alone(config.metrics_addr._replace(port=0)), ("", ""))
    roles = Roles(worker=lambda brief: 0, sidecar=lambda brief: 0)
    first = Generation(config, catalog, (), ledger)
    instance = Instance(first, roles, lambda: Loaded(config, {}), listeners, board, "", 0, 0.0, Channels(0))
    made = Supervisor(instance, signals, Notifier({}))
    yield made
    made._watch.close()
    signals.restore()
    listeners.close()
    catalog.unlink()
    catalog.close()
    ledger.segment.unlink()
    ledger.close()
    board.segment.unlink()
    board.close()


def test_what_the_logs_reader_was_too_slow_for_is_written_when_it_reads_again(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(logs._Process, "_log", None)
    logs.configure("json", "info", descriptor=writer)
    for end in (reader, writer):
        os.set_blocking(end, False)
    with suppress(BlockingIOError):
        while os.write(writer, b"x" * 4096):
            pass
    log("ready", ready=1)
    assert b"ready" not in os.read(reader, 1 << 20)
    supervisor._wait()
    assert b'"event":"ready"' in os.read(reader, 1 << 16)
    os.close(reader)
    os.close(writer)
