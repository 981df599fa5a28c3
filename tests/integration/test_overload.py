"""Overload: more is asked than a worker can do, so it refuses early and answers the others in time."""

from __future__ import annotations

import statistics
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.archives import build
from tests.scrapes import counts, sample
from tests.servers import Place, Server, eventually
from tests.wire import Connection, ask
from tests.worlds import noise, write

Serve = Callable[..., Server]

TILE = noise(11, 1 << 20).hex().encode()  # 2 MiB that gzip halves: decoding it takes milliseconds
PATH = "/edge/assets/world/0/0/0.mvt"
FIELDS = {"Accept-Encoding": "identity", "Range": "bytes=0-9"}  # decoded whole, sent in part
CLIENTS = 48
BEGIN_S = 1.5  # until everybody has connected and the shedder has seen an interval of late turns
SECONDS = 4.0


class Crowd:
    """Clients that each ask again as soon as they are answered, whatever the answer was.

    Attributes:
        seen: statuses, once the first second is over.
        latencies_s: of the admitted requests among them.
    """

    def __init__(self, place: Place, clients: int) -> None:
        self.seen: Counter[int] = Counter()
        self.latencies_s: list[float] = []
        self._place = place
        self._since_s = time.monotonic() + BEGIN_S
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _run(self) -> None:
        with Connection(self._place) as connection:
            while not self._is_over.is_set():
                began_s = time.monotonic()
                answer = connection.ask(PATH, fields=never_repeated())
                took_s = time.monotonic() - began_s
                if answer.status == 429:
                    assert (answer["X-Reason"], answer["Retry-After"]) == ("busy", "1")
                    self._is_over.wait(0.01)  # a client that did not wait at all would only load itself
                else:
                    assert (answer.status, answer.body) == (206, TILE[:10])
                if began_s > self._since_s:
                    self.seen[answer.status] += 1
                    if answer.status == 206:
                        self.latencies_s.append(took_s)


def never_repeated() -> dict[str, str]:
    """Return fields that no request had before, so that its answer must be made."""
    return {**FIELDS, "X-Corr-ID": uuid.uuid4().hex}


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * len(values))]


def service_s(place: Place) -> float:
    """Return how long one request takes that nobody else is in the way of."""
    with Connection(place) as connection:
        took = []
        for _ in range(15):
            began_s = time.monotonic()
            assert connection.ask(PATH, fields=never_repeated()).body == TILE[:10]
            took.append(time.monotonic() - began_s)
    return statistics.median(took)


def test_under_overload_the_admitted_are_answered_in_time_and_the_others_told_to_come_back(
    serve: Serve, tmp_path: Path
) -> None:
    write(tmp_path / "world.pmtiles", build({0: TILE}))
    server = serve("--workers", 2, tmp_path / "world.pmtiles")
    alone_s = service_s(server.assets)
    ready = eventually(lambda: ask(server.assets, "/readyz"))
    assert ready.status == 200
    with Crowd(server.assets, CLIENTS) as crowd:
        eventually(lambda: ask(server.assets, "/readyz").status == 503)
        assert b"shedder_stable" in ask(server.assets, "/readyz").body
        time.sleep(BEGIN_S + SECONDS)
        assert ask(server.assets, "/healthz").status == 200
    in_line_s = CLIENTS / 2 * alone_s  # what each would wait if all were let in
    assert crowd.seen[429] > crowd.seen[206] > 0
    assert percentile(crowd.latencies_s, 0.5) < in_line_s / 2
    assert percentile(crowd.latencies_s, 0.99) < in_line_s
    busy = counts(server)[sample("busy_rejections_total", endpoint="assets")]
    assert busy >= crowd.seen[429]
    eventually(lambda: ask(server.assets, "/readyz").status == 200, within=10)
    assert [line["ready"] for line in server.events("ready_changed")] == [0, 1]
    assert ask(server.assets, PATH).status == 200
