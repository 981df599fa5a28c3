"""Refusals by admission: what the client gets, what is counted, and how much of it is logged."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_server.config.schema import Cors, Ingress
from edge_server.http.dates import DateClock
from edge_server.http.reasons import problem
from edge_server.observe import logs, metrics
from edge_server.observe.logs import AccessLog
from edge_server.observe.tally import Tally
from edge_server.shm.admission import Field as Counted
from edge_server.shm.admission import Ledger
from edge_server.shm.scoreboard import Field, Scoreboard
from edge_server.shm.segment import segment_name
from edge_server.worker import refusals
from edge_server.worker.pressure import Pressure, dropped
from edge_server.worker.refusals import LINES_A_TICK, Refusals
from tests.servers import eventually
from tests.wsgi_client import Client

MakeClient = Callable[..., Client]
ONE = Ingress(rps_limit=1, rps_burst=1)
SPENT = Ingress(rps_limit=1, rps_burst=2)  # once spent() has asked twice


def spent(make_client: MakeClient, **settings: Cors) -> Client:
    """Return a client whose instance has no token left for about a second."""
    client = make_client(ingress=SPENT, **settings)
    assert {client("a.txt").status for _ in range(3)} == {200, 429}
    return client


def test_a_refusal_has_every_field_that_another_one_has(make_client: MakeClient) -> None:
    get = spent(make_client)
    answer = get("a.txt", x_corr_id="abc-1")
    assert (answer.status, answer["X-Reason"]) == (429, "rate_limit")
    assert answer.body == problem("rate_limit", "abc-1")
    assert json.loads(answer.body)["title"] == "Too Many Requests"
    assert int(answer["Retry-After"]) >= 1
    assert answer["X-Corr-ID"] == "abc-1"
    usual = make_client()("nowhere.txt")
    assert {name.lower() for name, _ in answer.fields} - {"retry-after"} == {
        name.lower() for name, _ in usual.fields
    } | {"content-length"}
    for name in ("Content-Type", "Cache-Control", "X-Content-Type-Options", "Referrer-Policy"):
        assert answer[name] == usual[name]
    assert answer["Content-Length"] == str(len(answer.body))


def test_the_refusal_of_a_head_has_its_length_and_no_body(make_client: MakeClient) -> None:
    answer = spent(make_client)("a.txt", "HEAD", x_corr_id="abc")
    assert (answer.status, answer.body) == (429, b"")
    assert answer["Content-Length"] == str(len(problem("rate_limit", "abc")))


def test_an_allowed_origin_may_read_a_refusal(make_client: MakeClient) -> None:
    get = spent(make_client, cors=Cors(allow_origins=("https://a.example",)))
    answer = get("a.txt", origin="https://a.example")
    assert answer.status == 429
    assert answer["Access-Control-Allow-Origin"] == "https://a.example"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_and_readiness_are_neither_refused_nor_counted(make_client: MakeClient, path: str) -> None:
    client = make_client(ingress=ONE)
    assert [client(path).status for _ in range(5)] == [200] * 5
    assert [client("a.txt").status, client("a.txt").status, client(path).status] == [200, 429, 200]


@pytest.mark.parametrize(
    ("path", "method"), [("/", "GET"), ("nowhere.txt", "GET"), ("a.txt", "OPTIONS"), ("a.txt", "PUT")]
)
def test_whatever_else_is_asked_for_counts(make_client: MakeClient, path: str, method: str) -> None:
    assert spent(make_client)(path, method).status == 429


def test_refusals_are_counted_like_all_answers(make_client: MakeClient) -> None:
    get = spent(make_client)
    before = get.tally.outcome("/edge/assets", "GET", 429).requests
    get("a.txt")
    outcome = get.tally.outcome("/edge/assets", "GET", 429)
    assert outcome.requests == before + 1
    get("/")
    assert get.tally.outcome("other", "GET", 429).requests == 1


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, object]]]:
    """What this process logs from now on."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    monkeypatch.setattr(logs._Process, "_log", None)
    logs.configure("json", "info", descriptor=writer)

    def read() -> list[dict[str, object]]:
        logs.flush()
        try:
            return [json.loads(line) for line in os.read(reader, 1 << 20).splitlines()]
        except BlockingIOError:
            return []

    return read


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], float]:
    """Count into files of this test's own; return the value of a counter with one label."""
    from prometheus_client import values

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(metrics._Process, "identity", "")
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    metrics.metrics.cache_clear()
    metrics.name_process("0a")

    def read(name: str, label: str) -> float:
        value: float = getattr(metrics.metrics(), name).labels(label)._value.get()
        return value

    return read


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[Refusals, str], bytes]:
    """Refuse a request without a connection."""
    monkeypatch.setattr(refusals, "send_fields", lambda lines: None)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/edge/assets/a", "REMOTE_ADDR": "192.0.2.1"}
    return lambda made, reason: made.refuse(environ, lambda status, fields: None, 0.0, "id", reason)


def make_refusals(tally: Tally | None = None) -> Refusals:
    return Refusals(tally=tally or Tally(), access_log=AccessLog(0), clock=DateClock(), cors=None)


def test_a_flood_of_refusals_is_no_flood_of_lines(
    lines: Callable[[], list[dict[str, object]]],
    counted: Callable[[str, str], float],
    refuse: Callable[[Refusals, str], bytes],
) -> None:
    made = make_refusals()
    for _ in range(LINES_A_TICK + 100):
        refuse(made, "busy")
    refuse(made, "rate_limit")
    made.fold()
    told = lines()
    assert {line["event"] for line in told} == {"reject"}
    assert len(told) == LINES_A_TICK + 2
    assert told[0]["peer_addr"] == "192.0.2.1"
    assert [line["detail"] for line in told[-2:]] == [
        "100 more, too many to tell each",
        "1 more, too many to tell each",
    ]
    made.fold()
    refuse(made, "busy")
    assert len(lines()) == 1, "each tick has its own lines"


def test_busy_is_counted_by_endpoint_and_the_rate_limit_is_not(
    counted: Callable[[str, str], float], refuse: Callable[[Refusals, str], bytes]
) -> None:
    tally = Tally()
    made = make_refusals(tally)
    for reason in ("busy", "busy", "rate_limit"):
        refuse(made, reason)
    made.fold()
    made.fold()
    tally.fold()
    assert counted("busy_rejections_total", "assets") == 2
    assert counted("rejected_total", "busy") == 2
    assert counted("rejected_total", "rate_limit") == 1


def connect_until_full(listener: socket.socket) -> list[socket.socket]:
    """Begin more connections than a socket's queue has room for, without waiting for them."""
    begun = []
    for _ in range(8):
        begun.append(socket.socket())
        begun[-1].setblocking(False)
        begun[-1].connect_ex(listener.getsockname())
    return begun


def test_what_waits_and_what_was_dropped_at_the_socket_is_published_once(
    counted: Callable[[str, str], float],
) -> None:
    board = Scoreboard.create(1, segment_name("test-pressure"))
    ledger = Ledger.create(1, segment_name("test-pressure-ledger"))
    with socket.create_server(("127.0.0.1", 0), backlog=2) as listener:
        begun = connect_until_full(listener)
        eventually(lambda: dropped(listener) >= 5)
        pressure = Pressure(board.row(0), ledger, 0, listener, make_refusals())
        pressure.publish()
        successor = Pressure(board.row(1), ledger, 1, listener, make_refusals())
        successor.publish()
        assert board.row(0).get(Field.QUEUED) == 3  # one more than the backlog
        told = max(ledger.column(Counted.DROPPED))
        assert told >= 5
        assert counted("edge_queue_dropped_total", "accept") == told, "a successor counts nothing again"
        for client in begun:
            client.close()
    for segment in (board.segment, ledger.segment):
        segment.unlink()
