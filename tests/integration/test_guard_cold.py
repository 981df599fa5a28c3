"""Cold bytes under the guard alone: what begins cold is not begun, and a body that becomes cold rests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.cold import chill, warm
from tests.guard_app import GuardApp, pattern
from tests.servers import eventually
from tests.wire import Connection, Cut

PIECE = 256 << 10
SIZE = 4 * PIECE + 1000
CONTENT = pattern(SIZE)
SMALL = 5000


@pytest.fixture
def app() -> Iterator[GuardApp]:
    with GuardApp(warm_bytes=0) as running:
        running.do("hear_of_cold")
        yield running


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of which nothing is in the page cache."""
    path = tmp_path / "large.bin"
    path.write_bytes(CONTENT)
    chill(path)
    return path


@pytest.fixture
def begun(large: Path) -> Path:
    """The same, with its first piece in the page cache."""
    warm(large, 0, PIECE)
    return large


def target(path: Path, **query: object) -> str:
    return f"/file?{urlencode({'path': path, **query})}"


def told(app: GuardApp) -> list[Any]:
    """Return what the guard tells of next: token, descriptor, offset, length."""
    return list(eventually(lambda: app.do("cold")))


def is_silent(connection: Connection) -> bool:
    """Whether nothing comes for a while."""
    connection.socket.settimeout(0.1)
    try:
        return not connection.socket.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.socket.settimeout(10)


def read_on(connection: Connection, length: int, app: GuardApp, *, may_wait: bool = True) -> bytes:
    """Read so many bytes of a body; whenever it rests, have it go on."""
    connection.socket.settimeout(0.05)
    while True:
        try:
            return connection.read_exactly(length)
        except TimeoutError:
            for token, *_ in app.do("cold"):
                app.do("go_on", token=token, may_wait=may_wait)


@pytest.mark.parametrize("length", [SMALL, PIECE // 4, SIZE], ids=["small", "in-one-piece", "long"])
def test_what_begins_cold_is_not_begun_unless_it_may_wait(app: GuardApp, large: Path, length: int) -> None:
    with Connection(app.place) as connection:
        refused = connection.ask(target(large, length=length))
        assert (refused.status, refused["X-Cold"]) == (503, "1")
        chill(large)
        connection.send(target(large, length=length, wait=1))
        assert connection.read_head().status == 200
        assert read_on(connection, length, app) == CONTENT[:length]


def test_a_body_rests_where_it_becomes_cold_and_others_are_answered(app: GuardApp, begun: Path) -> None:
    with Connection(app.place) as resting, Connection(app.place) as other:
        resting.send(target(begun))
        assert resting.read_head().status == 200
        assert resting.read_exactly(PIECE) == CONTENT[:PIECE]
        ((token, _, offset, length),) = told(app)
        assert (offset, length) == (PIECE, SIZE - PIECE)
        assert is_silent(resting)
        assert other.ask("/text").body == b"hello"
        warm(begun, PIECE, SIZE)
        assert is_silent(resting)  # nobody has said so
        assert app.do("go_on", token=token) is True
        assert resting.read_exactly(SIZE - PIECE) == CONTENT[PIECE:]
        assert app.do("go_on", token=token) is False
        assert resting.ask("/text?text=after").body == b"after"
    assert app.counters()["bad_answers"] == 0


def test_a_body_that_still_finds_nothing_rests_again(app: GuardApp, begun: Path) -> None:
    with Connection(app.place) as resting:
        resting.send(target(begun))
        resting.read_head()
        resting.read_exactly(PIECE)
        ((token, *_),) = told(app)
        chill(begun)
        assert app.do("go_on", token=token) is True
        ((again, _, offset, _),) = told(app)
        assert (again, offset) == (token, PIECE)
        assert app.do("go_on", token=token, may_wait=True) is True
        assert read_on(resting, SIZE - PIECE, app) == CONTENT[PIECE:]


def test_a_body_whose_bytes_do_not_come_is_cut(app: GuardApp, begun: Path) -> None:
    with Connection(app.place) as resting:
        resting.send(target(begun))
        resting.read_head()
        resting.read_exactly(PIECE)
        ((token, *_),) = told(app)
        assert app.do("give_up", token=token) is True
        assert app.do("give_up", token=token) is False
        with pytest.raises((Cut, ConnectionResetError)):
            resting.read_exactly(1)
    eventually(lambda: not app.connections())
    assert app.counters()["cut"] == 1


def test_who_leaves_while_a_body_rests_is_noticed_when_it_goes_on(app: GuardApp, begun: Path) -> None:
    with Connection(app.place) as resting:
        resting.send(target(begun))
        resting.read_head()
        resting.read_exactly(PIECE)
        ((token, *_),) = told(app)
    warm(begun, PIECE, SIZE)
    assert app.do("go_on", token=token) is True
    eventually(lambda: not app.connections())
    with Connection(app.place) as another:
        assert another.ask(target(begun)).body == CONTENT


def test_a_repeated_answer_rests_like_any_other(app: GuardApp, begun: Path) -> None:
    warm(begun, PIECE, SIZE)
    app.do("repeat")
    with Connection(app.place) as connection:
        assert connection.ask(target(begun, remember=0)).body == CONTENT
        assert connection.ask(target(begun, remember=0)).body == CONTENT
        assert app.do("asked") == 1
        chill(begun)
        warm(begun, 0, PIECE)
        connection.send(target(begun, remember=0))
        assert connection.read_head().status == 200
        assert connection.read_exactly(PIECE) == CONTENT[:PIECE]
        ((token, *_),) = told(app)
        assert is_silent(connection)
        warm(begun, PIECE, SIZE)
        assert app.do("go_on", token=token) is True
        assert connection.read_exactly(SIZE - PIECE) == CONTENT[PIECE:]
        assert app.do("asked") == 1
        chill(begun)
        assert connection.ask(target(begun, remember=0))["X-Cold"] == "1"  # the application has been asked
        assert app.do("asked") == 2


def test_a_pipeline_behind_a_body_that_rests_waits_and_keeps_its_order(app: GuardApp, begun: Path) -> None:
    with Connection(app.place) as connection:
        connection.send(target(begun))
        connection.send("/text?text=behind")
        connection.read_head()
        connection.read_exactly(PIECE)
        ((token, *_),) = told(app)
        assert is_silent(connection)
        warm(begun, PIECE, SIZE)
        app.do("go_on", token=token)
        assert connection.read_exactly(SIZE - PIECE) == CONTENT[PIECE:]
        assert connection.read().body == b"behind"


def test_where_nobody_listens_a_cold_body_is_read_as_it_goes(begun: Path) -> None:
    with GuardApp(warm_bytes=0) as app, Connection(app.place) as connection:
        assert connection.ask(target(begun)).body == CONTENT


def test_a_block_that_is_partly_cold_is_asked_for_and_warm_later(begun: Path) -> None:
    with GuardApp(warm_bytes=4 * PIECE) as app, Connection(app.place) as connection:
        app.do("hear_of_cold")
        chill(begun)
        warm(begun, 0, 8192)
        for _ in range(2):
            assert connection.ask(target(begun, length=SMALL)).body == CONTENT[:SMALL]
        ((token, _, offset, length),) = told(app)
        assert (token, offset, length) == (0, 0, PIECE)
        assert app.counters()["warm_bytes"] == 0
        warm(begun, 0, PIECE)
        for _ in range(2):
            assert connection.ask(target(begun, length=SMALL)).body == CONTENT[:SMALL]
        assert app.counters()["warm_bytes"] == PIECE
