"""An engine in front of origins on loopback, and what its answers are."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from edge_server.config.schema import Config, Edge, Fill, Ingress, LiveFillRetry, OriginMapping, Retry
from edge_server.errors import Rejection
from edge_server.fill.engine import Engine, Fetched, Hooks, Request
from edge_server.fill.storing import Known
from tests.origins import MemorySink

LOOPBACK = ("127.0.0.0/8",)
NO_RETRY = LiveFillRetry(max_retries=0)
FILL = Fill(insecure_http=True, allow_private=LOOPBACK, connect_timeout=2.0, read_timeout=2.0)


class Counts(Hooks):
    """Hooks that count."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.defects: list[BaseException] = []

    def attempted(self, host: str) -> None:
        self.told.append("attempted")

    def succeeded(self, host: str, seconds: float) -> None:
        self.told.append("succeeded")

    def failed(self, host: str, corr_id: str, rejection: Rejection) -> None:
        self.told.append(f"failed {rejection.reason}")

    def retried(self) -> None:
        self.told.append("retried")

    def hedged(self) -> None:
        self.told.append("hedged")

    def coalesced(self) -> None:
        self.told.append("coalesced")

    def timed_out(self, op: str) -> None:
        self.told.append(f"timed out {op}")

    def handshake_failed(self) -> None:
        self.told.append("handshake failed")

    def broke(self, error: BaseException) -> None:
        self.defects.append(error)


class Asked:
    """An engine with what was asked of it and what it answered.

    Attributes:
        sinks: every sink that was opened.
        answers: of each request, in the order of asking, the answers that it got.
    """

    def __init__(self, engine: Engine, hooks: Counts, sinks: list[MemorySink]) -> None:
        self.engine = engine
        self.hooks = hooks
        self.sinks = sinks
        self.answers: list[list[Fetched | Rejection]] = []

    def submit(
        self,
        key: str,
        fields: dict[str, str] | None = None,
        *,
        budget_s: float = 5.0,
        known: Known | None = None,
        **more: Any,
    ) -> list[Fetched | Rejection]:
        """Ask; the answer appears in the list that is returned."""
        answers: list[Fetched | Rejection] = []
        self.answers.append(answers)
        deadline_s = time.monotonic() + budget_s
        request = Request(key, fields or {}, "", False, deadline_s, "test", known)
        self.engine.submit(request._replace(**more), answers.append)
        return answers

    def get(self, key: str, *args: Any, within: float = 10.0, **more: Any) -> Fetched | Rejection:
        """Ask and wait for the answer."""
        answers = self.submit(key, *args, **more)
        until_s = time.monotonic() + within
        while not answers:
            assert time.monotonic() < until_s, "no answer"
            time.sleep(0.001)
        return answers[0]


@contextmanager
def asking(
    ports: int | Sequence[int],
    *,
    fill: Fill = FILL,
    retry: LiveFillRetry = NO_RETRY,
    ingress: Ingress | None = None,
    host: str = "127.0.0.1",
    scheme: str = "http",
    resolver: Any = None,
    also: Sequence[str] = (),
    **more: Any,
) -> Iterator[Asked]:
    """Run an engine whose keys are filled from ``host:port``; ``0/``, ``1/`` lead to several ports."""
    ports = [ports] if isinstance(ports, int) else ports
    prefixes = [""] if len(ports) == 1 else [f"{index}/" for index in range(len(ports))]
    origins = tuple(
        OriginMapping(prefix=prefix, url=f"{scheme}://{host}:{port}")
        for prefix, port in zip(prefixes, ports, strict=True)
    )
    edge = Edge(mode="live", allow=(*(f"{host}:{port}" for port in ports), *also), origins=origins)
    config = Config(edge=edge, fill=replace(fill, **more), retry=Retry(live_fill=retry))
    config = config if ingress is None else replace(config, ingress=ingress)
    sinks: list[MemorySink] = []
    hooks = Counts()

    def open_sink(length: int | None) -> MemorySink:
        sinks.append(MemorySink())
        return sinks[-1]

    given = {} if resolver is None else {"resolver": resolver}
    engine = Engine(config, open_sink=open_sink, hooks=hooks, **given)
    asked = Asked(engine, hooks, sinks)
    try:
        yield asked
    finally:
        engine.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("fill-")]
        assert hooks.defects == []
        assert all(len(answers) <= 1 for answers in asked.answers)
