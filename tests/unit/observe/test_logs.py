from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_server.observe import logs
from edge_server.observe.logs import LEVELS, AccessLog

Written = Callable[[], list[str]]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    """The lines logged so far; `logs.configure` writes them to descriptor `logs.target`."""
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    configure = logs.configure
    monkeypatch.setattr(logs._Process, "_log", None)
    monkeypatch.setattr(
        logs, "configure", lambda *args, **bound: configure(*args, descriptor=descriptor, **bound)
    )
    logs.configure("json", "info")
    yield lambda: path.read_text("ascii").splitlines()
    os.close(descriptor)


def request(log: AccessLog, status: int = 200, **more: Any) -> None:
    log.request(
        "/edge/assets",
        "GET",
        status,
        latency_s=0.0012345,
        bytes_out=10,
        corr_id="abc",
        peer_addr="10.0.0.1",
        **more,
    )


def test_a_line_is_one_object_with_the_fields_that_every_event_has(written: Written) -> None:
    logs.configure("json", "info", slot=3, mode="offline")
    logs.log("pack_mount", pack="world", tiles=7)
    (record,) = map(json.loads, written())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("ts"))
    assert record == {
        "level": "info",
        "service": "svc-edge",
        "event": "pack_mount",
        "pid": os.getpid(),
        "slot": 3,
        "mode": "offline",
        "latency_ms": 0,
        "pack": "world",
        "tiles": 7,
    }


@pytest.mark.parametrize("least", LEVELS)
def test_only_events_of_the_level_and_above_are_logged(written: Written, least: str) -> None:
    logs.configure("json", least)
    for level in LEVELS:
        logs.log("start", level)
    assert [json.loads(line)["level"] for line in written()] == list(LEVELS[LEVELS.index(least) :])


HOSTILE = [
    pytest.param("a\nb", id="newline"),
    pytest.param('","event":"forged', id="quote"),
    pytest.param("\x1b[2J\x07\x00\x7f", id="terminal controls"),
    pytest.param("\u2028\u2029\x85\r", id="unicode line ends"),
    pytest.param("\udcff\udc80", id="lone surrogates"),
    pytest.param("level=error event=forged", id="text fields"),
]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_stays_one_json_field(written: Written, value: str) -> None:
    logs.log("reject", corr_id=value)
    (line,) = written()
    assert line.isprintable()
    assert json.loads(line)["corr_id"] == value


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_stays_one_text_field(written: Written, value: str) -> None:
    logs.configure("text", "info")
    logs.log("reject", corr_id=value)
    (line,) = written()
    assert line.isprintable()
    assert json.loads(line.partition("corr_id=")[2]) == value


def test_text_is_for_people(written: Written) -> None:
    logs.configure("text", "info")
    logs.log("ready", ready=1, addr="127.0.0.1:8080", note="two words")
    (line,) = written()
    assert re.fullmatch(
        rf'\S+Z INFO    ready        pid={os.getpid()} ready=1 addr=127.0.0.1:8080 note="two words"', line
    )


def test_a_level_is_coloured_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, terminal = os.openpty()
    configure = logs.configure
    configure("text", "info", descriptor=terminal)
    logs.log("ready", "warning", note="WARNING")
    assert b" \x1b[33mWARNING\x1b[0m ready" in os.read(reader, 4096)
    monkeypatch.setenv("NO_COLOR", "1")
    configure("text", "info", descriptor=terminal)
    logs.log("ready", "warning")
    assert b"\x1b" not in os.read(reader, 4096)
    monkeypatch.delenv("NO_COLOR")
    configure("json", "info", descriptor=terminal)
    logs.log("ready", "warning")
    assert b"\x1b" not in os.read(reader, 4096)
    logs._Process._log = None
    os.close(reader)
    os.close(terminal)


def test_a_line_fits_into_one_write_to_a_pipe(written: Written) -> None:
    logs.log("reload", "error", error="é" * 5000, other=["x" * 4000])
    (line,) = written()
    assert len(line) < 4096
    assert json.loads(line)["event"] == "reload"


@pytest.mark.parametrize(
    ("sample", "wanted"), [(0, 0), (0.01, 10), (0.3, 300), (1, 1000)], ids=["none", "1 %", "30 %", "all"]
)
def test_a_share_of_good_requests_is_logged(written: Written, sample: float, wanted: int) -> None:
    log = AccessLog(sample)
    assert sum(log.wants(200) for _ in range(1000)) == pytest.approx(wanted, abs=1)


def test_failures_and_rejects_are_always_logged(written: Written) -> None:
    log = AccessLog(0)
    assert [status for status in (200, 206, 304, 400, 404, 416, 429, 500, 503) if log.wants(status)] == [
        400,
        404,
        416,
        429,
        500,
        503,
    ]


def test_a_request_waits_for_the_flush(written: Written) -> None:
    log = AccessLog(1)
    request(log, etag='"b3:00"')
    assert written() == []
    log.flush()
    (record,) = map(json.loads, written())
    assert record["event"] == "request"
    assert record["latency_ms"] == 1.234 or record["latency_ms"] == 1.235
    assert (record["route"], record["status"], record["etag"]) == ("/edge/assets", 200, '"b3:00"')


@pytest.mark.parametrize(
    ("status", "reason", "event", "level"),
    [
        (404, "not_found", "reject", "warning"),
        (503, "pack_io", "reject", "error"),
        (503, "", "request", "warning"),
        (304, "", "request", "info"),
    ],
)
def test_a_refused_request_is_a_reject_with_its_reason(
    written: Written, status: int, reason: str, event: str, level: str
) -> None:
    log = AccessLog(1)
    request(log, status, reason=reason)
    log.flush()
    (record,) = map(json.loads, written())
    assert (record["event"], record["level"], record.get("reason", "")) == (event, level, reason)


def test_good_requests_are_not_even_formatted_below_their_level(written: Written) -> None:
    logs.configure("json", "warning")
    log = AccessLog(1)
    assert not log.wants(200)
    assert log.wants(404)


def test_a_child_does_not_repeat_what_its_parent_still_holds(written: Written) -> None:
    AccessLog(1)
    request(AccessLog(1))
    pid = os.fork()
    if pid == 0:
        logs.configure("json", "info", slot=0)
        logs.log("ready")
        os._exit(0)
    os.waitpid(pid, 0)
    logs.flush()
    assert [json.loads(line)["event"] for line in written()] == ["ready", "request"]
