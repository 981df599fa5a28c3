"""The metrics of a whole instance: exact over several workers, and over the death of one."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable

from edge_server.observe.metrics import DECLARED, ROUTES
from tests.http_rows import BYTES_TAG, ROWS, Row
from tests.scrapes import Sample, Samples, counts, families, grown, sample
from tests.servers import Server, eventually
from tests.wire import Connection
from tests.worlds import World

Serve = Callable[..., Server]

CONTRACT_BUCKETS = {0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12}
LATENCY = "request_latency_seconds"
HEALTH = sample("http_requests_total", route="/healthz", method="GET", status="200")
OK = sample("http_requests_total", route="/edge/assets", method="GET", status="200")
RESTARTS = sample("service_restarts_total", component="worker")
ROUND = [
    row
    for row in ROWS
    if row.target in ("hello.txt", "bytes.bin", "style.css", "big.bin", "/healthz", "/readyz")
] + [row for row in ROWS if row.target.startswith("world/") or row.reason in ("not_found", "bad_request")]


def one_connection_a_worker(server: Server) -> list[Connection]:
    """Open connections until each worker has one, and wait until what that took is counted.

    The ids of one process begin alike; /healthz is asked for nothing else before.
    """
    found: dict[str, Connection] = {}
    spare = []
    before = counts(server).get(HEALTH, 0)
    while len(found) < len(server.workers()):
        connection = Connection(server.assets)
        prefix = connection.ask("/healthz")["X-Corr-ID"].split("-")[0]
        spare.append(connection) if prefix in found else found.setdefault(prefix, connection)
    for connection in spare:
        connection.close()
    asked = before + len(found) + len(spare)
    eventually(lambda: counts(server).get(HEALTH) == asked)
    return list(found.values())


def route_of(row: Row) -> str:
    if row.path.startswith("/edge/assets/"):
        return "/edge/assets"
    return row.path if row.path in ROUTES else "other"


def expected_of(rows: Iterable[tuple[Row, int]]) -> Counter[Sample]:
    """Return by how much the counters must grow for rows and the lengths of their answers."""
    told: Counter[Sample] = Counter()
    for row, length in rows:
        route = route_of(row)
        method = row.method if row.method in ("GET", "HEAD", "OPTIONS") else "other"
        status = str(row.status)
        told[sample("http_requests_total", route=route, method=method, status=status)] += 1
        told[sample(f"{LATENCY}_count", route=route, method=method)] += 1
        told[sample("edge_bytes_out_total", route=route)] += length
        if row.reason or row.status >= 400:
            told[sample("rejected_total", reason=row.reason or "not_found")] += 1
        elif route == "/edge/assets" and method != "OPTIONS":
            is_partial = "true" if row.status == 206 else "false"
            told[sample("edge_cache_hits_total", kind="pack", range=is_partial)] += 1
        if row.status in (206, 416):
            told[sample("edge_range_requests_total", result=status)] += 1
    return +told


def settled(before: Samples, server: Server) -> Samples:
    """Return what grew of the counters that are exact; times and buckets are judged elsewhere."""
    inexact = (f"{LATENCY}_sum", f"{LATENCY}_bucket", "edge_bytes_in_total")
    return {key: value for key, value in grown(before, counts(server)).items() if key[0] not in inexact}


def test_counters_grow_by_exactly_what_was_sent_to_all_workers(serve: Serve, world: World) -> None:
    server = serve("--workers", 2, *world.packs)
    connections = one_connection_a_worker(server)
    assert len(connections) == 2
    before = counts(server)
    done = []
    for connection in connections:
        for row in ROUND:
            answer = connection.ask(row.path, row.method, row.fields, row.sent)
            assert answer.status == row.status
            done.append((row, len(answer.body)))
    expected = expected_of(done)
    eventually(lambda: settled(before, server) == expected)
    # Once every worker has counted something later, nothing of this can still be on its way.
    later = Row("later", "/nowhere/else", 404, reason="not_found")
    for connection in connections:
        done.append((later, len(connection.ask(later.path).body)))
        connection.close()
    expected = expected_of(done)
    eventually(lambda: settled(before, server) == expected)


def test_every_latency_lies_in_a_bucket_and_the_buckets_are_those_promised(server: Server) -> None:
    with Connection(server.assets) as connection:
        connection.ask("/edge/assets/hello.txt")
    eventually(
        lambda: (
            (f"{LATENCY}_count", frozenset({("route", "/edge/assets"), ("method", "GET")})) in counts(server)
        )
    )
    (family,) = [family for family in families(server) if family.name == LATENCY]
    assert family.type == "histogram"
    by_labels: dict[tuple[str, str], dict[float, float]] = {}
    for each in family.samples:
        if each.name == f"{LATENCY}_bucket":
            place = (each.labels["route"], each.labels["method"])
            by_labels.setdefault(place, {})[float(each.labels["le"])] = each.value
    totals = {
        (each.labels["route"], each.labels["method"]): each.value
        for each in family.samples
        if each.name == f"{LATENCY}_count"
    }
    for place, buckets in by_labels.items():
        assert set(buckets) >= CONTRACT_BUCKETS | {0.0005, float("inf")}
        values = [buckets[bound] for bound in sorted(buckets)]
        assert values == sorted(values)
        assert values[-1] == totals[place]


def test_every_metric_is_declared_and_has_help(server: Server) -> None:
    declared = {each.name.removesuffix("_total"): each for each in DECLARED}
    for family in families(server):
        assert family.documentation == declared[family.name].help
        assert family.type == declared[family.name].kind


def test_labels_are_bounded_and_hold_no_path(server: Server) -> None:
    with Connection(server.assets) as connection:
        for number in range(20):
            connection.ask(f"/edge/assets/one-of-many/{number}.bin")
            connection.ask(f"/{number}/elsewhere?token=secret")
    before = counts(server)
    with Connection(server.assets) as connection:
        for number in range(100, 120):
            connection.ask(f"/edge/assets/one-of-many/{number}.bin")
            connection.ask(f"/{number}/elsewhere")
            connection.ask(
                "/edge/assets/bytes.bin", fields={"If-None-Match": BYTES_TAG, "User-Agent": str(number)}
            )
    eventually(lambda: sum(grown(before, counts(server)).values()) >= 60)
    pairs = {pair for _, labels in counts(server) for pair in labels}
    strange = ("one-of-many", "elsewhere", "127.0", "secret")
    assert not [value for _, value in pairs if any(word in value for word in strange)]
    assert {value for name, value in pairs if name == "route"} <= set(ROUTES)
    allowed = {label for each in DECLARED for label, _ in each.labels}
    assert {name for name, _ in pairs} <= allowed | {"le"}


def ask_each_worker(server: Server, times: int) -> None:
    for connection in one_connection_a_worker(server):
        for _ in range(times):
            connection.ask("/edge/assets/bytes.bin")
        connection.close()


def replace_worker(server: Server, slot: int) -> Samples:
    """Kill a worker, scrape until another has its place, and return the last scrape."""
    last, victim = counts(server), server.workers()[slot]
    os.kill(victim, signal.SIGKILL)
    while server.workers().get(slot, victim) == victim:
        now = counts(server)
        assert not {key: by for key, by in grown(last, now).items() if by < 0}
        last = now
    return last


def test_totals_never_fall_when_a_worker_is_killed_and_replaced(serve: Serve, world: World) -> None:
    server = serve("--workers", 2, *world.packs)
    victims = server.workers()
    ask_each_worker(server, 50)
    eventually(lambda: counts(server).get(OK) == 100)
    for slot in (0, 1, 0):
        last = replace_worker(server, slot)
        assert grown(last, counts(server)).keys() <= {RESTARTS}
    assert set(server.workers().values()).isdisjoint(victims.values())
    assert (counts(server)[RESTARTS], counts(server)[OK]) == (3, 100)
    ask_each_worker(server, 50)
    eventually(lambda: counts(server)[OK] == 200)


def test_gauges_tell_of_the_processes_that_live_now(server: Server) -> None:
    gauges = {
        (each.name, *sorted(each.labels.values())): each.value
        for family in families(server)
        if family.type == "gauge"
        for each in family.samples
    }
    assert gauges["edge_worker_up", "0"] == gauges["edge_worker_up", "1"] == 1
    assert gauges["edge_ready",] == 1
    assert gauges["edge_generation",] == 1
    assert gauges["inflight_requests", "/edge/assets"] == 0
    assert 0 <= gauges["edge_worker_loop_lag_seconds", "0"] < 60


def gauge(server: Server, name: str, slot: int) -> float | None:
    """Return what a gauge tells of a slot, None where it does not tell."""
    (value,) = [
        each.value
        for family in families(server)
        for each in family.samples
        if each.name == name and each.labels == {"slot": str(slot)}
    ] or [None]
    return value


def test_a_slot_without_a_worker_is_down_until_it_has_one_again(serve: Serve, world: World) -> None:
    server = serve("--workers", 2, *world.packs)
    killed: set[int] = set()

    def is_down() -> bool:
        """Kill each successor: of those that die early, the second is not replaced at once."""
        for victim in {server.workers().get(1)} - killed - {None}:
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
        return gauge(server, "edge_worker_up", 1) == 0

    eventually(is_down, within=15)
    assert gauge(server, "edge_worker_up", 0) == 1
    eventually(lambda: gauge(server, "edge_worker_up", 1) == 1)
    assert counts(server)[RESTARTS] == len(killed)


def test_a_worker_that_stands_still_is_late_until_it_goes_on(serve: Serve, world: World) -> None:
    server = serve("--workers", 2, *world.packs)
    lag = "edge_worker_loop_lag_seconds"
    still = server.workers()[0]
    os.kill(still, signal.SIGSTOP)
    try:
        eventually(lambda: (gauge(server, lag, 0) or 0) > 0.5)
        assert (gauge(server, lag, 1) or 0) < 0.5
    finally:
        os.kill(still, signal.SIGCONT)
    eventually(lambda: (gauge(server, lag, 0) or 0) < 0.5)
    assert server.workers()[0] == still
