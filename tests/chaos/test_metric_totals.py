"""Totals while workers are killed under load: exact but for what was in hand, and never smaller."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from tests.load import running
from tests.scrapes import Samples, counts, grown, sample
from tests.servers import Place, Server, age_s, eventually
from tests.wire import Connection
from tests.worlds import make_world

Serve = Callable[..., Server]

CLIENTS, SLOTS, SCRAPES = 6, 2, 120
KILLS_AT = (20, 51, 80)  # scrapes
SETTLED_S = 1.2  # a worker that dies younger is not replaced at once
UNTOLD_S = 0.5  # a worker writes down what it has counted ten times a second, on a busy machine less often
OK = sample("http_requests_total", route="/edge/assets", method="GET", status="200")
SENT = sample("edge_bytes_out_total", route="/edge/assets")
IN_TIME = sample("request_latency_seconds_count", route="/edge/assets", method="GET")
RESTARTS = sample("service_restarts_total", component="worker")


class Counting(threading.Thread):
    """A client that notes when each answer came, and from which process.

    Attributes:
        answers: moment, and what the ids of the process begin with.
        broken: the process, of each request that was not answered.
    """

    def __init__(self, place: Place) -> None:
        super().__init__(daemon=True)
        self.answers: list[tuple[float, str]] = []
        self.broken: list[str] = []
        self._place = place
        self._is_told = threading.Event()

    def stop(self) -> None:
        self._is_told.set()

    def run(self) -> None:
        while not self._is_told.is_set():
            process = ""
            try:
                with Connection(self._place) as connection:
                    while not self._is_told.is_set():
                        answer = connection.ask("/edge/assets/hello.txt")
                        assert answer.status == 200
                        process = answer["X-Corr-ID"].split("-")[0]
                        self.answers.append((time.monotonic(), process))
                        self._is_told.wait(0.001)
            except OSError:
                self.broken.append(process)


def kill_a_settled_worker(server: Server, slot: int) -> None:
    victim = eventually(lambda: server.workers().get(slot), within=10)
    eventually(lambda: age_s(victim) > SETTLED_S)
    os.kill(victim, signal.SIGKILL)


def test_totals_are_what_clients_counted_and_no_scrape_of_many_shows_less(
    serve: Serve, tmp_path: Path
) -> None:
    world = make_world(tmp_path)
    server = serve("--workers", SLOTS, world.folder)
    clients = [Counting(server.assets) for _ in range(CLIENTS)]
    scrapes: list[Samples] = [counts(server)]
    with running(*clients):
        while len(scrapes) < SCRAPES:
            if len(scrapes) in KILLS_AT:
                kill_a_settled_worker(server, len(scrapes) % SLOTS)
            scrapes.append(counts(server))
    for before, after in pairwise(scrapes):
        assert not {key: by for key, by in grown(before, after).items() if by < 0}

    answers = [answer for client in clients for answer in client.answers]
    broken = [process for client in clients for process in client.broken]
    ends = {process: max(at for at, by in answers if by == process) for process in set(broken) - {""}}
    untold = sum(by in ends and at > ends[by] - UNTOLD_S for at, by in answers)
    assert len(ends) >= 2, "no client was on a worker that was killed"
    assert untold < len(answers) / 2
    least, most = len(answers) - untold, len(answers) + len(broken)
    size = len(world.files["hello.txt"])

    def is_told() -> bool:
        told = counts(server)
        return least <= told[OK] == told[IN_TIME] == told[SENT] / size <= most

    eventually(is_told, told=lambda: f"{least} {most} {counts(server)}")
    assert counts(server)[RESTARTS] == len(KILLS_AT)
