"""The drill's load: paced clients that keep their connections, and check every answer.

Process      the drill's event loop. Bounded: a fixed number of connections with one request in
             flight each, and a fixed rate over all of them.

Requests are due at times that do not depend on answers, and latency counts from there: a client
that waits for a stalled worker asks late for what was due meanwhile, and each of those requests
is as slow as a user would have found it.
"""

from __future__ import annotations

import asyncio
import random
import time

from edge_server.config.addresses import Address
from edge_server.drill.answers import MAX_HEAD_BYTES, Answer, BadAnswer, read, request
from edge_server.drill.journal import Journal, Loss, Row, Wrong
from edge_server.drill.targets import Question, Questions, is_rejection

GIVE_UP_S = 15.0  # longer than any promised recovery from a single fault
RENEW_AFTER = (30, 90)  # requests on one connection, so that all workers get some again
_SWEEP_S = 0.5
_RETRY_S = 0.05


class Client:
    """One connection at a time; asks until it is told to stop.

    Args:
        interval_s: mean time between two requests of this client.

    Attributes:
        through: where it connects, instead of to the asset plane, from its next connection on.
        process: what the correlation ids on its connection begin with; empty where unknown.
        local_port: of its connection; 0 where there is none.
    """

    def __init__(
        self, number: int, assets: Address, questions: Questions, journal: Journal, interval_s: float
    ) -> None:
        self.through: Address | None = None
        self.process = ""
        self.local_port = 0
        self._assets = assets
        self._questions = questions
        self._journal = journal
        self._interval_s = interval_s
        self._random = random.Random(number)
        self._is_told = asyncio.Event()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._connected_to: Address | None = None
        self._left = 0
        self._asked_s: float | None = None

    def stop(self) -> None:
        """Finish the request in flight, then end."""
        self._is_told.set()

    def is_asking_through(self, place: Address) -> bool:
        """Whether a request is in flight on a connection to `place`."""
        return self._asked_s is not None and self._connected_to == place

    def give_up_if_stuck(self, now_s: float) -> None:
        """End a connection whose request has been in flight for too long."""
        if self._asked_s is not None and now_s - self._asked_s > GIVE_UP_S and self._writer is not None:
            self._writer.transport.abort()

    async def run(self) -> None:
        """Ask, at the pace given, until `stop`."""
        due_s = time.monotonic() + self._random.uniform(0, self._interval_s)
        while not self._is_told.is_set():
            wait_s = due_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            if self._is_told.is_set():
                break
            await self._ask(due_s, self._questions.next())
            due_s += self._interval_s * self._random.uniform(0.5, 1.5)
            if self.through is not None:
                # The delay there is ours: what it keeps from being asked in time is not asked later.
                due_s = max(due_s, time.monotonic())
        self._close()

    async def _ask(self, due_s: float, question: Question) -> None:
        place = self.through or self._assets
        began_s = self._asked_s = time.monotonic()
        try:
            await self._connect(place)
            assert self._reader is not None
            assert self._writer is not None
            self._writer.write(request(str(self._assets), question.of.target, question.fields))
            answer = await read(self._reader)
        except (OSError, EOFError, BadAnswer, asyncio.TimeoutError) as error:
            is_proxied = place is not self._assets
            loss = Loss(
                began_s, time.monotonic(), self.process, is_proxied, f"{type(error).__name__}: {error}"
            )
            self._journal.lost(due_s, loss)
            self._close()
            await asyncio.sleep(_RETRY_S)
        else:
            self._note(due_s, question, answer, is_proxied=place != self._assets)
        finally:
            self._asked_s = None

    def _note(self, due_s: float, question: Question, answer: Answer, *, is_proxied: bool) -> None:
        now_s = time.monotonic()
        row = Row(due_s, now_s - due_s, answer.status, is_proxied, is_rejection(answer))
        self._journal.answered(row, len(answer.body))
        if fault := question.fault_of(answer):
            self._journal.differed(Wrong(now_s, question.of.target, fault))
        self.process = answer.fields.get("x-corr-id", "").rpartition("-")[0]
        self._left -= 1
        if answer.is_last or self._left <= 0:
            self._close()

    async def _connect(self, place: Address) -> None:
        """Have a connection to `place` that has not been ended while it was idle."""
        if self._writer is not None and self._reader is not None:
            has_ended = self._reader.at_eof() or self._reader.exception() or self._writer.is_closing()
            if not has_ended and self._connected_to == place:
                return
        self._close()
        opening = asyncio.open_connection(place.host, place.port, limit=MAX_HEAD_BYTES)
        reader, writer = await asyncio.wait_for(opening, GIVE_UP_S)
        self._reader, self._writer, self._connected_to = reader, writer, place
        self.local_port = writer.get_extra_info("sockname")[1]
        self._left = self._random.randint(*RENEW_AFTER)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = self._connected_to = None
        self.process, self.local_port = "", 0


async def sweep(clients: list[Client]) -> None:
    """Give up what is stuck, until cancelled."""
    while True:
        await asyncio.sleep(_SWEEP_S)
        for client in clients:
            client.give_up_if_stuck(time.monotonic())
