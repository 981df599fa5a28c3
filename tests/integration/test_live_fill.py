"""Fills, over the real command and a real HTTPS origin: what is asked of it, and what clients get."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.live import Authority, Live, Origin, flags, https_origin, post
from tests.origins import ok
from tests.scrapes import counts, families, sample
from tests.servers import Server, eventually, run
from tests.wire import Answer, Connection, ask
from tests.worlds import World, etag

BODY = b"what the origin has " * 100
FRESH = "Cache-Control: max-age=600"
STORED = "svc-edge; fwd=miss; stored"
HIT = "svc-edge; hit"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def shared_origin(authority: Authority) -> Iterator[Origin]:
    with https_origin(authority) as origin:
        yield origin


@pytest.fixture(scope="module")
def live(
    module_serve: Callable[..., Server], shared_origin: Origin, authority: Authority, world: World
) -> Live:
    """An instance with packs and an origin, for tests that take paths of their own."""
    given = flags(shared_origin, authority, ingress__timeout_secs=2, retry__live_fill__max_retries=0)
    return Live(module_serve(*given, *world.packs), shared_origin)


@pytest.fixture
def start(serve: Callable[..., Server], authority: Authority) -> Iterator[Callable[..., Live]]:
    """Start an instance and an origin of the test's own."""
    with https_origin(authority) as origin:

        def begin(*more: object, **settings: object) -> Live:
            return Live(serve(*flags(origin, authority, **settings), *more), origin)

        yield begin


def value(server: Server, name: str, **labels: str) -> float:
    """Return one sample of a counter."""
    return counts(server).get(sample(name, **labels), 0)


def test_a_miss_is_filled_over_tls_and_the_next_request_is_a_hit_with_the_same_tag(live: Live) -> None:
    live.origin.answers["/a.txt"] = ok(BODY, FRESH, "Content-Type: text/plain", "X-Unknown: kept")
    first = live.get("a.txt")
    assert (first.status, first.body, first["Cache-Status"]) == (200, BODY, STORED)
    for _ in range(8):  # of both workers
        answer = live.get("a.txt")
        assert (answer.status, answer.body, answer["Cache-Status"]) == (200, BODY, HIT)
        assert answer["ETag"] == first["ETag"] == etag(BODY)
        assert (answer["Content-Type"], answer["X-Unknown"]) == ("text/plain", "kept")
        assert (answer["Cache-Control"], int(answer["Age"]) < 60) == ("max-age=600", True)
    assert live.origin.asked["/a.txt"] == 1


def test_what_a_pack_has_is_never_asked_of_an_origin(live: Live, world: World) -> None:
    live.origin.answers["/hello.txt"] = ok(b"from elsewhere")
    assert live.get("hello.txt").body == world.files["hello.txt"]
    assert live.get(world.tile_path(3)).status == 200
    assert live.origin.asked["/hello.txt"] == 0


@pytest.mark.parametrize(
    ("path", "answer", "status", "reason"),
    [
        ("@elsewhere.example/x", b"", 403, "not_allowed"),
        ("@localhost:1/x", b"", 403, "not_allowed"),
        ("absent", ok(b"", status="404 Not Found"), 404, "not_found"),
        ("gone", ok(b"", status="410 Gone"), 404, "not_found"),
        ("forbidden", ok(b"", status="403 Forbidden"), 502, "upstream_4xx"),
        ("broken", ok(b"", status="500 Internal Server Error"), 502, "upstream_5xx"),
        ("lying", ok(BODY, f'ETag: "b3:{"0" * 64}"'), 502, "etag_invalid"),
        ("hashed", ok(BODY, "Repr-Digest: sha-256=:AAAA:"), 502, "integrity"),
        ("partial", ok(BODY, status="206 Partial Content"), 502, "integrity"),
        ("away", ok(b"", "Location: https://elsewhere.example/", status="302 Found"), 403, "not_allowed"),
    ],
    ids=lambda value: value if isinstance(value, str) and "@" not in value else None,
)
def test_what_cannot_be_filled_is_refused_with_its_reason(
    live: Live, path: str, answer: bytes, status: int, reason: str
) -> None:
    live.origin.answers[f"/{path}"] = answer
    told = live.get(path)
    assert (told.status, told["X-Reason"]) == (status, reason)
    assert told.all("ETag") == []


def test_answers_that_are_repeated_grow_older_and_are_counted(live: Live) -> None:
    live.origin.answers["/aging"] = ok(BODY, FRESH)
    before = value(live.server, "edge_cache_hits_total", kind="cas", range="false")
    with Connection(live.server.assets) as connection:
        ages = [int(connection.ask("/edge/assets/aging")["Age"]) for _ in range(3)]
        eventually(lambda: int(connection.ask("/edge/assets/aging")["Age"]) >= ages[0] + 2)
    eventually(lambda: value(live.server, "edge_cache_hits_total", kind="cas", range="false") > before + 3)
    assert live.origin.asked["/aging"] == 1


def test_an_absence_is_remembered(live: Live) -> None:
    assert [live.get("never-there").status for _ in range(6)] == [404] * 6
    assert live.origin.asked["/never-there"] == 1


def test_a_silent_origin_is_a_503_within_the_budget(live: Live) -> None:
    live.origin.held.add("/silent")
    began_s = time.monotonic()
    answer = live.get("silent")
    live.origin.release.set()
    live.origin.release.clear()
    assert (answer.status, answer["X-Reason"]) == (503, "timeout")
    assert int(answer["Retry-After"]) >= 1
    assert 1.5 < time.monotonic() - began_s < 4


def test_head_and_ranges_of_a_cold_object_cost_one_whole_fetch(live: Live) -> None:
    live.origin.answers["/cold"] = ok(BODY, FRESH)
    head = live.get("cold", "HEAD")
    part = live.get("cold", Range="bytes=5-9")
    assert (head.status, head["Content-Length"], head.body) == (200, str(len(BODY)), b"")
    assert (part.status, part.body, part["ETag"]) == (206, BODY[5:10], etag(BODY))
    assert live.get("cold", Range=f"bytes={len(BODY)}-").status == 416
    assert live.origin.asked["/cold"] == 1


def test_a_range_of_an_object_that_nobody_has_asked_for_is_answered_after_its_fill(live: Live) -> None:
    live.origin.answers["/ranged"] = ok(BODY, FRESH)
    answer = live.get("ranged", Range="bytes=-7")
    assert (answer.status, answer.body, answer["ETag"]) == (206, BODY[-7:], etag(BODY))


def test_the_origins_own_tag_is_honoured_in_preconditions_and_ours_is_sent(live: Live) -> None:
    live.origin.answers["/tagged"] = ok(BODY, FRESH, 'ETag: "theirs"')
    assert live.get("tagged")["ETag"] == etag(BODY)
    for tag in ('"theirs"', '"x", "theirs"', 'W/"theirs"', etag(BODY)):
        assert live.get("tagged", If_None_Match=tag).status == 304
    assert live.get("tagged", If_None_Match='"other"').status == 200
    assert live.get("tagged", If_Match='"theirs"').status == 200
    assert live.get("tagged", If_Match='"other"').status == 412
    assert live.get("tagged", Range="bytes=0-1", If_Range='"theirs"').status == 206


def test_what_may_not_be_stored_is_passed_on_and_asked_for_again(live: Live) -> None:
    for path, field in (("p", "private"), ("n", "no-store")):
        live.origin.answers[f"/{path}"] = ok(BODY, f"Cache-Control: {field}")
        answers = [live.get(path) for _ in range(3)]
        assert [(answer.status, answer.body) for answer in answers] == [(200, BODY)] * 3
        assert {answer["Cache-Status"] for answer in answers} == {"svc-edge; fwd=bypass"}
        assert live.origin.asked[f"/{path}"] == 3


def test_credentials_are_not_passed_on_and_what_they_brought_is_not_stored(live: Live) -> None:
    live.origin.answers["/secret"] = ok(BODY, FRESH)
    for _ in range(2):
        assert live.get("secret", Authorization="Basic xyzzy", Cookie="a=b").status == 200
    assert live.origin.asked["/secret"] == 2
    sent = b"".join(live.origin.heads).lower()
    assert b"authorization" not in sent
    assert b"cookie" not in sent


def test_variants_are_told_apart_by_what_the_origin_names(live: Live) -> None:
    def answer(head: bytes) -> bytes:
        language = b"de" if b"accept-language: de" in head.lower() else b"en"
        return ok(language * 50, FRESH, "Vary: Accept-Language")

    live.origin.answers["/varied"] = answer
    for language in ("de", "en", "de", "en", "de"):
        told = live.get("varied", Accept_Language=language)
        assert (told.body, told["Vary"]) == (language.encode() * 50, "Accept-Language")
    assert live.origin.asked["/varied"] == 2


def test_a_stale_object_is_confirmed_by_its_origin_and_keeps_its_bytes(live: Live) -> None:
    def answer(head: bytes) -> bytes:
        if b'if-none-match: "v1"' in head.lower():
            return ok(b"", 'ETag: "v1"', "Cache-Control: max-age=600", status="304 Not Modified")
        return ok(BODY, 'ETag: "v1"', "Cache-Control: max-age=0, must-revalidate")

    live.origin.answers["/stale"] = answer
    assert live.get("stale")["Cache-Status"] == STORED
    confirmed = live.get("stale")
    assert (confirmed.body, confirmed["ETag"]) == (BODY, etag(BODY))
    assert confirmed["Cache-Status"] == "svc-edge; fwd=stale; fwd-status=304"
    assert live.get("stale")["Cache-Status"] == HIT
    assert live.origin.asked["/stale"] == 2


def test_a_stale_object_stands_in_for_an_origin_that_fails(live: Live) -> None:
    live.origin.answers["/shaky"] = ok(BODY, "Cache-Control: max-age=0, stale-while-revalidate=0")
    assert live.get("shaky").status == 200
    live.origin.answers["/shaky"] = ok(b"", status="503 Service Unavailable")
    # A request that comes while the fetch before it is being told to who asked for it joins that one.
    eventually(lambda: live.get("shaky")["Cache-Status"] == "svc-edge; fwd=stale")
    answer = live.get("shaky")
    assert (answer.status, answer.body, answer["Cache-Status"]) == (200, BODY, "svc-edge; fwd=stale")


def test_a_stale_object_is_served_while_it_is_fetched_again(live: Live) -> None:
    live.origin.answers["/old"] = ok(b"old", "Cache-Control: max-age=0, stale-while-revalidate=60")
    assert live.get("old").body == b"old"
    live.origin.answers["/old"] = ok(b"new", FRESH)
    assert live.get("old").body == b"old"
    eventually(lambda: live.get("old").body == b"new")
    assert live.origin.asked["/old"] == 2


def test_a_request_may_want_what_is_held_only_or_nothing_held(live: Live) -> None:
    live.origin.answers["/held"] = ok(BODY, FRESH)
    unheld = live.get("held", Cache_Control="only-if-cached")
    assert (unheld.status, unheld["X-Reason"]) == (503, "fill_unavailable")
    assert live.get("held").status == 200
    assert live.get("held", Cache_Control="only-if-cached")["Cache-Status"] == HIT
    assert live.get("held", Cache_Control="no-cache")["Cache-Status"] == STORED
    assert live.origin.asked["/held"] == 2


def test_five_hundred_clients_of_both_workers_are_one_request_to_the_origin(
    start: Callable[..., Live],
) -> None:
    live = start(ingress__max_inflight=1000)
    live.origin.answers["/storm"] = ok(BODY, FRESH)
    live.origin.held.add("/storm")
    connections = [Connection(live.server.assets, 20) for _ in range(500)]
    for connection in connections:
        connection.send("/edge/assets/storm")
    eventually(lambda: parked(live.server) == 500, within=20)
    released_s = time.monotonic()
    live.origin.release.set()
    answers = [connection.read() for connection in connections]
    took_s = time.monotonic() - released_s
    for connection in connections:
        connection.close()
    assert {(answer.status, answer.body, answer["ETag"]) for answer in answers} == {(200, BODY, etag(BODY))}
    assert live.origin.asked["/storm"] == 1
    assert took_s < 3


def test_two_thousand_requests_are_parked_in_one_worker_and_hits_go_on(start: Callable[..., Live]) -> None:
    live = start(
        workers__count=1,
        ingress__max_inflight=4000,
        ingress__timeout_secs=30,
        ingress__header_timeout=30,
        workers__heartbeat_timeout=20,
        fill__queue=3000,
        fill__read_timeout=25,
    )
    live.origin.answers["/hit"] = ok(BODY, FRESH)
    assert live.get("hit").status == 200
    live.origin.default = lambda path: ok(path.encode() * 10, FRESH)
    live.origin.held.add("*")
    connections = [Connection(live.server.assets, 60) for _ in range(2000)]
    eventually(lambda: value_of_gauge(live.server, "edge_connections", state="reading") == 2000, within=20)
    worker = live.server.workers()[0]
    os.kill(worker, signal.SIGSTOP)  # all of them are one burst for it
    for number, connection in enumerate(connections):
        connection.send(f"/edge/assets/n{number}")
    os.kill(worker, signal.SIGCONT)
    eventually(lambda: parked(live.server) == 2000, within=10)
    assert live.get("hit")["Cache-Status"] == HIT
    live.origin.release.set()
    for number, connection in enumerate(connections):
        answer = connection.read()
        assert (answer.status, answer.body) == (200, f"/n{number}".encode() * 10)
        connection.close()
    eventually(lambda: value(live.server, "edge_parks_total", result="stored") == 2001)


def parked(server: Server) -> float:
    """Return how many requests wait."""
    samples = [one for family in families(server) if family.name == "edge_parked" for one in family.samples]
    return sum(one.value for one in samples)


def test_a_full_queue_is_a_429_with_retry_after(start: Callable[..., Live]) -> None:
    live = start(fill__concurrency=1, fill__queue=1, fill__per_host=1)
    live.origin.held.add("*")
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(live.get, "running")
        eventually(lambda: live.origin.asked["/running"] == 1)
        waiting = pool.submit(live.get, "waiting")
        eventually(lambda: value_of_gauge(live.server, "edge_queue_depth", queue="fill") == 1)
        busy: list[Answer] = [live.get(f"more{number}") for number in range(4)]
        live.origin.release.set()
        assert (running.result().status, waiting.result().status) == (404, 404)
    assert {answer.status for answer in busy} == {429}
    assert {answer["X-Reason"] for answer in busy} == {"busy"}
    assert all(int(answer["Retry-After"]) >= 1 for answer in busy)
    eventually(lambda: value(live.server, "edge_queue_dropped_total", queue="fill") == 4)


def test_a_request_that_waits_when_the_sidecar_is_killed_is_answered_by_its_successor(
    start: Callable[..., Live],
) -> None:
    live = start()
    live.origin.answers["/before"] = ok(b"before", FRESH)
    assert live.get("before").status == 200
    live.origin.answers["/orphan"] = ok(BODY, FRESH)
    live.origin.held.add("/orphan")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(live.get, "orphan")
        eventually(lambda: live.origin.asked["/orphan"] == 1)
        os.kill(live.server.sidecar(), signal.SIGKILL)
        assert live.get("before")["Cache-Status"] == HIT
        eventually(lambda: live.origin.asked["/orphan"] == 2, within=4)
        live.origin.release.set()
        answer = asked.result()
    assert (answer.status, answer.body) == (200, BODY)
    assert live.get("before")["Cache-Status"] == HIT


def test_requests_that_wait_during_a_reload_are_answered(start: Callable[..., Live]) -> None:
    live = start(ingress__timeout_secs=10)
    live.origin.answers["/waits"] = ok(BODY, FRESH)
    live.origin.held.add("/waits")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(live.get, "waits")
        eventually(lambda: live.origin.asked["/waits"] == 1)
        live.server.signal(signal.SIGHUP)
        eventually(lambda: live.origin.asked["/waits"] == 2, within=8)
        live.origin.release.set()
        assert asked.result().body == BODY
    eventually(lambda: live.server.status()["generation"] == 2, within=15)
    assert live.get("waits")["Cache-Status"] == HIT


def test_clients_that_leave_while_they_wait_are_forgotten(start: Callable[..., Live]) -> None:
    live = start()
    live.origin.answers["/left"] = ok(BODY, FRESH)
    live.origin.held.add("/left")
    for _ in range(20):
        with Connection(live.server.assets) as connection:
            connection.send("/edge/assets/left")
    eventually(lambda: live.origin.asked["/left"] == 1)
    eventually(lambda: parked(live.server) == 0)
    live.origin.release.set()
    assert live.get("left").body == BODY
    eventually(lambda: value(live.server, "edge_parks_total", result="gone") >= 1)


def test_an_operator_warms_and_purges(start: Callable[..., Live], tmp_path: Path) -> None:
    live = start()
    paths = [f"fonts/{number}.woff2" for number in range(40)]
    for path in paths:
        live.origin.answers[f"/{path}"] = ok(path.encode(), FRESH)
    listed = tmp_path / "paths"
    listed.write_text("\n".join([*paths, "absent"]) + "\n")
    ended = run("warm", listed, "--metrics", str(live.server.admin))
    assert (ended.returncode, "1 of 41 paths" in ended.stderr) == (1, True), ended.stderr
    assert {live.get(path)["Cache-Status"] for path in paths} == {HIT}
    assert post(live.server, "/api/purge?prefix=fonts/3") == b'{"purged": 11}\n'
    eventually(lambda: live.get(paths[3])["Cache-Status"] == STORED)  # repeated answers go at the next tick
    assert live.get(paths[4])["Cache-Status"] == HIT
    assert live.origin.asked[f"/{paths[3]}"] == 2


def test_a_private_body_too_large_for_others_share_of_memory_is_passed_on_and_never_on_a_disk(
    start: Callable[..., Live], tmp_path: Path
) -> None:
    live = start(cas__path=tmp_path / "cas", cas__memory_bytes="1MiB")
    secret = b"secret! " * (64 << 10)  # half of the memory tier
    live.origin.answers["/private"] = ok(secret, "Cache-Control: private")
    live.origin.answers["/no-store"] = ok(secret[8:], "Cache-Control: no-store")
    live.origin.answers["/public"] = ok(secret[16:], FRESH)
    for path, body in (("private", secret), ("no-store", secret[8:]), ("public", secret[16:])):
        answer = live.get(path)
        assert (answer.status, answer.body) == (200, body)
    assert live.get("private", Authorization="Basic eDp5").body == secret
    eventually(lambda: value_of_gauge(live.server, "edge_cas_bytes", tier="disk") == len(secret) - 16)
    sizes = [path.stat().st_size for path in (tmp_path / "cas").glob("[0-9a-f][0-9a-f]/*")]
    assert sizes == [len(secret) - 16]


def test_with_a_disk_tier_a_new_instance_serves_what_the_last_one_filled(
    start: Callable[..., Live], tmp_path: Path
) -> None:
    live = start(cas__path=tmp_path / "cas")
    live.origin.answers["/kept"] = ok(BODY, FRESH)
    assert live.get("kept").status == 200
    eventually(lambda: value_of_gauge(live.server, "edge_cas_bytes", tier="disk") == len(BODY))
    assert live.server.stop() == 0
    again = live._replace(server=start(cas__path=tmp_path / "cas").server)
    answer = again.get("kept")
    assert (answer.status, answer.body, answer["ETag"]) == (200, BODY, etag(BODY))
    assert live.origin.asked["/kept"] == 1


def value_of_gauge(server: Server, name: str, **labels: str) -> float:
    """Return one sample of a gauge."""
    samples = [one for family in families(server) if family.name == name for one in family.samples]
    return sum(one.value for one in samples if one.labels == labels)


def test_amnesia_with_a_disk_target_refuses_fills_and_is_not_ready(
    start: Callable[..., Live], tmp_path: Path
) -> None:
    live = start(cas__path=tmp_path / "cas", security__amnesia="true")
    answer = live.get("anything")
    assert (answer.status, answer["X-Reason"]) == (503, "amnesia")
    assert ask(live.server.assets, "/readyz").status == 503
    assert not (tmp_path / "cas").exists()


def test_offline_mode_refuses_to_warm_and_parks_nothing(serve: Callable[..., Server], world: World) -> None:
    server = serve(*world.packs)
    assert ask(server.assets, "/edge/assets/absent").status == 404
    told = ask(server.admin, "/api/warm?path=x", "POST", {"Content-Length": "0"})
    assert (told.status, told["X-Reason"]) == (503, "fill_unavailable")


def test_hits_do_not_wait_behind_misses(start: Callable[..., Live]) -> None:
    live = start(workers__count=1)
    live.origin.answers["/quick"] = ok(BODY, FRESH)
    assert live.get("quick").status == 200
    live.origin.held.add("*")
    waiting = [threading.Thread(target=live.get, args=(f"slow{number}",)) for number in range(20)]
    for thread in waiting:
        thread.start()
    eventually(lambda: parked(live.server) == 20)
    began_s = time.monotonic()
    for _ in range(200):
        assert live.get("quick")["Cache-Status"] == HIT
    took_s = time.monotonic() - began_s
    live.origin.release.set()
    for thread in waiting:
        thread.join()
    assert took_s < 3
