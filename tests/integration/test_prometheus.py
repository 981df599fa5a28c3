"""A real Prometheus scrapes an instance under mixed traffic: every query, panel and rule has data."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from edge_server.observe.declarations import DECLARED, GAUGE, HISTOGRAM
from tests.contract_metrics import BESIDES, CONTRACT, VALUES, shown
from tests.dashboard import queries
from tests.live import Authority, Live, flags, https_origin
from tests.origins import ok
from tests.prometheus import RULES, Prometheus, needs_prometheus, prometheus, promtool
from tests.scrapes import counts, families, sample
from tests.servers import Server, eventually
from tests.wire import Connection, ask
from tests.worlds import World

FRESH = "Cache-Control: max-age=600"
SHORT = "Cache-Control: max-age=0"

# What the operator's manual promises.
PROMISED = [
    "sum by (status) (rate(http_requests_total[5m]))",
    "histogram_quantile(0.95, sum by (le) (rate(request_latency_seconds_bucket[5m])))",
    "sum by (reason) (rate(rejected_total[5m]))",
    "sum(rate(edge_live_fill_success_total[5m]))"
    " / clamp_min(sum(rate(edge_live_fill_attempts_total[5m])), 1)",
    "avg(edge_queue_depth)",
    "sum(rate(edge_queue_dropped_total[5m]))",
    "sum by (op) (rate(io_timeouts_total[5m]))",
]
RUNBOOK = Path(__file__).parents[2] / "docs/RUNBOOK.md"
MANUAL = [
    line
    for block in re.findall(r"^```promql\n(.*?)^```$", RUNBOOK.read_text(), re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


class Observed(NamedTuple):
    """A live and an offline instance that go on with mixed traffic, and the Prometheus that saw it."""

    live: Live
    offline: Server
    prometheus: Prometheus


def mix(live: Live, world: World, name: str) -> None:
    """Send something of everything; what is filled is named after `name`."""
    for path in ("hello.txt", "style.css", world.tile_path(3), "world.json", "maps/plain.geojson"):
        for _ in range(4):
            assert live.get(path).status == 200
    assert live.get("bytes.bin", Range="bytes=0-9").status == 206
    assert live.get("bytes.bin", Range="bytes=9999-").status == 416
    assert live.get("bytes.bin", "HEAD").status == 200
    assert live.get("bytes.bin", "OPTIONS").status == 204
    assert live.get("bytes.bin", "DELETE").status == 405
    for target, status in (("/healthz", 200), ("/readyz", 200), ("/elsewhere", 404)):
        assert ask(live.server.assets, target).status == status
    assert live.get("@elsewhere.example/x").status == 403
    fill_some(live, name)
    fill_at_once(live, f"{name}-shared")
    time_out(live, f"{name}-silent")
    with Connection(live.server.assets) as slow:
        slow.socket.sendall(b"GET /edge/assets/hello.txt HTTP/1.1\r\nHost: a")
        assert slow.read_head().status == 408


def fill_some(live: Live, name: str) -> None:
    answers = live.origin.answers
    answers[f"/{name}"] = ok(name.encode() * 99, FRESH)
    answers[f"/{name}-same"] = ok(name.encode() * 99, FRESH)
    answers[f"/{name}-short"] = ok(name.encode(), SHORT, "Cache-Control: must-revalidate")
    answers[f"/{name}-broken"] = ok(b"", status="503 Service Unavailable")
    for path, status in (("", 200), ("-same", 200), ("-short", 200), ("-short", 200), ("-absent", 404)):
        assert live.get(name + path).status == status
    for _ in range(4):
        assert live.get(name)["Cache-Status"] == "svc-edge; hit"
    assert live.get(f"{name}-broken").status == 502
    assert live.get(f"{name}-refused", Cache_Control="only-if-cached").status >= 500


def fill_at_once(live: Live, name: str) -> None:
    """Let several ask for what is being fetched."""
    live.origin.answers[f"/{name}"] = ok(b"shared", FRESH)
    live.origin.held.add(f"/{name}")
    joined = sample("edge_fill_coalesced_total")
    before = counts(live.server)[joined]
    asking = [threading.Thread(target=live.get, args=(name,)) for _ in range(4)]
    for thread in asking:
        thread.start()
    eventually(lambda: counts(live.server)[joined] > before)
    live.origin.held.discard(f"/{name}")
    live.origin.release.set()
    for thread in asking:
        thread.join()
    live.origin.release.clear()


def time_out(live: Live, name: str) -> None:
    live.origin.held.add(f"/{name}")
    assert live.get(name).status == 503
    live.origin.release.set()
    live.origin.release.clear()


@pytest.fixture(scope="module")
def live(
    module_serve: Callable[..., Server], world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    """An instance that has answered mixed traffic."""
    folder = tmp_path_factory.mktemp("live")
    authority = Authority(folder)
    with https_origin(authority) as origin:
        given = flags(
            origin,
            authority,
            cas__path=folder / "cas",
            ingress__timeout_secs=2,
            ingress__header_timeout="1s",
            retry__live_fill__max_retries=1,
        )
        made = Live(module_serve(*given, *world.packs), origin)
        mix(made, world, "first")
        yield made


@pytest.fixture(scope="module")
def observed(
    live: Live, server: Server, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Observed]:
    both = (live.server, server)
    with prometheus(tmp_path_factory.mktemp("prometheus"), [each.admin for each in both]) as made:
        look_around(server)
        for each in both:
            wait_until_seen(each, made)
        mix(live, world, "second")  # a rate needs samples from before and after
        look_around(server)
        for each in both:
            wait_until_seen(each, made)
        yield Observed(live, server, made)


def look_around(server: Server) -> None:
    """Ask for what the packs have, as the readers of a demo do."""
    for path, status in (("hello.txt", 200), ("world.json", 200), ("world/0/0/0.mvt", 200), ("absent", 404)):
        for _ in range(4):
            assert ask(server.assets, f"/edge/assets/{path}").status == status


def wait_until_seen(server: Server, made: Prometheus) -> None:
    """Wait until the workers have written all down and Prometheus has read it."""
    requests = "http_requests_total"
    told = sum(value for (name, _), value in counts(server).items() if name == requests)
    seen = f'sum({requests}{{instance="{server.admin}"}})'
    eventually(lambda: made.value(seen) >= told, within=15)


@needs_prometheus
@pytest.mark.parametrize("expression", sorted({*PROMISED, *MANUAL}))
def test_what_the_manual_asks_has_an_answer(observed: Observed, expression: str) -> None:
    assert observed.prometheus.query(expression)


@needs_prometheus
def test_the_answers_are_those_of_the_traffic(observed: Observed) -> None:
    ask_it = observed.prometheus
    statuses = {series["metric"]["status"] for series in ask_it.query(f"{PROMISED[0]} > 0")}
    assert statuses >= {"200", "206", "403", "404", "416", "502", "503"}
    reasons = {series["metric"]["reason"] for series in ask_it.query(f"{PROMISED[2]} > 0")}
    assert reasons >= {"not_allowed", "not_found", "invalid_range", "method", "slow_client", "upstream_5xx"}
    assert 0 < ask_it.value(PROMISED[3]) <= 1
    assert {series["metric"]["op"] for series in ask_it.query(f"{PROMISED[6]} > 0")} == {"read", "fill"}
    assert ask_it.value("sum(increase(edge_fill_coalesced_total[5m]))") > 0
    assert ask_it.value("sum(increase(backoff_retries_total[5m]))") > 0


@needs_prometheus
def test_a_parked_request_counts_with_its_wait(observed: Observed) -> None:
    within = 'sum(request_latency_seconds_bucket{le="%s"})'
    ask_it = observed.prometheus
    assert ask_it.value(within % "+Inf") - ask_it.value(within % "0.64") >= 2


@needs_prometheus
@pytest.mark.parametrize(("panel", "expression"), queries(), ids=[panel for panel, _ in queries()])
def test_every_query_of_the_dashboard_has_data(observed: Observed, panel: str, expression: str) -> None:
    assert observed.prometheus.query(expression), panel


# What only fills have.
OF_FILLS = ("Fill success ratio A", "Fill latency p95 A")


@needs_prometheus
def test_in_offline_mode_every_panel_has_data_but_those_of_fills(observed: Observed) -> None:
    asked = queries(str(observed.offline.admin).replace(".", "[.]"))
    empty = [panel for panel, expression in asked if not observed.prometheus.query(expression)]
    assert set(empty) == set(OF_FILLS)


@needs_prometheus
def test_every_rule_is_evaluated_and_none_of_a_healthy_instance_is_about_to_page(observed: Observed) -> None:
    def unhealthy() -> list[str]:
        return [rule["name"] for rule in observed.prometheus.rules() if rule["health"] != "ok"]

    eventually(lambda: not unhealthy(), within=10, told=lambda: str(unhealthy()))
    rules = {rule["name"]: rule for rule in observed.prometheus.rules()}
    assert not [name for name, rule in rules.items() if rule.get("state") == "firing"]
    for name in ("instance:svc_edge_requests:rate5m", "instance:svc_edge_latency_seconds:p95_5m"):
        eventually(lambda name=name: len(observed.prometheus.query(name)) == 2)  # type: ignore[misc]
    hits = "instance:svc_edge_hits:ratio5m"
    assert 0 < observed.prometheus.value(f'{hits}{{instance="{observed.live.server.admin}"}}') < 1
    assert observed.prometheus.value(f'{hits}{{instance="{observed.offline.admin}"}}') == 1


def scraped(server: Server) -> dict[str, list[dict[str, str]]]:
    """Return the labels of every sample, by the name of its metric."""
    kinds = {declared.name.removesuffix("_total"): declared for declared in DECLARED}
    return {kinds[family.name].name: [each.labels for each in family.samples] for family in families(server)}


def test_every_metric_of_the_contract_is_in_a_scrape_with_its_labels(live: Live) -> None:
    found = set()
    for name, samples in scraped(live.server).items():
        orders = {declared.name: [label for label, _ in declared.labels] for declared in DECLARED}
        assert samples, name
        assert {frozenset(labels) - {"le"} for labels in samples} == {frozenset(orders[name])}, name
        found.add(shown(name, orders[name]))
    assert found == CONTRACT | BESIDES


@pytest.mark.parametrize(
    ("metric", "label", "values"),
    [
        ("edge_queue_depth", "queue", VALUES["queue"]),
        ("edge_queue_dropped_total", "queue", VALUES["queue"]),
        ("edge_cache_hits_total", "kind", VALUES["kind of hits"]),
        ("edge_cache_misses_total", "cause", VALUES["cause"]),
        ("edge_range_requests_total", "result", VALUES["result of ranges"]),
        ("io_timeouts_total", "op", VALUES["op of timeouts"]),
        ("edge_cas_writes_total", "status", VALUES["status of writes"]),
        ("edge_cas_bytes", "tier", {"memory", "disk"}),
    ],
)
def test_labels_have_the_values_that_the_contract_names(
    live: Live, metric: str, label: str, values: set[str]
) -> None:
    assert {labels[label] for labels in scraped(live.server)[metric]} == values


@needs_prometheus
def test_promtool_finds_nothing_to_complain_of_in_a_scrape(live: Live) -> None:
    text = live.server.ask_admin("/metrics")
    assert promtool("check", "metrics", given=text) == ""
    assert text.count(b"# TYPE ") == len(DECLARED)
    assert {each.kind for each in DECLARED} == {"counter", GAUGE, HISTOGRAM}


@needs_prometheus
def test_promtool_finds_rules_and_configuration_right() -> None:
    promtool("check", "rules", *RULES.glob("*ing.yml"), RULES / "alerts.yml")
    promtool("check", "config", RULES / "demo.yml")


@needs_prometheus
def test_alerts_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", RULES / "tests" / "alerts_test.yml")


def test_fills_leave_a_trace_in_the_store(live: Live) -> None:
    told = counts(live.server)
    assert told[sample("edge_cas_writes_total", status="ok")] > 0
    assert told[sample("edge_cas_writes_total", status="dedup")] > 0
