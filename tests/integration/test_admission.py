"""Admission by the real server: exact over workers, told to clients and operators, and by itself over."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from tests.scrapes import counts, families, sample
from tests.servers import Server, eventually
from tests.wire import Answer, Connection, Cut, ask
from tests.worlds import World

Serve = Callable[..., Server]

RATE = 400
BURST = 150
SECONDS = 3.0
CAP = 8
PATH = "/edge/assets/bytes.bin"
SMALL_BUFFER = 16 << 10  # of a client that does not read: its answer stays in hand


@pytest.fixture(scope="module")
def limited(module_serve: Serve, world: World) -> Server:
    flags = ("--workers", 2, "--rps", RATE, "--set", f"ingress.rps_burst={BURST}")
    return module_serve(*flags, *world.packs)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def worker_of(answer: Answer) -> str:
    """Return what the ids of the process that answered begin with."""
    return answer["X-Corr-ID"].split("-")[0]


def connections_by_worker(server: Server, stack: ExitStack, each: int) -> list[list[Connection]]:
    """Return so many connections to each of two workers."""
    found: dict[str, list[Connection]] = {}
    while len(found) < 2 or min(map(len, found.values())) < each:
        connection = stack.enter_context(Connection(server.assets))
        found.setdefault(worker_of(connection.ask("/healthz")), []).append(connection)
    return [opened[:each] for opened in found.values()]


def keep_asking(connection: Connection, until_s: float, pause_s: float = 0.0) -> Counter[int]:
    """Ask again and again; return the statuses."""
    seen: Counter[int] = Counter()
    while time.monotonic() < until_s:
        seen[connection.ask(PATH).status] += 1
        time.sleep(pause_s)
    return seen


def load(
    connections: Iterable[Connection], seconds: float, pauses_s: Iterable[float] = ()
) -> tuple[Counter[int], float]:
    """Keep connections busy together; return the statuses, and how long it took."""
    opened = list(connections)
    pauses = [*pauses_s] or [0.0] * len(opened)
    began_s = time.monotonic()
    with ThreadPoolExecutor(len(opened)) as threads:
        until = [began_s + seconds] * len(opened)
        seen = sum(threads.map(keep_asking, opened, until, pauses), Counter[int]())
    return seen, time.monotonic() - began_s


def ask_until_refused(connection: Connection, method: str = "GET", corr_id: str = "any") -> Answer:
    """Spend what the bucket has; return the first refusal."""
    while True:
        answer = connection.ask(PATH, method, {"X-Corr-ID": corr_id})
        if answer.status == 429:
            return answer


def refill() -> None:
    """Wait until the bucket is full again."""
    time.sleep(1.1 * BURST / RATE)


@pytest.mark.parametrize(
    ("each", "pauses_s"),
    [((2, 0), (0.0, 0.0)), ((2, 1), (0.0, 0.0, 0.02)), ((1, 1), (0.0, 0.0))],
    ids=["all-on-one-worker", "most-on-one-worker", "even"],
)
def test_the_rate_is_within_five_percent_however_the_load_falls(
    limited: Server, stack: ExitStack, each: tuple[int, int], pauses_s: tuple[float, ...]
) -> None:
    one, other = connections_by_worker(limited, stack, 2)
    ask_until_refused(one[0])
    seen, took_s = load([*one[: each[0]], *other[: each[1]]], SECONDS, pauses_s)
    assert set(seen) == {200, 429}
    assert seen[200] == pytest.approx(RATE * took_s, rel=0.05)


def test_an_idle_instance_admits_its_burst_and_not_much_more(limited: Server, stack: ExitStack) -> None:
    one, other = connections_by_worker(limited, stack, 1)
    refill()
    seen, took_s = load([*one, *other], BURST / RATE)
    assert BURST + RATE * took_s * 0.9 <= seen[200] <= BURST * 1.125 + RATE * took_s + 2


def test_a_refusal_tells_why_and_when_to_come_back(limited: Server) -> None:
    with Connection(limited.assets) as connection:
        answer = ask_until_refused(connection, corr_id="mine-1")
        assert (answer.status, answer["X-Reason"], answer["Retry-After"]) == (429, "rate_limit", "1")
        assert answer["Content-Type"] == "application/problem+json"
        assert answer["X-Corr-ID"] == "mine-1"
        assert (answer["Cache-Control"], answer["X-Content-Type-Options"]) == ("no-store", "nosniff")
        assert b'"reason":"rate_limit","corr_id":"mine-1"' in answer.body
        head = ask_until_refused(connection, "HEAD", "mine-2")
        assert (head["X-Reason"], head.body) == ("rate_limit", b"")
        assert connection.ask("/healthz").status == 200
        assert connection.ask("/readyz").status == 200, "a limit that holds is no instability"


def test_what_clients_were_told_is_what_the_metrics_say(limited: Server, stack: ExitStack) -> None:
    def told() -> dict[str, float]:
        now = counts(limited)
        return {
            status: now.get(
                sample("http_requests_total", route="/edge/assets", method="GET", status=status), 0
            )
            for status in ("200", "429")
        } | {"rejected": now[sample("rejected_total", reason="rate_limit")]}

    def settled() -> dict[str, float] | None:
        """Return what is told once no worker has anything more to tell: each does ten times a second."""
        now = told()
        time.sleep(0.25)
        return now if told() == now else None

    one, other = connections_by_worker(limited, stack, 1)
    before = eventually(settled)
    seen, _ = load([*one, *other], 1.0)
    expected = {"200": seen[200], "429": seen[429], "rejected": seen[429]}

    def counted() -> dict[str, float]:
        return {name: value - before[name] for name, value in told().items()}

    eventually(lambda: counted() == expected, told=lambda: f"{counted()} instead of {expected}")


def test_killing_workers_again_and_again_neither_adds_nor_takes_budget(limited: Server) -> None:
    seen: Counter[int] = Counter()
    with Connection(limited.assets) as connection:
        ask_until_refused(connection)
    began_s = time.monotonic()
    for kill in range(6):
        until_s = time.monotonic() + 0.5
        os.kill(limited.workers()[kill % 2], signal.SIGKILL)
        while time.monotonic() < until_s:
            try:
                with Connection(limited.assets) as connection:
                    for _ in range(20):
                        seen[connection.ask(PATH).status] += 1
            except (Cut, ConnectionError):
                continue
        eventually(lambda: len(limited.workers()) == 2)
    took_s = time.monotonic() - began_s
    assert seen[429] > 0
    assert seen[200] <= RATE * took_s * 1.05 + BURST / 8, "a successor brings no burst of its own"


def is_ready(server: Server) -> bool:
    return ask(server.assets, "/readyz").status == 200


def gauge(server: Server, name: str) -> list[tuple[dict[str, Any], float]]:
    return [
        (found.labels, found.value)
        for family in families(server)
        if family.name == name
        for found in family.samples
    ]


def test_beyond_the_cap_in_hand_requests_are_busy_until_others_are_done(
    serve: Serve, world: World, stack: ExitStack
) -> None:
    server = serve("--workers", 2, "--inflight", CAP, *world.packs)
    holders = [
        stack.enter_context(Connection(server.assets, receive_buffer=SMALL_BUFFER)) for _ in range(CAP)
    ]
    for holder in holders:
        holder.send("/edge/assets/big.bin")
    eventually(lambda: gauge(server, "edge_inflight")[0] == ({"endpoint": "assets"}, CAP))
    answers = [ask(server.assets, PATH) for _ in range(20)]
    assert {(answer.status, answer["X-Reason"]) for answer in answers} == {(429, "busy")}
    assert all(answer["Retry-After"] == "1" for answer in answers)
    assert ask(server.assets, "/healthz").status == 200
    eventually(lambda: not is_ready(server))
    assert b"shedder_stable" in ask(server.assets, "/readyz").body
    busy = sample("busy_rejections_total", endpoint="assets")
    eventually(lambda: counts(server)[busy] == len(answers))
    for holder in holders:
        holder.close()
    eventually(lambda: ask(server.assets, PATH).status == 200)
    eventually(lambda: is_ready(server), within=10)
    told = [line["ready"] for line in server.events("ready_changed")]
    assert told == [0, 1], "it falls once and comes back once"
