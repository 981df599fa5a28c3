"""Spans of a running instance, as a collector gets them, and what becomes of them while there is none."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.collector import Collector, Received, collector
from tests.live import Authority, Live, flags, https_origin
from tests.origins import free_port, ok
from tests.scrapes import counts, sample
from tests.servers import Server, eventually, run
from tests.wire import Connection, ask
from tests.worlds import World

Serve = Callable[..., Server]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SKEW_NS = 50_000_000
SERVER, CLIENT = 2, 3  # of opentelemetry.proto.trace.v1.Span.SpanKind


@pytest.fixture
def collecting() -> Iterator[Collector]:
    with collector() as made:
        yield made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def traced(
    serve: Serve, authority: Authority, world: World, collecting: Collector
) -> Iterator[Callable[..., Live]]:
    """Start an instance in live mode whose spans are collected."""
    with https_origin(authority) as origin:

        def begin(**settings: object) -> Live:
            given = flags(origin, authority, otel__endpoint=collecting.endpoint, **settings)
            return Live(serve(*given, *world.packs), origin)

        yield begin


def spans_of(collecting: Collector, corr_id: str, *names: str) -> dict[str, Received]:
    """Return the spans of a request by name, once there are those of `names`."""
    wanted = {f"svc.edge.{name}" for name in names}
    eventually(lambda: {span.name for span in collecting.of(corr_id)} >= wanted, within=10)
    found = {span.name: span for span in collecting.of(corr_id)}
    assert found.keys() == wanted
    return found


def test_a_refused_request_is_traced_from_the_client_over_the_sidecar_to_the_origin(
    traced: Callable[..., Live], collecting: Collector
) -> None:
    live = traced(retry__live_fill__max_retries=0)
    live.origin.answers["/broken"] = ok(b"", status="500 Internal Server Error")
    given = {"X_Corr_ID": "one-id", "traceparent": f"00-{TRACE}-{PARENT}-00"}
    answer = live.get("broken?secret=s3cr3t", **given)
    assert (answer.status, answer["X-Corr-ID"]) == (502, "one-id")
    found = spans_of(collecting, "one-id", "http", "cache", "fill")
    http, cache, fill = (found[f"svc.edge.{name}"] for name in ("http", "cache", "fill"))
    assert {span.trace_id for span in found.values()} == {TRACE}
    assert (http.parent_id, http.kind, http.is_error) == (PARENT, SERVER, True)
    assert {cache.parent_id, fill.parent_id} == {http.span_id}
    assert (fill.kind, fill.is_error, fill.attributes["error.type"]) == (CLIENT, True, "upstream_5xx")
    assert http.attributes["http.response.status_code"] == 502
    assert http.attributes["http.route"] == "/edge/assets"
    assert cache.attributes["svc_edge.cache"] == "miss"
    # The wall clocks of two processes may differ a little, on a virtual machine above all.
    assert http.start_ns - SKEW_NS <= fill.start_ns <= fill.end_ns <= http.end_ns + SKEW_NS
    assert http.start_ns <= cache.start_ns <= cache.end_ns <= http.end_ns
    (head,) = live.origin.heads
    assert re.search(rb"\r\ntraceparent: ([^\r]*)\r\n", head)[1].decode() == f"00-{TRACE}-{fill.span_id}-00"  # type: ignore[index]
    assert re.search(rb"\r\nX-Corr-ID: ([^\r]*)\r\n", head)[1] == b"one-id"  # type: ignore[index]
    assert "s3cr3t" not in repr(collecting.spans)
    assert collecting.paths[0] == "/v1/traces"
    assert collecting.resources[0]["service.name"] == "svc-edge"


def test_a_range_has_a_span_of_its_own_and_a_hit_says_where_it_came_from(
    traced: Callable[..., Live], collecting: Collector
) -> None:
    live = traced()
    answers = [live.get("hello.txt", Range="bytes=0-1", X_Corr_ID=f"r-{number}") for number in range(400)]
    assert {answer.status for answer in answers} == {206}
    eventually(lambda: len(collecting.named("svc.edge.range")) >= 2, within=10)
    time.sleep(1.5)
    https = collecting.named("svc.edge.http")
    assert 2 <= len(https) <= 6  # 1 % of each worker's
    for http in https:
        found = spans_of(collecting, http.attributes["svc_edge.corr_id"], "http", "cache", "range")
        assert found["svc.edge.cache"].attributes["svc_edge.cache"] == "pack"
        assert found["svc.edge.range"].attributes["http.response.body.size"] == 2
        assert not http.is_error
        assert http.parent_id == ""


def test_every_refusal_is_traced_and_one_in_a_hundred_of_what_the_guard_repeats(
    traced: Callable[..., Live], collecting: Collector
) -> None:
    live = traced(workers__count=1, log__access_sample=0)
    with Connection(live.server.assets) as connection:
        for _ in range(1000):
            assert connection.ask("/edge/assets/hello.txt").status == 200
        for _ in range(30):
            assert connection.ask("/edge/assets/hello.txt", "POST").status == 405
    eventually(lambda: len(collecting.named("svc.edge.http")) >= 39, within=10)
    time.sleep(1.2)
    statuses = [span.attributes["http.response.status_code"] for span in collecting.named("svc.edge.http")]
    assert statuses.count(405) == 30
    assert 9 <= statuses.count(200) <= 11
    assert live.server.events("request") == []
    told = counts(live.server)
    assert told[sample("edge_spans_total", result="exported")] == len(collecting.spans)
    assert told[sample("edge_spans_total", result="dropped")] == 0


def test_a_client_cannot_have_its_requests_traced(traced: Callable[..., Live], collecting: Collector) -> None:
    live = traced(workers__count=1)
    with Connection(live.server.assets) as connection:
        for number in range(200):
            connection.ask(
                "/edge/assets/hello.txt", fields={"traceparent": f"00-{TRACE}-{number + 1:016x}-01"}
            )
        connection.ask("/edge/assets/hello.txt", "POST", {"X-Corr-ID": "last"})
    eventually(lambda: collecting.of("last"), within=10)
    good = [s for s in collecting.named("svc.edge.http") if s.attributes["http.response.status_code"] == 200]
    assert [span.trace_id for span in good] == [TRACE] * 2


def test_a_collector_that_is_down_slows_nobody_and_is_told_once(serve: Serve, world: World) -> None:
    port = free_port()
    server = serve("--workers", 1, "--set", f"otel.endpoint=http://127.0.0.1:{port}", *world.packs)
    latencies = []
    with Connection(server.assets) as connection:
        for _ in range(500):
            began_s = time.monotonic()
            assert connection.ask("/edge/assets/absent").status == 404
            latencies.append(time.monotonic() - began_s)
    failed = sample("edge_spans_total", result="failed")
    eventually(lambda: counts(server).get(failed, 0) > 0, within=20)
    assert sorted(latencies)[len(latencies) // 2] < 0.02
    assert [line["level"] for line in server.events("trace_export")] == ["warning"]
    with collector(port) as late:
        ask(server.assets, "/edge/assets/absent", fields={"X-Corr-ID": "late"})
        eventually(lambda: late.of("late"), within=20)
        eventually(lambda: len(server.events("trace_export")) == 2)
    assert server.stop() == 0
    server.lines()  # nothing of a library stands between them


def test_a_collector_that_hangs_does_not_hold_up_the_end(
    serve: Serve, world: World, collecting: Collector
) -> None:
    collecting.delay_s = 30
    server = serve("--workers", 1, "--set", f"otel.endpoint={collecting.endpoint}", *world.packs)
    assert ask(server.assets, "/edge/assets/absent").status == 404
    time.sleep(1.2)
    began_s = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began_s < 8


def test_the_variable_of_opentelemetry_is_enough_and_its_own_ones_hold(
    serve: Serve, world: World, collecting: Collector
) -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collecting.endpoint,
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
    }
    server = serve("--workers", 1, *world.packs, environ=environ)
    ask(server.assets, "/edge/assets/absent")
    eventually(lambda: collecting.spans, within=10)
    assert collecting.resources[0]["deployment.environment"] == "test"


def test_without_the_packages_the_setting_is_an_error_that_says_what_to_install(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("")
    settings = ("--set", "otel.endpoint=http://127.0.0.1:4318")
    ended = run("check", *settings, *world.packs, environ={"PYTHONPATH": str(tmp_path)})
    assert ended.returncode == 78
    assert "otel.endpoint" in ended.stderr
    assert "pip install 'svc-edge[otel]'" in ended.stderr


def test_only_the_sidecar_loads_opentelemetry_and_only_with_tracing(
    serve: Serve, world: World, collecting: Collector
) -> None:
    traced = serve("--workers", 1, "--set", f"otel.endpoint={collecting.endpoint}", *world.packs)
    eventually(lambda: has_protobuf(traced.sidecar()))
    assert not any(map(has_protobuf, [traced.pid, *traced.workers().values()]))
    plain = serve("--workers", 1, *world.packs)
    assert not any(map(has_protobuf, [plain.pid, *(child.pid for child in plain.children())]))


def has_protobuf(pid: int) -> bool:
    """Whether a process has loaded the library that OTLP needs."""
    return "google/_upb" in Path(f"/proc/{pid}/maps").read_text()
