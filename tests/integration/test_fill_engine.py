"""The engine before real origins: one fetch for all, retries, hedging, the breaker, an end for everybody."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from itertools import count
from pathlib import Path

import pytest
from blake3 import blake3

from edge_server.config.schema import LiveFillRetry
from edge_server.errors import (
    Busy,
    FillUnavailable,
    InternalError,
    NotAllowed,
    NotFound,
    Rejection,
    StoreUnavailable,
)
from edge_server.fill import connections
from edge_server.fill.breaker import FAILURES
from edge_server.fill.engine import Fetched, Request
from edge_server.fill.storing import Known
from tests.fills import asking
from tests.origins import NGINX, Closed, MemorySink, Script, ok, says, scripted
from tests.origins import nginx as run_nginx
from tests.servers import eventually

QUICK = LiveFillRetry(base_ms=1, max_ms=4, max_retries=3, jitter=False)


def in_turn(*answers: bytes | None) -> Script:
    """Return a script that gives these answers, the last one for ever; None closes the connection."""
    numbers = count()

    def script(sock: socket.socket, head: bytes) -> None:
        answer = answers[min(next(numbers), len(answers) - 1)]
        if answer is None:
            raise Closed
        sock.sendall(answer)

    return script


def failing(status: int) -> bytes:
    return ok(b"", status=f"{status} Failing")


def held(release: threading.Event, data: bytes) -> Script:
    """Return a script that answers when it is released."""

    def script(sock: socket.socket, head: bytes) -> None:
        assert release.wait(15)
        sock.sendall(data)

    return script


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx-light")
def test_objects_of_nginx_arrive_whole_and_are_revalidated(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    bodies = {f"{size}.bin": blake3(str(size).encode()).digest(size) for size in (0, 1, 16_384, 3_000_001)}
    for name, body in bodies.items():
        (root / name).write_bytes(body)
    with run_nginx(tmp_path / "nginx", root) as port, asking(port) as asked:
        for name, body in bodies.items():
            answer = asked.get(name)
            assert isinstance(answer, Fetched)
            assert (answer.size, answer.digest) == (len(body), blake3(body).digest())
        etag = dict(answer.fields)["ETag"]
        again = asked.get("3000001.bin", known=Known(etag, None))
        absent = asked.get("absent")
    assert isinstance(again, Fetched)
    assert again.not_modified
    assert isinstance(absent, Fetched)
    assert (absent.status, absent.sink) == (404, None)


def test_connections_are_used_again_and_one_that_has_ended_is_replaced() -> None:
    with scripted(says(ok(b"x"))) as origin, asking(origin.port) as asked:
        for number in range(5):
            assert isinstance(asked.get(str(number)), Fetched)
        assert origin.connections == 1
        origin.script = in_turn(None, ok(b"y"))  # as if it had been idle for too long
        assert isinstance(asked.get("again"), Fetched)
        assert origin.connections == 2
        assert asked.hooks.told.count("attempted") == 6


def test_bytes_that_nobody_asked_for_are_no_answer_to_the_next_request() -> None:
    def script(sock: socket.socket, head: bytes) -> None:
        sock.sendall(ok(b"honest"))
        origin.wait(0.05)
        sock.sendall(ok(b"poison"))

    with scripted(script) as origin, asking(origin.port) as asked:
        asked.get("a")
        eventually(lambda: len(asked.engine._connections._idle) == 1)
        origin.wait(0.3)
        asked.get("b")
        assert [bytes(sink.data) for sink in asked.sinks] == [b"honest", b"honest"]


def test_five_hundred_requests_are_one_fetch_and_each_is_answered_once() -> None:
    release = threading.Event()
    with scripted(held(release, ok(b"shared"))) as origin, asking(origin.port) as asked:
        answers = [asked.submit("x") for _ in range(500)]
        eventually(lambda: origin.requests)
        release.set()
        eventually(lambda: all(answers))
        fetched = [one[0] for one in answers]
        assert all(isinstance(one, Fetched) and one.sink is asked.sinks[0] for one in fetched)
        assert [one.is_first for one in fetched if isinstance(one, Fetched)] == [True] + [False] * 499
        assert len(origin.requests) == 1
        assert asked.hooks.told.count("coalesced") == 499


def test_five_hundred_requests_share_a_failure_too() -> None:
    release = threading.Event()
    with scripted(held(release, failing(500))) as origin, asking(origin.port) as asked:
        answers = [asked.submit("x") for _ in range(500)]
        eventually(lambda: origin.requests)
        release.set()
        eventually(lambda: all(answers))
        assert {one[0].reason for one in answers if isinstance(one[0], Rejection)} == {"upstream_5xx"}
        assert len(origin.requests) == 1


def test_a_response_that_varies_goes_to_those_whose_fields_match() -> None:
    release = threading.Event()

    def script(sock: socket.socket, head: bytes) -> None:
        assert release.wait(15)
        language = b"de" if b"accept-language: de" in head else b"en"
        sock.sendall(ok(language, "Vary: Accept-Language"))

    with scripted(script) as origin, asking(origin.port) as asked:
        wanted = ["de", "en", "de", "en", "en"] * 20
        answers = [asked.submit("x", {"accept-language": language}) for language in wanted]
        eventually(lambda: origin.requests)
        release.set()
        eventually(lambda: all(answers))
        got = [bytes(one[0].sink.data) for one in answers if isinstance(one[0], Fetched)]  # type: ignore[union-attr]
        assert got == [language.encode() for language in wanted]
        assert len(origin.requests) == 2


def test_requests_with_credentials_share_no_fetch_with_others() -> None:
    release = threading.Event()
    with scripted(held(release, ok(b"x"))) as origin, asking(origin.port) as asked:
        answers = [asked.submit("x"), asked.submit("x", has_authorization=True)]
        eventually(lambda: len(origin.requests) == 2)
        release.set()
        eventually(lambda: all(answers))


def test_a_fetch_goes_on_as_long_as_anybody_who_joined_has_time() -> None:
    release = threading.Event()
    with scripted(held(release, ok(b"x"))) as origin, asking(origin.port) as asked:
        first = asked.submit("x", budget_s=0.4)
        second = asked.submit("x", budget_s=10)
        origin.wait(0.8)
        release.set()
        eventually(lambda: first and second)
        assert isinstance(second[0], Fetched)
        assert len(origin.requests) == 1


def test_what_was_stored_meanwhile_is_not_fetched_again() -> None:
    with scripted(says(ok(b"x"))) as origin, asking(origin.port) as asked:
        asked.get("x")
        request = Request("x", {}, "", False, time.monotonic() + 5, "test")
        assert asked.engine.submit(request, lambda _: None, is_missing=lambda: False) is False
        assert len(origin.requests) == 1


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_passing_failure_is_tried_again(status: int) -> None:
    script = in_turn(failing(status), failing(status), ok(b"x"))
    with scripted(script) as origin, asking(origin.port, retry=QUICK) as asked:
        answer = asked.get("x")
        assert isinstance(answer, Fetched)
        assert answer.attempts == 3
        assert asked.hooks.told == ["attempted", "retried", "attempted", "retried", "attempted", "succeeded"]


@pytest.mark.parametrize(
    ("data", "reason", "requests"),
    [
        (failing(503), "upstream_5xx", 4),
        (failing(500), "upstream_5xx", 1),
        (failing(403), "upstream_4xx", 1),
        (failing(429), "upstream_4xx", 1),
        (ok(b"x", 'ETag: "b3:1"'), "etag_invalid", 1),
        (ok(b"xx")[:-1], "integrity", 4),
    ],
    ids=["503", "500", "403", "429", "a lie", "cut"],
)
def test_what_is_tried_again_and_what_is_not(data: bytes, reason: str, requests: int) -> None:
    with scripted(says(data, then_close=True)) as origin, asking(origin.port, retry=QUICK) as asked:
        answer = asked.get("x")
        assert isinstance(answer, Rejection)
        assert answer.reason == reason
        assert len(origin.requests) == requests


def test_retries_end_with_the_budget() -> None:
    retry = LiveFillRetry(base_ms=300, max_ms=800, max_retries=5, jitter=False)
    with scripted(says(failing(503))) as origin, asking(origin.port, retry=retry) as asked:
        began_s = time.monotonic()
        answer = asked.get("x", budget_s=0.8)
        assert time.monotonic() - began_s < 1.5
        assert isinstance(answer, Rejection)
        assert answer.reason == "upstream_5xx"
        assert len(origin.requests) == 2  # at 0 and 0.3 s; the next would be at 0.9 s


def test_a_host_that_fails_again_and_again_is_left_alone_then_probed() -> None:
    with scripted(says(failing(500))) as origin, asking(origin.port) as asked:
        for number in range(FAILURES):
            asked.get(str(number))
        answer = asked.get("refused")
        assert isinstance(answer, FillUnavailable)
        assert dict(answer.headers)["Retry-After"] == "1"
        assert len(origin.requests) == FAILURES
        origin.script = says(ok(b"x"))
        eventually(lambda: isinstance(asked.get("probe"), Fetched), within=4)
        assert isinstance(asked.get("again"), Fetched)


def test_a_store_that_takes_nothing_is_not_held_against_the_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(sink: MemorySink, data: bytes) -> int:
        raise StoreUnavailable("no room")

    with scripted(says(ok(b"x"))) as origin, asking(origin.port, retry=QUICK) as asked:
        with monkeypatch.context() as patched:
            patched.setattr(MemorySink, "write", full)
            answers = [asked.get(str(number)) for number in range(FAILURES + 1)]
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        assert len(origin.requests) == FAILURES + 1
        assert isinstance(asked.get("again"), Fetched)


def test_connections_that_nobody_asks_for_again_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.05)
    answers = says(ok(b"x"))
    with scripted(answers) as one, scripted(answers) as other, asking([one.port, other.port]) as asked:
        open_before = len(os.listdir("/proc/self/fd"))
        for number in range(3):
            assert isinstance(asked.get(f"0/{number}"), Fetched)
        time.sleep(0.1)
        assert isinstance(asked.get("1/x"), Fetched)
        assert asked.engine._connections._kept == 1
        assert one.connections == 1
        eventually(lambda: len(os.listdir("/proc/self/fd")) <= open_before + 2)  # both ends of one


def test_a_slow_attempt_gets_a_second_one_beside_it_and_the_first_answer_counts() -> None:
    release, numbers = threading.Event(), count()

    def script(sock: socket.socket, head: bytes) -> None:
        if next(numbers) == 0:
            release.wait(10)
        sock.sendall(ok(b"x"))

    with scripted(script) as origin, asking(origin.port, hedge_after=0.1) as asked:
        began_s = time.monotonic()
        answer = asked.get("x")
        assert time.monotonic() - began_s < 1.5
        release.set()
        assert isinstance(answer, Fetched)
        assert answer.size == 1
        assert asked.hooks.told.count("hedged") == 1
        assert len(origin.requests) == 2


def test_a_quick_attempt_is_not_hedged_and_a_failed_one_is_told() -> None:
    with scripted(says(ok(b"x"))) as origin, asking(origin.port, hedge_after=2.0) as asked:
        assert isinstance(asked.get("x"), Fetched)
        origin.script = says(failing(500))
        assert isinstance(asked.get("y"), Rejection)
        assert "hedged" not in asked.hooks.told


def test_of_two_attempts_that_succeed_one_sink_is_left() -> None:
    def script(sock: socket.socket, head: bytes) -> None:
        origin.wait(0.15)
        sock.sendall(ok(b"x"))

    with scripted(script) as origin, asking(origin.port, hedge_after=0.1) as asked:
        for number in range(10):
            asked.get(str(number))
        eventually(lambda: sum(not sink.is_aborted for sink in asked.sinks) == 10)


def test_a_second_attempt_is_made_only_where_its_host_has_a_place_to_spare() -> None:
    release = threading.Event()
    script = held(release, ok(b"slow"))
    with scripted(script) as origin, asking(origin.port, hedge_after=0.01, per_host=2) as asked:
        first = asked.submit("x")
        eventually(lambda: len(origin.requests) == 2)
        second = asked.submit("y")
        time.sleep(0.1)
        assert len(origin.requests) == 2, "more than `fill.per_host`"
        assert asked.hooks.told.count("hedged") == 1
        release.set()
        eventually(lambda: first and second)
        assert all(isinstance(answer, Fetched) for answer in (*first, *second))


def test_a_full_queue_is_busy_and_those_in_it_are_answered() -> None:
    release = threading.Event()
    script = held(release, ok(b"x"))
    with scripted(script) as origin, asking(origin.port, concurrency=2, per_host=2, queue=3) as asked:
        answers = [asked.submit(str(number)) for number in range(5)]
        with pytest.raises(Busy):
            asked.submit("one more")
        joined = asked.submit("0")  # needs no place
        assert asked.engine.depth == 3
        release.set()
        eventually(lambda: all(answers) and joined)


def test_one_slow_host_does_not_hold_up_another() -> None:
    release = threading.Event()
    with (
        scripted(held(release, ok(b"slow"))) as slow,
        scripted(says(ok(b"quick"))) as quick,
        asking([slow.port, quick.port], concurrency=4, per_host=2, host="127.0.0.1") as asked,
    ):
        waiting = [asked.submit(f"0/{number}") for number in range(20)]
        eventually(lambda: len(slow.requests) == 2)
        assert all(isinstance(asked.get(f"1/{number}", within=3), Fetched) for number in range(5))
        assert len(slow.requests) == 2
        release.set()
        eventually(lambda: all(waiting))


def test_a_refused_connection_is_unavailable_and_an_unmapped_key_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with asking(port) as asked:
        answer = asked.get("x")
        assert isinstance(answer, FillUnavailable)
        with pytest.raises(NotAllowed):
            asked.submit("@evil.net/x")
        with pytest.raises(NotFound):
            asked.submit("@127.0.0.1")


def test_a_name_that_leads_to_a_private_address_is_not_connected_to() -> None:
    with (
        scripted(says(ok(b"x"))) as origin,
        asking(origin.port, host="a.test", resolver=lambda h, p: ["127.0.0.1"], allow_private=()) as asked,
    ):
        assert isinstance(asked.get("x"), NotAllowed)
        assert origin.connections == 0


def test_a_redirect_is_followed_and_its_host_and_address_are_checked() -> None:
    addresses = {"a.test": ["127.0.0.1"], "b.test": ["127.0.0.1"], "c.test": ["127.0.0.2"]}
    with scripted(says(b"")) as origin:
        port = origin.port
        hosts = [f"b.test:{port}", f"c.test:{port}"]
        with asking(
            port,
            host="a.test",
            also=hosts,
            resolver=lambda host, port: addresses[host],
            allow_private=("127.0.0.1/32",),
        ) as asked:
            for place, outcome in ((f"http://b.test:{port}/y?z=1", 200), (f"http://c.test:{port}/y", 403)):
                hop = ok(b"over there", f"Location: {place}", status="302 Found")
                origin.script = in_turn(hop, hop, ok(b"x"))
                answer = asked.get(f"to {outcome}")
                assert answer.status == outcome
                assert b"GET /to%20" in origin.requests[0]
        assert b"GET /y?z=1 HTTP/1.1\r\nHost: b.test" in b"".join(origin.requests)


def test_closing_answers_everybody() -> None:
    release = threading.Event()
    with scripted(held(release, ok(b"x"))) as origin:
        with asking(origin.port, concurrency=2, per_host=2) as asked:
            answers = [asked.submit(str(number)) for number in range(20)]
            eventually(lambda: len(origin.requests) == 2)
        release.set()
        assert [type(one[0]) for one in answers] == [FillUnavailable] * 20
        with pytest.raises(FillUnavailable):
            asked.submit("late")


def test_a_sink_that_fails_is_a_defect_for_one_fill_and_for_no_other() -> None:
    with scripted(says(ok(b"x"))) as origin, asking(origin.port) as asked:
        fetcher = asked.engine._attempts._fetcher._receiver
        right = fetcher._open_sink
        fetcher._open_sink = lambda *_: 1 // 0  # type: ignore[assignment,return-value]
        answer = asked.get("x")
        assert isinstance(answer, InternalError)
        assert [type(error) for error in asked.hooks.defects] == [ZeroDivisionError]
        asked.hooks.defects.clear()
        fetcher._open_sink = right
        assert isinstance(asked.get("x"), Fetched)


def test_in_a_storm_of_failures_every_request_is_answered_once_and_with_its_own_bytes() -> None:
    chance = random.Random(7)

    def script(sock: socket.socket, head: bytes) -> None:
        name = head.split(b" ")[1][1:]
        kind = chance.random()
        if kind < 0.1:
            raise Closed
        if kind < 0.2:
            sock.sendall(failing(503))
        elif kind < 0.3:
            sock.sendall(ok(name * 100)[:-1])
            raise Closed
        elif kind < 0.4:
            origin.wait(0.05)
            sock.sendall(ok(name * 100))
        else:
            sock.sendall(ok(name * 100, "Vary: Accept-Language" if kind < 0.6 else "X: y"))

    settings = {"concurrency": 16, "per_host": 16, "hedge_after": 0.02, "queue": 5000}
    with scripted(script) as origin:
        with asking(origin.port, retry=QUICK, **settings) as asked:
            keys = [f"k{chance.randrange(200)}" for _ in range(1500)]
            answers = [asked.submit(key, {"accept-language": chance.choice(["de", "en"])}) for key in keys]
            eventually(lambda: sum(map(len, answers)) > 1000, within=20)
        assert {len(one) for one in answers} == {1}
    filled = [(key, one[0]) for key, one in zip(keys, answers, strict=True) if isinstance(one[0], Fetched)]
    assert len(filled) > 500
    for key, answer in filled:
        assert isinstance(answer.sink, MemorySink)
        assert answer.sink.data == key.encode() * 100
        assert answer.digest == blake3(key.encode() * 100).digest()
    left = {id(sink) for sink in asked.sinks if not sink.is_aborted}
    assert left == {id(answer.sink) for _, answer in filled}


def test_a_fill_that_goes_on_with_a_request_is_not_refused_by_a_full_queue() -> None:
    again: list[Fetched | Rejection | str] = []
    with (
        scripted(says(ok(b"body"))) as origin,
        asking(origin.port, concurrency=1, per_host=1, queue=0) as asked,
    ):
        request = Request("a", {}, "", False, time.monotonic() + 5, "test")

        def go_on(_: object) -> None:
            try:
                asked.engine.submit(request._replace(key="b"), again.append)
            except Busy:
                again.append("busy")
            asked.engine.submit(request._replace(key="c"), again.append, is_admitted=True)

        asked.engine.submit(request, go_on)
        eventually(lambda: len(again) == 2, within=5)
    assert again[0] == "busy"
    assert isinstance(again[1], Fetched)


def test_a_resolver_that_hangs_is_a_timeout_and_other_hosts_are_filled_meanwhile() -> None:
    gate = threading.Event()

    def resolver(host: str, port: int) -> list[str]:
        if port == slow.port:
            gate.wait(20)
        return ["127.0.0.1"]

    with scripted(says(ok(b"x"))) as slow, scripted(says(ok(b"x"))) as quick:
        ports = [slow.port, quick.port]
        with asking(ports, resolver=resolver, connect_timeout=0.3, host="origin.test") as asked:
            late = asked.submit("0/x")
            began_s = time.monotonic()
            assert isinstance(asked.get("1/x"), Fetched)
            eventually(lambda: late)
            assert time.monotonic() - began_s < 5
            assert isinstance(late[0], Rejection)
            assert late[0].reason == "timeout"
            assert "timed out connect" in asked.hooks.told
        gate.set()


def test_a_body_that_never_ends_leaves_others_their_turn() -> None:
    def script(sock: socket.socket, head: bytes) -> None:
        if b"/endless" not in head:
            sock.sendall(ok(b"x"))
            return
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000000\r\n\r\n")
        for _ in range(60):
            sock.sendall(bytes(1_000_000))

    with scripted(script) as origin, asking(origin.port) as asked:
        large = asked.submit("endless", budget_s=30)
        eventually(lambda: asked.sinks and asked.sinks[0].size)
        before = asked.sinks[0].size
        assert isinstance(asked.get("small"), Fetched)
        assert before < 60_000_000
        eventually(lambda: large, within=30)
        assert isinstance(large[0], Fetched)
        assert large[0].size == 60_000_000
