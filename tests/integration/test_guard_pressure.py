"""What the guard knows of load: requests in hand, how long they wait, connections that queue."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlencode

import pytest

from edge_server.guard import CROWDED, LATE, REPLAY
from tests.guard_app import GuardApp
from tests.servers import eventually
from tests.wire import Connection

PATIENCE_S = 0.02
INTERVAL_S = 0.1
TURN_MS = 40  # what one request costs, in tests of waiting: twice the patience
MANY = 10_000


@pytest.fixture
def app() -> Iterator[GuardApp]:
    with GuardApp() as app:
        app.do("press_at", room=MANY, patience_s=PATIENCE_S, interval_s=INTERVAL_S)
        yield app


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def connect(app: GuardApp, stack: ExitStack, count: int) -> list[Connection]:
    """Open connections that the process has taken."""
    opened = [stack.enter_context(Connection(app.place)) for _ in range(count)]
    for connection in opened:
        connection.ask("/text")
    return opened


def pressed(**query: object) -> str:
    return f"/pressed?{urlencode(query)}"


def ask_together(first: Connection, others: list[Connection], ms: int = TURN_MS) -> list[int]:
    """Have requests wait behind one, so that they are of one turn; return what spoke against each."""
    first.send(pressed(ms=100))
    time.sleep(0.02)
    for connection in others:
        connection.send(pressed(ms=ms))
    assert first.read().body == b"0"
    return [int(connection.read().body) for connection in others]


def test_nothing_speaks_against_a_lonely_request(app: GuardApp, stack: ExitStack) -> None:
    (connection,) = connect(app, stack, 1)
    assert [connection.ask(pressed(ms=30)).body for _ in range(5)] == [b"0"] * 5
    assert not app.do("load")[2]


def test_a_spike_sheds_nobody(app: GuardApp, stack: ExitStack) -> None:
    first, *others = connect(app, stack, 5)
    for _ in range(5):
        assert ask_together(first, others, ms=0) == [0] * 4
        assert first.ask(pressed()).body == b"0"
    assert not app.do("load")[2]


def test_of_the_requests_of_a_long_turn_those_are_shed_that_are_late_for_an_interval(
    app: GuardApp, stack: ExitStack
) -> None:
    first, *others = connect(app, stack, 9)
    told = ask_together(first, others)
    # At 0, 40, 80, 120 ms of the turn nobody is late for an interval; the marks blur on a busy machine.
    assert told.count(LATE) >= 4
    assert 2 <= told.count(0) <= 4
    assert app.do("load")[2]


def test_a_pipelined_request_does_not_wait_for_its_own_connection(app: GuardApp, stack: ExitStack) -> None:
    (connection,) = connect(app, stack, 1)
    for _ in range(8):
        connection.send(pressed(ms=TURN_MS))
    assert [connection.read().body for _ in range(8)] == [b"0"] * 8
    assert not app.do("load")[2]


def test_the_late_are_shed_until_there_was_none_for_an_interval(app: GuardApp, stack: ExitStack) -> None:
    first, *others = connect(app, stack, 9)
    ask_together(first, others)
    assert first.ask(pressed()).body == b"0", "nobody was before it"
    eventually(lambda: not app.do("load")[2])
    assert ask_together(first, others[:2]) == [0, 0]


def test_overload_that_lasts_is_shed_to_its_end(app: GuardApp, stack: ExitStack) -> None:
    def keep_asking(connection: Connection) -> None:
        for _ in range(10):
            connection.ask(pressed(ms=TURN_MS))

    connections = connect(app, stack, 4)
    with ThreadPoolExecutor(len(connections)) as threads:
        asking = [threads.submit(keep_asking, connection) for connection in connections]
        eventually(lambda: app.do("load")[2])
        while not any(asked.done() for asked in asking):
            assert app.do("load")[2]
            time.sleep(0.01)
        for asked in asking:
            asked.result()
    eventually(lambda: not app.do("load")[2])


def test_the_wait_that_stands_is_that_of_the_turn_with_the_least(app: GuardApp, stack: ExitStack) -> None:
    first, *others = connect(app, stack, 4)
    app.do("least_wait")
    first.send(pressed(ms=100))
    time.sleep(0.02)
    for connection in others:
        connection.send(pressed(ms=TURN_MS))
    eventually(lambda: all(connection.read().body for connection in [first, *others]))
    assert app.do("least_wait") < PATIENCE_S, "the first request of all waited for nobody"


def test_more_requests_than_there_is_room_for_are_a_crowd(app: GuardApp, stack: ExitStack) -> None:
    parking, asking = connect(app, stack, 2)
    app.do("press_at", room=2, patience_s=PATIENCE_S, interval_s=INTERVAL_S)
    parking.send("/park?name=a")
    eventually(lambda: app.connections().get("parked") == 1)
    assert asking.ask(pressed()).body == b"0"
    app.do("press_at", room=1, patience_s=PATIENCE_S, interval_s=INTERVAL_S)
    assert asking.ask(pressed()).body == b"%d" % CROWDED
    assert app.do("load") == [0, 1, False]
    assert app.do("resume", name="a")
    parking.read()


def test_a_replayed_request_is_known_as_one_and_the_next_is_not(app: GuardApp, stack: ExitStack) -> None:
    (connection,) = connect(app, stack, 1)
    app.do("press_at", room=0, patience_s=60.0, interval_s=INTERVAL_S)
    connection.send("/park?name=a&pressed=1")
    eventually(lambda: app.connections().get("parked") == 1)
    assert app.do("resume", name="a")
    assert connection.read().body == b"%d" % REPLAY
    assert connection.ask(pressed()).body == b"%d" % CROWDED


def test_connections_that_queue_are_taken_together_and_not_one_a_turn(
    app: GuardApp, stack: ExitStack
) -> None:
    (busy,) = connect(app, stack, 1)
    busy.send(pressed(ms=300))
    time.sleep(0.02)
    queued = [stack.enter_context(Connection(app.place)) for _ in range(20)]
    for connection in queued:
        connection.send("/text")
    busy.send(pressed(ms=20))
    busy.read()
    turns = 1
    while any(connection.unread() == b"" for connection in queued):
        busy.read()
        turns += 1
        assert turns <= 4, "each of these turns could have taken all of them"
        busy.send(pressed(ms=20))
