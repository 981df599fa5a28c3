"""`svc-edge status` against an admin plane that answers what a test wants it to."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from edge_server.cli import main as cli
from edge_server.cli import status
from edge_server.cli.status import render

WORKER = {
    "slot": 0,
    "identity": "0a",
    "pid": 4711,
    "state": "serving",
    "cpu": 1,
    "generation": 3,
    "beat_age_ms": 12,
    "loop_lag_ms": 0.4,
    "requests": 12345,
    "inflight": 2,
    "bytes_out": 3 << 20,
    "rss_bytes": 30 << 20,
    "pss_bytes": 9 << 20,
}
STATUS: dict[str, Any] = {
    "service": "svc-edge",
    "version": "1.2.3",
    "mode": "offline",
    "generation": 3,
    "uptime_s": 3700.0,
    "ready": True,
    "degraded": False,
    "gates": {"workers_up": True, "sidecar_up": True},
    "draining": False,
    "stopping": False,
    "addresses": {"assets": "127.0.0.1:8080", "admin": "127.0.0.1:9909"},
    "slots": 1,
    "workers": [WORKER],
    "sidecars": [{**WORKER, "identity": "sidecar-b", "slot": -1, "pid": 4712, "cpu": None}],
    "packs": [{"name": "world", "kind": "pmtiles", "entries": 2, "tiles": 21845, "bytes": 5 << 20}],
    "digests_pending": 0,
}


class Instance(http.server.HTTPServer):
    """An admin plane with one document."""

    body = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Instance

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/status" else 404)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance(("127.0.0.1", 0), Handler) as server:
        server.body = json.dumps(STATUS).encode()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def shown(status: dict[str, Any], **more: Any) -> str:
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - ends with the process
    console.print(render(status, **more))
    return console.export_text()


def test_a_ready_instance_is_shown_and_exits_0(
    instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status", "--admin", instance.url]) == 0
    told = capsys.readouterr().out
    for words in ("ready", "generation 3", "up 1 h 1 min", "4711", "12,345", "9.0 MiB", "world", "21,845"):
        assert words in told
    assert "NOT READY" not in told


def test_what_is_missing_is_named_and_exits_1(instance: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    gates = {"workers_up": False, "sidecar_up": True}
    instance.body = json.dumps({**STATUS, "ready": False, "degraded": True, "gates": gates}).encode()
    assert cli.main(["status", "--admin", instance.url]) == 1
    told = capsys.readouterr().out
    assert "NOT READY" in told
    assert "workers_up" in told
    assert "sidecar_up" not in told
    assert "degraded" in told


def test_json_is_the_document_itself(instance: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--json", "--admin", instance.url]) == 0
    assert json.loads(capsys.readouterr().out) == STATUS


def test_where_nobody_listens_the_exit_code_is_69(
    instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    instance.socket.close()
    assert cli.main(["status", "--admin", instance.url]) == 69
    assert "no instance answers" in capsys.readouterr().err


@pytest.mark.parametrize("body", [b"hello", b"[]", b'{"service": "other"}'], ids=["text", "list", "other"])
def test_what_is_not_this_service_is_not_taken_for_it(
    instance: Instance, body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    instance.body = body
    assert cli.main(["status", "--admin", instance.url]) == 69
    assert "is not svc-edge" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--admin", "127.0.0.1"], "expected http://HOST:PORT"),
        (["--admin", "127.0.0.1:0"], "not 0"),
        (["--json", "--watch"], "do not go together"),
        (["--watch", "0"], "range"),
    ],
    ids=["no-port", "port-0", "json-and-watch", "no-period"],
)
def test_what_cannot_be_meant_is_a_usage_error(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_watching_goes_on_until_it_is_interrupted(
    instance: Instance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    later = {**STATUS, "ready": False, "workers": [{**WORKER, "requests": 99_999}]}
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        instance.body = json.dumps(later).encode()
        if len(sleeps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", sleep)
    assert cli.main(["status", "--watch", "0.5", "--admin", instance.url]) == 1
    assert sleeps == [0.5] * 3
    assert "99,999" in capsys.readouterr().out


def test_two_documents_give_rates() -> None:
    later = {**STATUS, "workers": [{**WORKER, "requests": WORKER["requests"] + 5000}]}
    assert "2,500" in shown(later, before=STATUS, elapsed_s=2.0)
    assert "a second" not in shown(later)


def test_a_process_that_was_not_there_before_has_no_rate_yet() -> None:
    assert " 0 " in shown({**STATUS, "workers": [{**WORKER, "pid": 1}]}, before=STATUS, elapsed_s=1.0)


@pytest.mark.parametrize(
    ("reload", "told"),
    [
        ({"result": "none", "reason": "", "at": None, "running": False}, None),
        ({"result": "ok", "reason": "", "at": "2026-01-01T00:00:00Z"}, "ok, 2026-01-01T00:00:00Z"),
        (
            {"result": "failed", "reason": "edge.packs: is empty", "at": "now"},
            "failed, now, edge.packs: is empty",
        ),
        ({"result": "none", "running": True}, "running"),
    ],
    ids=["none-yet", "ok", "failed", "under-way"],
)
def test_the_last_reload_is_told_where_there_was_one(reload: dict[str, Any], told: str | None) -> None:
    text = shown({**STATUS, "last_reload": reload})
    assert ("last reload" in text) is (told is not None)
    assert told is None or told in text


def test_markup_in_a_name_is_shown_as_it_is() -> None:
    packs = [{**STATUS["packs"][0], "name": "[red]a[/red]"}]
    assert "[red]a[/red]" in shown({**STATUS, "packs": packs})


def test_an_instance_that_is_not_well_is_not_alive(
    instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status", "--alive", "--admin", instance.url]) == 69
    assert "/healthz answers 404" in capsys.readouterr().err
