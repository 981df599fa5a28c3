"""The log of a mixed run held against its declaration; ids that are followed; what is never told."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import edge_server
from edge_server.observe.events import EVENTS, FIELDS, ON_EVERY_LINE
from tests.live import Authority, Live, flags, https_origin
from tests.origins import ok
from tests.servers import Server, eventually
from tests.wire import Connection, ask
from tests.worlds import World

Serve = Callable[..., Server]
BODY = b"what the origin has " * 100
FRESH = "Cache-Control: max-age=600"
SECRET = "s3cr3t"
RUNBOOK = (
    "ts level service event route method status reason corr_id peer_addr latency_ms bytes_out etag hash mode"
)
CONTRACT = "start ready request reject live_fill park pack_mount ready_changed worker_exit reload drain audit"
PACKAGE = Path(edge_server.__file__).parent


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def live(serve: Serve, authority: Authority, world: World) -> Iterator[Live]:
    """An instance in live mode that logs everything, audit records too."""
    settings = {
        "log__level": "debug",
        "log__access_sample": 1,
        "audit__enabled": "true",
        "retry__live_fill__max_retries": 0,
        "ingress__timeout_secs": 3,
    }
    with https_origin(authority) as origin:
        yield Live(serve(*flags(origin, authority, **settings), *world.packs), origin)


@pytest.fixture(scope="module")
def mixed(
    module_serve: Serve, authority: Authority, world: World, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """The lines of two instances, offline and live, to which everything happens that is told of."""
    offline = module_serve("--workers", 2, "--set", "log.access_sample=1", *world.packs)
    for path in ("hello.txt", "absent", "world/0/0/0.mvt"):
        ask(offline.assets, f"/edge/assets/{path}")
    offline.signal(signal.SIGUSR2)
    eventually(lambda: offline.events("ready_changed"))
    assert offline.stop() == 0
    with https_origin(authority) as origin:
        given = {"log__level": "debug", "log__access_sample": 1, "audit__enabled": "true"}
        server = module_serve(*flags(origin, authority, **given), *world.packs)
        live = Live(server, origin)
        origin.answers["/kept"] = ok(BODY, FRESH)
        origin.answers["/passed"] = ok(BODY, "Cache-Control: no-store")
        origin.answers["/broken"] = ok(b"", status="403 Forbidden")
        for path in ("kept", "kept", "passed", "broken", "absent", "@elsewhere.example/x", "hello.txt"):
            live.get(path)
        live.get("hello.txt", "POST")
        live.get("hello.txt", Range="bytes=0-1")
        live.get("hello.txt", Range="bytes=999999-")
        for place in (server.assets, server.admin):
            with socket.create_connection(place) as sock:
                sock.sendall(b"nonsense\r\n\r\n")
                assert b"400" in sock.recv(4096)
        os.kill(server.workers()[0], signal.SIGKILL)
        eventually(lambda: server.events("worker_exit"))
        eventually(lambda: server.workers().keys() >= {0, 1}, within=10)
        server.signal(signal.SIGHUP)
        eventually(lambda: server.status()["generation"] == 2, within=20)
        server.signal(signal.SIGUSR1)
        server.signal(signal.SIGUSR2)
        eventually(lambda: server.events("logs_reopened") and server.events("drain"))
        assert server.stop() == 0
    return offline.lines() + server.lines()


def test_every_event_of_the_contract_is_told_and_no_other_than_the_declared_ones(
    mixed: list[dict[str, Any]],
) -> None:
    told = {line["event"] for line in mixed}
    assert told <= EVENTS.keys()
    assert set(CONTRACT.split()) <= told


def test_every_field_has_its_type_and_every_line_what_each_must_have(mixed: list[dict[str, Any]]) -> None:
    for line in mixed:
        assert line.keys() >= set(ON_EVERY_LINE), line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"])
        assert line["level"] in ("debug", "info", "warning", "error")
        assert line["mode"] in ("offline", "live")
        for name in line.keys() & FIELDS.keys():
            assert isinstance(line[name], FIELDS[name]), (name, line)
            assert type(line[name]) is not bool, (name, line)


def test_what_a_request_and_a_fill_and_a_record_tell_is_complete(mixed: list[dict[str, Any]]) -> None:
    of_requests = {"route", "method", "status", "corr_id", "peer_addr", "bytes_out", "slot", "pid"}
    for line in mixed:
        if line["event"] in ("request", "reject") and line.get("route") not in ("admin", None):
            assert line.keys() >= of_requests, line
        if line["event"] == "request" and line["route"] == "/edge/assets" and line["method"] == "GET":
            assert line["cache"] in ("pack", "cas", "miss"), line
        if line["event"] == "reject":
            assert line["reason"], line
    fills = [line for line in mixed if line["event"] == "live_fill"]
    assert {line["status"] for line in fills} == {200, 404, 502}
    kept = next(line for line in fills if line["status"] == 200)
    assert len(kept["hash"]) == 64
    assert (kept["attempt"], kept["host"]) == (1, "localhost")


def test_the_line_for_jq_of_the_manual_works_on_every_event(mixed: list[dict[str, Any]]) -> None:
    jq = shutil.which("jq")
    if jq is None:
        pytest.skip("jq is not installed: apt-get install jq")
    query = "[" + ",".join(f".{name}" for name in RUNBOOK.split()) + "] | @tsv"
    given = "\n".join(map(json.dumps, mixed))
    ended = subprocess.run([jq, "-r", query], input=given, capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in ended.stdout.splitlines()]
    assert len(rows) == len(mixed)
    for row, line in zip(rows, mixed, strict=True):
        told = dict(zip(RUNBOOK.split(), row, strict=True))
        for name in ON_EVERY_LINE:
            assert told[name] not in ("", "null"), line
        assert float(told["latency_ms"]) >= 0


def test_every_event_in_the_code_is_declared() -> None:
    written = {
        (path.name, call.args[0].value)
        for path in PACKAGE.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and getattr(call.func, "attr", getattr(call.func, "id", "")) in ("log", "write")
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
        and call.args[0].value.isidentifier()
    }
    assert {name for _, name in written} - EVENTS.keys() == set(), "declare it in observe/events.py"
    assert len(written) > 30


def test_one_id_is_in_the_answer_the_workers_line_the_sidecars_line_and_at_the_origin(live: Live) -> None:
    live.origin.answers["/followed"] = ok(BODY, FRESH)
    answer = live.get("followed", X_Corr_ID="follow-me.1")
    assert (answer.status, answer["X-Corr-ID"]) == (200, "follow-me.1")
    lines = eventually(lambda: _with(live.server, "follow-me.1", 4))
    by_event = {line["event"]: line for line in lines}
    assert by_event.keys() == {"request", "live_fill", "park", "audit"}
    assert by_event["request"]["pid"] == by_event["park"]["pid"] != by_event["live_fill"]["pid"]
    assert by_event["live_fill"]["pid"] == live.server.sidecar()
    (head,) = live.origin.heads
    assert b"\r\nX-Corr-ID: follow-me.1\r\n" in head
    assert b"traceparent" not in head.lower()


def test_an_id_of_ours_is_followed_as_well_and_what_is_not_sane_goes_nowhere(live: Live) -> None:
    live.origin.answers["/own"] = ok(BODY, FRESH)
    answer = live.get("own", X_Corr_ID=f"<{SECRET}>", traceparent=SECRET)
    (head,) = live.origin.heads
    assert f"\r\nX-Corr-ID: {answer['X-Corr-ID']}\r\n".encode() in head
    assert SECRET.encode() not in head
    assert len(eventually(lambda: _with(live.server, answer["X-Corr-ID"], 4))) == 4


def _with(server: Server, corr_id: str, count: int) -> list[dict[str, Any]]:
    """Return the lines with an id, once there are so many."""
    found = [line for line in server.lines() if line.get("corr_id") == corr_id]
    return found if len(found) >= count else []


def test_no_line_tells_what_clients_and_origins_sent(live: Live) -> None:
    fields = {
        "Authorization": f"Bearer {SECRET}",
        "Cookie": f"session={SECRET}",
        "User-Agent": SECRET,
        "Accept": f"text/{SECRET}",
        "Accept-Language": SECRET,
        "Origin": f"http://{SECRET}",
        "If-None-Match": f'"{SECRET}"',
        "Cache-Control": f"no-cache, x={SECRET}",
        "traceparent": SECRET,
    }
    answers = {
        "/stored": ok(SECRET.encode(), FRESH, f"Set-Cookie: {SECRET}", f"X-Other: {SECRET}"),
        "/refused": ok(SECRET.encode(), f"X-Other: {SECRET}", status="503 Service Unavailable"),
        "/away": ok(b"", f"Location: https://elsewhere.example/{SECRET}?{SECRET}", status="302 Found"),
        "/lying": ok(SECRET.encode(), f'ETag: "b3:{"0" * 64}"', f"Repr-Digest: sha-256=:{SECRET}:"),
    }
    live.origin.answers.update(answers)
    with Connection(live.server.assets) as connection:
        for path in answers:
            connection.ask(f"/edge/assets{path}?token={SECRET}", "GET", fields)
            connection.ask(f"/edge/assets{path}/{SECRET}?token={SECRET}", "GET", fields)
    eventually(lambda: len(live.server.events("reject")) >= 7)
    assert live.server.stop() == 0
    told = live.server.out.read_text()
    assert told.count('"event":"audit"') >= 10
    assert SECRET not in told
