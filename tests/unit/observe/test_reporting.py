"""What a worker hands to the sidecar, over the real channel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from edge_server.observe import reporting
from edge_server.observe.reporting import LOST, REJECT, SPAN, Reporter, unpack
from edge_server.observe.spans import Span
from edge_server.shm.reports import PACKET_BYTES, Reports

A_SPAN = Span("svc.edge.http", "1" * 32, "2" * 16, "", 1, 2, {"http.route": "/edge/assets"}, "busy", "server")


@pytest.fixture
def reports() -> Iterator[Reports]:
    made = Reports()
    yield made
    made.leave(is_worker=False, is_sidecar=False)


def received(reports: Reports) -> list[tuple[str, Any]]:
    """Take everything out of the channel."""
    found = []
    while True:
        try:
            packet = reports.receiving.recv(PACKET_BYTES)
        except BlockingIOError:
            return found
        assert 0 < len(packet) <= PACKET_BYTES
        found += unpack(packet)


def test_rejects_and_spans_arrive_in_order_and_without_what_nobody_needs(reports: Reports) -> None:
    reporter = Reporter(reports.sending)
    reporter.reject({"reason": "busy", "status": 429, "corr_id": "c", "peer_addr": "192.0.2.1"})
    reporter.span(A_SPAN)
    assert received(reports) == []
    reporter.flush()
    (reject, span) = received(reports)
    assert reject[0] == REJECT
    assert reject[1].keys() == {"ts", "reason", "status", "corr_id"}
    assert span == (SPAN, A_SPAN)


def test_a_channel_that_nobody_reads_holds_up_nobody_and_every_loss_is_counted(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "QUEUE_MAX", 500)
    reporter = Reporter(reports.sending)
    sent: Counter[str] = Counter()
    for number in range(30_000):
        if number % 3:
            reporter.reject({"reason": "busy", "status": 429, "corr_id": f"c-{number}"})
        else:
            reporter.span(A_SPAN)
        sent[SPAN if number % 3 == 0 else REJECT] += 1
        if number % 100 == 0:
            reporter.flush()
    told: Counter[str] = Counter()
    while found := received(reports):
        for kind, what in found:
            told.update(what if kind == LOST else [kind])
        reporter.flush()
    assert told == sent


def test_what_is_too_large_is_counted_as_lost(reports: Reports) -> None:
    reporter = Reporter(reports.sending)
    reporter.reject({"reason": "x" * PACKET_BYTES})
    reporter.flush()
    assert received(reports) == [(LOST, {REJECT: 1})]


def test_a_channel_that_is_closed_ends_nothing(reports: Reports) -> None:
    reporter = Reporter(reports.sending)
    reports.receiving.close()
    reporter.reject({"reason": "busy"})
    reporter.flush()
    assert reporter._lost == {REJECT: 1}


def test_the_head_is_one_of_those_that_were_set(reports: Reports) -> None:
    assert reports.head == (0, bytes(32))
    for number in range(1, 10):
        reports.head = (number, bytes([number]) * 32)
        assert reports.head == (number, bytes([number]) * 32)
