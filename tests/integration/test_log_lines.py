"""What an instance logs of its life and of requests, and what never stands in a line.

That every line is one JSON object is seen wherever lines are read, standard error included.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from edge_server.http.reasons import REASONS
from tests.http_rows import ROWS
from tests.servers import Server, eventually
from tests.wire import Connection
from tests.worlds import World, etag

Serve = Callable[..., Server]

EVENTS = {
    "start",
    "ready",
    "request",
    "reject",
    "pack_mount",
    "pack_verify",
    "ready_changed",
    "worker_exit",
    "drain",
}
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
SECRET = "s3cr3t"
REQUEST_FIELDS = {
    "route",
    "method",
    "status",
    "corr_id",
    "peer_addr",
    "latency_ms",
    "bytes_out",
    "slot",
    "pid",
    "mode",
}


@pytest.fixture
def logging_all(serve: Serve, world: World, tmp_path: Path) -> Server:
    """An instance that logs every request."""
    config = tmp_path / "svc-edge.yaml"
    config.write_text("log:\n  access_sample: 1.0\n")
    return serve("--workers", 2, "--config", config, *world.packs)


def test_a_life_is_told_in_order(serve: Serve, world: World) -> None:
    server = serve("--workers", 2, *world.packs)
    assert server.stop() == 0
    lines = server.lines()
    assert [line["event"] for line in lines[:3]] == ["start", "pack_mount", "pack_mount"]
    (start,), (ready,) = server.events("start"), server.events("ready")
    for line in (start, ready):
        assert (line["mode"], line["workers"]) == ("offline", 2)
        assert (line["bind_addr"], line["metrics_addr"]) == (str(server.assets), str(server.admin))
    assert start["packs"] == [str(path) for path in world.packs]
    assert (ready["ready"], ready["packs"]) == (1, ["", "world"])
    assert [line["is_draining"] for line in server.events("drain")] == [True, True]
    assert {line["component"] for line in server.events("worker_exit")} == {"worker", "sidecar"}
    assert all(line["status"] == 0 for line in server.events("worker_exit"))
    assert lines[-1]["exit_code"] == 0


def test_every_line_has_what_every_line_must_have(serve: Serve, world: World) -> None:
    server = serve("--workers", 1, *world.packs)
    server.signal(signal.SIGUSR2)
    eventually(lambda: server.events("ready_changed"))
    server.signal(signal.SIGUSR2)
    assert server.stop() == 0
    now = datetime.now(timezone.utc)
    for line in server.lines():
        assert TIMESTAMP.fullmatch(line["ts"])
        assert abs((now - datetime.fromisoformat(line["ts"].replace("Z", "+00:00"))).total_seconds()) < 60
        assert line["level"] in ("debug", "info", "warning", "error")
        assert (line["service"], line["mode"]) == ("svc-edge", "offline")
        assert line["event"] in EVENTS
        assert isinstance(line["pid"], int)
        assert isinstance(line["latency_ms"], int | float)


def test_each_request_is_told_with_its_fields(logging_all: Server, world: World) -> None:
    with Connection(logging_all.assets) as connection:
        for number, row in enumerate(ROWS):
            connection.ask(row.path, row.method, {**row.fields, "X-Corr-ID": f"row-{number}"}, row.sent)
    eventually(lambda: len(logging_all.events("request")) + len(logging_all.events("reject")) == len(ROWS))
    told = {line["corr_id"]: line for line in logging_all.events("request") + logging_all.events("reject")}
    for number, row in enumerate(ROWS):
        line = told[f"row-{number}"]
        assert line.keys() >= REQUEST_FIELDS
        assert line["status"] == row.status
        assert line["method"] == row.method
        assert line["peer_addr"] == "127.0.0.1"
        assert (line["event"] == "reject") == (row.status >= 400)
        if row.status >= 400:
            assert line["reason"] == (row.reason or "not_found")
            assert line["reason"] in REASONS
            assert line["level"] == "warning"
        elif row.status == 200 and row.method == "GET" and row.body:
            assert line["bytes_out"] == len(row.body)
    hello = told[f"row-{next(number for number, row in enumerate(ROWS) if row.id == 'a file')}"]
    assert hello["etag"] == etag(world.files["hello.txt"])
    assert hello["route"] == "/edge/assets"


def test_no_line_tells_what_clients_sent(logging_all: Server) -> None:
    fields = {
        "Authorization": f"Bearer {SECRET}",
        "Cookie": f"session={SECRET}",
        "User-Agent": SECRET,
        "Referer": f"http://elsewhere/{SECRET}",
        "Origin": f"http://{SECRET}",
        "If-None-Match": f'"{SECRET}"',
        "Range": f"bytes={SECRET}",
        "X-Forwarded-For": SECRET,
        "Accept-Encoding": SECRET,
        "X-Corr-ID": f"<{SECRET}>",
    }
    targets = [
        "hello.txt",
        "hello.txt?token=" + SECRET,
        SECRET,
        f"..%2f{SECRET}",
        f"{SECRET}/0/0/0.mvt",
        f"%00{SECRET}",
    ]
    sent = 0
    with Connection(logging_all.assets) as assets, Connection(logging_all.admin) as admin:
        for target in targets:
            for method in ("GET", "HEAD", "OPTIONS", "POST"):
                assets.ask(
                    f"/edge/assets/{target}", method, fields, SECRET.encode() if method == "POST" else b""
                )
                admin.ask(f"/{target}", method, fields)
                admin.ask("/api/drain?token=" + SECRET, method, fields)
                sent += 1
    eventually(lambda: len(logging_all.events("request") + logging_all.events("reject")) >= sent)
    assert logging_all.stop() == 0
    assert SECRET not in logging_all.out.read_text()
    assert "Hello from the edge" not in logging_all.out.read_text()


def test_good_requests_are_sampled_and_refused_ones_are_all_told(serve: Serve, world: World) -> None:
    server = serve("--workers", 1, *world.packs)
    with Connection(server.assets) as connection:
        for _ in range(201):  # the first is answered anew, the others are repeated
            connection.ask("/edge/assets/hello.txt")
        for _ in range(7):
            connection.ask("/edge/assets/nothing.txt")
    assert server.stop() == 0
    assert len(server.events("request")) == 2
    assert len(server.events("reject")) == 7
