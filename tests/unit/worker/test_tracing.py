"""Which answers a worker traces, and which it logs, without bjoern or a collector."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from edge_server import guard
from edge_server.observe import logs
from edge_server.observe.logs import AccessLog
from edge_server.observe.spans import CACHE, HTTP, RANGE, Span
from edge_server.worker import tracing
from edge_server.worker.tracing import TracedAccessLog, Tracer

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Reported:
    """Stands in for a Reporter, and for what parks."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.flushes = 0
        self.last_token = 0

    def span(self, span: Span) -> None:
        self.spans.append(span)

    def flush(self) -> None:
        self.flushes += 1

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
def reported() -> Reported:
    return Reported()


@pytest.fixture
def tracer(reported: Reported) -> Tracer:
    return Tracer(reported)  # type: ignore[arg-type]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the log was told."""
    told: list[dict[str, Any]] = []
    log = logs.Log("json", "info", {})
    monkeypatch.setattr(log._sink, "append", lambda line: told.append(json.loads(line)))
    monkeypatch.setattr(logs._Process, "_log", log)
    return told


def answer(log: AccessLog, status: int, reason: str = "") -> None:
    log.request(
        "/edge/assets", "GET", status, latency_s=0.001, bytes_out=1, corr_id="c", peer_addr="", reason=reason
    )


@pytest.mark.parametrize("sample", [0, 0.001, 0.01, 0.3, 1])
def test_the_log_has_its_share_and_the_traces_have_theirs(
    sample: float, tracer: Tracer, reported: Reported, lines: list[dict[str, Any]]
) -> None:
    log = TracedAccessLog(sample, tracer)
    for _ in range(2000):
        if log.wants(200):
            answer(log, 200)
    assert len(lines) == pytest.approx(2000 * sample, abs=1)
    assert len(reported.named(HTTP)) == pytest.approx(20, abs=1)
    for _ in range(10):
        assert log.wants(404)
        answer(log, 404, "not_found")
    assert len(reported.named(HTTP)) == pytest.approx(30, abs=1)


@pytest.mark.parametrize("sample", [0, 0.001, 0.01, 0.05])
def test_of_repeated_answers_both_have_their_share(
    sample: float, tracer: Tracer, reported: Reported, lines: list[dict[str, Any]]
) -> None:
    log = TracedAccessLog(sample, tracer)
    for _ in range(round(100_000 * log.share)):
        if log.wants_repeated():
            answer(log, 200)
    assert len(lines) == pytest.approx(100_000 * sample, abs=1)
    assert len(reported.named(HTTP)) == pytest.approx(1000, abs=1)


def test_a_refusal_that_nobody_was_asked_about_is_logged_traced_and_reported(
    tracer: Tracer, reported: Reported, lines: list[dict[str, Any]]
) -> None:
    rejects: list[object] = []
    log = TracedAccessLog(0, tracer, rejects.append)
    answer(log, 429, "busy")
    log.more(429, "busy", 7)
    assert [line["event"] for line in lines] == ["reject", "reject"]
    assert [fields.get("count", 1) for fields in rejects] == [1, 7]  # type: ignore[attr-defined]
    assert len(reported.named(HTTP)) == 1


def test_a_request_that_was_parked_goes_on_with_its_ids(
    tracer: Tracer, reported: Reported, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = TracedAccessLog(0, tracer)
    token, outgoing = 0, []
    monkeypatch.setattr(guard, "replay_of", lambda: token)

    def hit_path(environ: dict[str, Any], start_response: Callable[..., Any]) -> bytes:
        if not token:
            outgoing.append(tracer.outgoing())
            reported.last_token = 5
            return b""
        start_response("206 Partial Content", [])
        assert log.wants(503)
        answer(log, 206)
        return b"x"

    traced = tracer.wrap(hit_path, reported)
    environ = {"HTTP_TRACEPARENT": f"00-{TRACE}-{PARENT}-01"}
    traced(environ, lambda *_: None)
    assert reported.spans == []
    token = 5
    traced({}, lambda *_: None)
    (http,) = reported.named(HTTP)
    assert (http.trace_id, http.parent_id) == (TRACE, PARENT)
    assert outgoing == [f"00-{TRACE}-{http.span_id}-00"]
    assert [span.parent_id for span in reported.named(CACHE) + reported.named(RANGE)] == [http.span_id] * 2
    assert all(http.start_ns <= span.start_ns <= span.end_ns <= http.end_ns for span in reported.spans)


def test_a_request_that_is_parked_for_its_origin_and_then_for_a_disk_keeps_its_ids(
    tracer: Tracer, reported: Reported, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, errands = TracedAccessLog(0, tracer), Reported()
    token, outgoing = 0, []
    monkeypatch.setattr(guard, "replay_of", lambda: token)

    def hit_path(environ: dict[str, Any], start_response: Callable[..., Any]) -> bytes:
        outgoing.append(tracer.outgoing())
        if token == 0:
            reported.last_token = 5
        elif token == 5:
            errands.last_token = 6
        else:
            assert log.wants(503)
            answer(log, 503, "timeout")
        return b""

    traced = tracer.wrap(hit_path, errands, reported)
    for replayed in (0, 5, 6):
        token = replayed
        traced({"HTTP_TRACEPARENT": f"00-{TRACE}-{PARENT}-01"}, lambda *_: None)
    (http,) = reported.named(HTTP)
    assert outgoing == [f"00-{TRACE}-{http.span_id}-00"] * 3
    assert tracer._parked == {}


def test_a_request_whose_client_left_while_it_was_parked_is_forgotten(
    tracer: Tracer, reported: Reported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "replay_of", lambda: 0)

    def hit_path(environ: dict[str, Any], start_response: Callable[..., Any]) -> bytes:
        reported.last_token += 1
        return b""

    traced = tracer.wrap(hit_path, reported)
    for _ in range(3):
        traced({}, lambda *_: None)
    tracer.fold()
    assert len(tracer._parked) == 3
    monkeypatch.setattr(tracing, "FORGOTTEN_S", -1)
    tracer.fold()
    assert tracer._parked == {}
    assert reported.flushes == 2
