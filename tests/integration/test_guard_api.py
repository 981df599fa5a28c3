"""The guard's API from both sides: what an application asks of it, and what the client gets.

Each test has a process of its own, or one of its module's where it changes nothing that
another could see.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from tests.guard_app import GuardApp, pattern
from tests.servers import eventually
from tests.wire import Answer, Connection, Cut, request

LARGE = 16 << 20
CONTENT = pattern(LARGE)
SMALL_BUFFER = 16 << 10  # of a client that reads slowly: most of a large body is not yet sent
PARKED = 2000


@pytest.fixture(scope="module")
def module_app() -> Iterator[GuardApp]:
    with GuardApp() as app:
        yield app


@pytest.fixture
def shared(module_app: GuardApp) -> Iterator[GuardApp]:
    yield module_app
    assert_nothing_left(module_app)


@pytest.fixture
def app() -> Iterator[GuardApp]:
    with GuardApp() as app:
        yield app
        assert_nothing_left(app)


def assert_nothing_left(app: GuardApp) -> None:
    """Whatever a test has done, no connection is left in the guard's counts."""
    if app.process.returncode is None:
        eventually(lambda: app.connections() == {})


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(CONTENT)
    return path


def target(answer: str, /, **query: object) -> str:
    return f"/{answer}?{urlencode(query)}"


def is_in_step(connection: Connection) -> bool:
    """Whether the next answer on a connection is the next request's."""
    return connection.ask("/text?text=in+step").body == b"in step"


def reset(connection: Connection) -> None:
    """Leave without a word: close with a reset."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_to_end(connection: Connection) -> bytes:
    """Return all that still comes before the connection ends, in whatever way."""
    received = bytearray()
    try:
        while piece := connection.socket.recv(1 << 16):
            received += piece
    except ConnectionResetError:
        pass
    return bytes(received)


# Files


@pytest.mark.parametrize("length", [0, 1, 4096, 65535, 65536, 65537, 262144, 262145, LARGE])
@pytest.mark.parametrize("start", [0, 1, 4097])
def test_bytes_of_a_file_arrive_as_they_are(shared: GuardApp, large: Path, start: int, length: int) -> None:
    length = min(length, LARGE - start)
    with Connection(shared.place) as connection:
        for _ in range(2):
            answer = connection.ask(target("file", path=large, start=start, length=length))
            assert (answer.status, answer.is_last) == (200, False)
            assert answer.body == CONTENT[start : start + length]
        assert is_in_step(connection)


def test_files_that_were_asked_for_at_once_arrive_in_order(shared: GuardApp, large: Path) -> None:
    spans = [(k * 7919, 100 + k * 12345) for k in range(30)]
    with Connection(shared.place) as connection:
        for start, length in spans:
            connection.send(target("file", path=large, start=start, length=length))
        for start, length in spans:
            assert connection.read().body == CONTENT[start : start + length]
        assert is_in_step(connection)


def test_a_slow_reader_gets_the_rest_of_a_file_after_partial_writes(shared: GuardApp, large: Path) -> None:
    with Connection(shared.place, receive_buffer=SMALL_BUFFER) as connection:
        connection.send(target("file", path=large))
        length = connection.body_length(connection.read_head(), "GET")
        received = bytearray()
        for k in range(200):
            received += connection.read_exactly(min(1 + k * 97, length - len(received)))
            if k % 10 == 0:
                time.sleep(0.005)
        received += connection.read_exactly(length - len(received))
        assert received == CONTENT
        assert is_in_step(connection)


def descriptors(app: GuardApp) -> int:
    """Return how many descriptors the process has, besides those of warm blocks."""
    folder = Path(f"/proc/{app.pid}/fd")
    return sum("/memfd:" not in os.readlink(entry) for entry in folder.iterdir())


def test_a_client_that_resets_in_mid_body_disturbs_nobody(app: GuardApp, large: Path) -> None:
    with Connection(app.place) as other:
        for _ in range(20):
            leaving = Connection(app.place, receive_buffer=SMALL_BUFFER)
            leaving.send(target("file", path=large))
            leaving.read_head()
            reset(leaving)
            assert is_in_step(other)
        eventually(lambda: app.connections() == {"idle": 1})
        before = descriptors(app)
        assert other.ask(target("file", path=large)).body == CONTENT
        assert descriptors(app) <= before


@pytest.mark.parametrize("fields", [{}, {"Connection": "close"}], ids=["keep-alive", "close"])
def test_a_client_that_does_not_read_is_reset_and_the_kernel_keeps_nothing(
    large: Path, fields: dict[str, str]
) -> None:
    with GuardApp(min_send_rate=100_000) as app, Connection(app.place, receive_buffer=4096) as connection:
        connection.send(target("file", path=large), fields=fields)
        eventually(lambda: app.connections() == {"busy": 1})
        eventually(lambda: app.connections() == {}, within=5)
        assert app.counters()["timed_out_send"] == 1
        assert queued_bytes(app.place.port) == 0


def test_an_idle_client_that_has_not_read_is_reset_too() -> None:
    with GuardApp(idle_timeout_s=0.5) as app, Connection(app.place, receive_buffer=4096) as connection:
        connection.send(target("memory", length=60_000))
        eventually(lambda: app.connections() == {"idle": 1})
        assert queued_bytes(app.place.port) > 0
        eventually(lambda: app.connections() == {}, within=2)
        assert queued_bytes(app.place.port) == 0


def truncate(path: Path) -> None:
    os.truncate(path, LARGE // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def grow(path: Path) -> None:
    os.truncate(path, LARGE + 1)


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x" * LARGE)


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(b"x" * LARGE)
    other.replace(path)


@pytest.mark.parametrize("change", [truncate, empty, grow, rewrite, replace, Path.unlink])
def test_a_file_that_changes_meanwhile_cuts_the_connection(
    app: GuardApp, large: Path, change: object
) -> None:
    with Connection(app.place) as other, Connection(app.place, receive_buffer=SMALL_BUFFER) as connection:
        assert is_in_step(other)
        connection.send(target("file", path=large))
        connection.send("/text?text=never")
        connection.read_head()
        begun = connection.read_exactly(100_000)
        assert app.counters()["cut"] == 0
        change(large)  # type: ignore[operator]
        with pytest.raises((Cut, ConnectionResetError)):
            begun += connection.read_exactly(LARGE - len(begun))
        begun += bytes(connection.read_exactly(connection.received))
        assert len(begun) < LARGE
        assert begun == CONTENT[: len(begun)]
        assert app.counters()["cut"] == 1
        assert is_in_step(other)
        eventually(lambda: app.connections() == {"idle": 1})


def test_a_file_that_was_replaced_is_sent_to_its_end_where_links_do_not_matter(
    shared: GuardApp, large: Path
) -> None:
    cut = shared.counters()["cut"]
    with Connection(shared.place, receive_buffer=SMALL_BUFFER) as connection:
        connection.send(target("file", path=large, links=0))
        connection.read_head()
        begun = connection.read_exactly(100_000)
        replace(large)
        assert begun + connection.read_exactly(LARGE - len(begun)) == CONTENT
        assert is_in_step(connection)
    assert shared.counters()["cut"] == cut


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 1},
        {"mtime": 1},
        {"links": 2},
        {"start": LARGE, "length": 10},
        {"start": LARGE - 5, "length": 10},
        {"start": -1, "length": 10},
        {"length": -1},
        {"length": LARGE + 1},
    ],
    ids=lambda wrong: "-".join(f"{name}-{value}" for name, value in wrong.items()),
)
def test_bytes_that_cannot_be_had_are_not_announced(
    shared: GuardApp, large: Path, wrong: dict[str, int]
) -> None:
    with Connection(shared.place) as connection:
        assert connection.ask(target("file", path=large, **wrong)).status == 503
        assert is_in_step(connection)


@pytest.mark.parametrize("announced", [0, 999, 1001, LARGE])
def test_a_file_of_another_length_than_announced_does_not_desynchronise(
    shared: GuardApp, large: Path, announced: int
) -> None:
    with Connection(shared.place) as connection:
        connection.send(target("file", path=large, length=1000, announced=announced))
        head = connection.read_head()
        assert head.status == 200
        if announced:  # what was planned is not sent, and nothing else is there
            assert read_to_end(connection) == b""
        else:
            assert is_in_step(connection)


@pytest.mark.parametrize("length", [10, 100_000], ids=["buffered", "from-the-file"])
def test_what_the_application_returns_beside_a_file_is_dropped(
    shared: GuardApp, large: Path, length: int
) -> None:
    with Connection(shared.place) as connection:
        answer = connection.ask(target("file", path=large, length=length, own="too much"))
        assert answer.body == pattern(length)
        assert is_in_step(connection)


def test_a_head_request_for_a_file_has_no_body(shared: GuardApp, large: Path) -> None:
    with Connection(shared.place) as connection:
        for length in (100, LARGE):
            answer = connection.ask(target("file", path=large, length=length), "HEAD")
            assert answer["Content-Length"] == str(length)
        assert is_in_step(connection)


@pytest.mark.parametrize("length", [0, 1, 65537, LARGE])
def test_a_buffer_is_sent_as_it_was_when_it_was_announced(shared: GuardApp, length: int) -> None:
    with Connection(shared.place, receive_buffer=SMALL_BUFFER) as connection:
        assert connection.ask(target("memory", length=length)).body == pattern(length)
        assert is_in_step(connection)


def test_header_lines_are_sent_with_one_answer_only(shared: GuardApp) -> None:
    with Connection(shared.place) as connection:
        answer = connection.ask("/fields")
        assert (answer["X-One"], answer["X-Two"], answer.body) == ("1", "2", b"hello")
        assert connection.ask("/text").all("X-One") == []


# What is checked of an answer


@pytest.mark.parametrize("kind", ["bytes", "list", "iterator"])
@pytest.mark.parametrize(("announced", "given"), [(10, 5000), (0, 10), (1500, 5000), (4999, 5000)])
def test_what_is_more_than_announced_is_dropped(
    shared: GuardApp, kind: str, announced: int, given: int
) -> None:
    before = shared.counters()["bad_answers"]
    with Connection(shared.place) as connection:
        for _ in range(3):
            asked = target("body", **{"announced": announced, "given": given, "as": kind})
            assert connection.ask(asked).body == pattern(given)[:announced]
            assert is_in_step(connection)
    assert shared.counters()["bad_answers"] > before


@pytest.mark.parametrize("kind", ["bytes", "list", "iterator"])
@pytest.mark.parametrize(("announced", "given"), [(10, 0), (5001, 5000), (1_000_000, 2500)])
def test_what_is_less_than_announced_ends_the_connection(
    shared: GuardApp, kind: str, announced: int, given: int
) -> None:
    before = shared.counters()["bad_answers"]
    with Connection(shared.place) as connection:
        connection.send(target("body", **{"announced": announced, "given": given, "as": kind}))
        connection.send("/text?text=never")
        assert connection.read_head()["Content-Length"] == str(announced)
        assert connection.read_exactly(connection.received) + read_to_end(connection) == pattern(given)
    assert shared.counters()["bad_answers"] == before + 1


def test_a_body_of_unknown_length_is_sent_in_chunks(shared: GuardApp) -> None:
    with Connection(shared.place) as connection:
        connection.send(target("body", **{"given": 2500, "as": "iterator"}))
        assert connection.read_head()["Transfer-Encoding"] == "chunked"
        for piece in (pattern(2500)[:1000], pattern(2500)[1000:2000], pattern(2500)[2000:]):
            chunk = b"%x\r\n%s\r\n" % (len(piece), piece)
            assert connection.read_exactly(len(chunk)) == chunk
        assert connection.read_exactly(5) == b"0\r\n\r\n"
        assert is_in_step(connection)


@pytest.mark.parametrize("kind", ["bytes", "list", "iterator"])
@pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", "200 OK"), ("GET", "304 Not Modified"), ("GET", "204 No Content")],
    ids=["HEAD", "304", "204"],
)
@pytest.mark.parametrize("given", [3, 2500])
def test_a_body_where_none_may_be_is_dropped(
    shared: GuardApp, kind: str, method: str, status: str, given: int
) -> None:
    announced = {} if status.startswith("204") else {"announced": given}
    asked = target("body", **{"given": given, "as": kind, "status": status, **announced})
    with Connection(shared.place) as connection:
        for _ in range(3):
            assert connection.ask(asked, method).status == int(status[:3])
            assert is_in_step(connection)


@pytest.mark.parametrize("character", ["\r", "\n", "\0", "\r\n", "\r\nX-Evil: 1\r\n\r\n"], ids=repr)
@pytest.mark.parametrize("where", ["status", "name", "value"])
def test_a_head_that_could_be_split_is_answered_500(shared: GuardApp, where: str, character: str) -> None:
    whole = {"status": "200 OK", "name": "X-Field", "value": "value"}
    for text in (whole[where] + character, whole[where][:4] + character + whole[where][4:]):
        with Connection(shared.place) as connection:
            assert_failure(connection, f"/head?{where}={quote(text)}")


@pytest.mark.parametrize("when", ["before", "planned", "silent", "parked", "after", "first"])
def test_a_failing_application_is_answered_500(shared: GuardApp, when: str) -> None:
    with Connection(shared.place) as connection:
        assert_failure(connection, f"/raise?when={when}")


def test_the_requests_behind_a_failure_are_not_answered(shared: GuardApp) -> None:
    with Connection(shared.place) as connection:
        connection.send("/text")
        connection.send("/raise?when=before")
        connection.send("/text?text=never")
        assert connection.read().body == b"hello"
        assert_whole_500(connection.read())
        assert connection.is_ended()


def test_an_application_that_fails_in_mid_body_ends_the_connection(shared: GuardApp) -> None:
    with Connection(shared.place) as connection:
        connection.send("/raise?when=later")
        connection.send("/text?text=never")
        assert connection.read_head()["Content-Length"] == "3000"
        assert connection.read_exactly(connection.received) + read_to_end(connection) == pattern(1000)


def assert_failure(connection: Connection, asked: str) -> None:
    """See that a request is answered 500 in full, and that the connection then ends."""
    assert_whole_500(connection.ask(asked))
    assert connection.is_ended()


def assert_whole_500(answer: Answer) -> None:
    assert (answer.status, answer["X-Reason"], answer.is_last) == (500, "internal", True)
    problem = json.loads(answer.body)
    assert (problem["reason"], problem["corr_id"]) == ("internal", answer["X-Corr-ID"])
    assert not [name for name, _ in answer.fields if name in ("X-Evil", "X-Secret")]


# Parking


def park(app: GuardApp, connection: Connection, name: str, **query: object) -> None:
    """Send a request that parks, and wait until it does."""
    parks = app.counters()["parks"]
    connection.send(target("park", name=name, **query))
    eventually(lambda: app.counters()["parks"] > parks)


def test_a_parked_request_is_answered_when_it_is_resumed(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        park(app, connection, "a")
        assert app.connections() == {"parked": 1}
        assert connection.unread() == b""
        assert app.do("resume", name="a") is True
        assert connection.read().body == b"a 2"
        assert is_in_step(connection)
        assert app.connections() == {"idle": 1}
        assert app.do("resume", name="a") is False
    assert (app.counters()["parks"], app.counters()["replays"]) == (1, 1)


def test_two_thousand_parked_requests_disturb_nobody_and_are_all_answered(app: GuardApp) -> None:
    connections = [Connection(app.place) for _ in range(PARKED)]
    for number, connection in enumerate(connections):
        connection.send(target("park", name=f"n{number}"))
    eventually(lambda: app.connections() == {"parked": PARKED})
    with Connection(app.place) as other:
        assert is_in_step(other)
        assert app.do("resume_all") == PARKED
        assert app.do("resume_all") == 0
        for number, connection in enumerate(connections):
            assert connection.read().body == f"n{number} 2".encode()
        assert is_in_step(other)
    assert app.connections()["idle"] >= PARKED
    for connection in connections:
        connection.close()


def test_a_client_that_leaves_while_parked_is_forgotten(app: GuardApp) -> None:
    for leave in (Connection.close, reset):
        connection = Connection(app.place)
        park(app, connection, "gone", times=99)
        leave(connection)
        eventually(lambda: app.connections() == {})
        assert app.do("resume", name="gone") is False


def test_many_clients_that_leave_while_parked_are_forgotten(app: GuardApp) -> None:
    connections = [Connection(app.place) for _ in range(300)]
    for number, connection in enumerate(connections):
        connection.send(target("park", name=f"n{number}", times=99))
    eventually(lambda: app.connections() == {"parked": 300})
    for connection in connections[::2]:
        connection.close()
    eventually(lambda: app.connections() == {"parked": 150})
    for connection in connections[1::2]:
        reset(connection)
    eventually(lambda: app.connections() == {})
    assert app.do("resume_all") == 0


def test_a_client_that_leaves_between_resume_and_answer_is_forgotten(app: GuardApp) -> None:
    for leave in (Connection.close, reset):
        connection = Connection(app.place)
        park(app, connection, leave.__name__)
        connection.send("/text")
        assert app.do("resume", name=leave.__name__) is True
        leave(connection)
        eventually(lambda: app.connections() == {})


def test_what_is_sent_while_parked_is_answered_behind(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        connection.send(target("park", name="a"))
        connection.send("/text?text=second")
        eventually(lambda: app.connections() == {"parked": 1})
        connection.send(target("park", name="b"))
        connection.send("/text?text=fourth")
        time.sleep(0.05)
        assert connection.unread() == b""
        assert app.do("resume", name="a") is True
        assert [connection.read().body for _ in range(2)] == [b"a 2", b"second"]
        eventually(lambda: app.connections() == {"parked": 1})
        assert app.do("resume", name="b") is True
        assert [connection.read().body for _ in range(2)] == [b"b 2", b"fourth"]
        assert is_in_step(connection)


def test_a_flood_while_parked_stays_in_the_kernel(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        park(app, connection, "a")
        resident = resident_bytes(app.pid)
        connection.socket.settimeout(0.5)
        flood = request("/text", "GET", {"Host": "a"}) * 1_000_000
        with pytest.raises(TimeoutError):
            connection.socket.sendall(flood)
        assert resident_bytes(app.pid) < resident + (1 << 20)
        assert app.connections() == {"parked": 1}
        assert cpu_share(app.pid, 0.5) < 0.1
        assert app.do("resume", name="a") is True
        assert connection.read().body == b"a 2"


@pytest.mark.parametrize(
    "sent", [b"G", request("/text", "GET", {"Host": "a"}) * 1000], ids=["a byte", "more"]
)
@pytest.mark.parametrize("leave", [Connection.close, reset], ids=["closing", "resetting"])
def test_a_client_that_sent_more_and_left_while_parked_is_noticed_before_anybody_resumes_it(
    app: GuardApp, leave: Callable[[Connection], None], sent: bytes
) -> None:
    with Connection(app.place) as other:
        assert is_in_step(other)
        connection = Connection(app.place)
        park(app, connection, "a", times=99)
        connection.socket.sendall(sent)
        eventually(lambda: unread_bytes(app.place.port) > 0)  # so that its leaving stands behind bytes
        leave(connection)
        eventually(lambda: app.connections() == {"idle": 1}, within=1)
        assert app.do("resume", name="a") is False
        assert is_in_step(other)


def test_a_client_that_has_said_all_while_parked_is_taken_for_one_that_left(app: GuardApp) -> None:
    """The end of its requests looks like the end of it: nobody is waited for who may be gone."""
    with Connection(app.place) as connection:
        park(app, connection, "a")
        connection.socket.shutdown(socket.SHUT_WR)
        eventually(lambda: app.connections() == {}, within=1)
        assert app.do("resume", name="a") is False
        assert connection.is_ended()


def test_a_client_that_has_said_all_before_parking_gets_what_came_before(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        connection.send("/text?text=first")
        connection.send(target("park", name="a"))
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.read().body == b"first"
        eventually(lambda: app.connections() == {}, within=1)
        assert app.do("resume", name="a") is False


def test_a_client_that_sent_more_and_left_while_parked_ends_after_its_answer(app: GuardApp) -> None:
    connection = Connection(app.place)
    park(app, connection, "a")
    connection.send("/text")
    connection.close()
    time.sleep(0.1)
    app.do("resume", name="a")
    eventually(lambda: app.connections() == {})


def test_a_request_is_resumed_once_only(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        park(app, connection, "a", times=2)
        first = app.do("token", name="a")
        assert app.do("resume_token", token=first) is True
        eventually(lambda: app.do("counters")["parks"] == 2)
        eventually(lambda: app.connections() == {"parked": 1})
        second = app.do("token", name="a")
        assert app.do("resume_token", token=second) is True
        assert connection.read().body == b"a 3"
        assert [app.do("resume_token", token=token) for token in (first, second)] == [False, False]


def test_a_replayed_request_knows_the_parking_it_comes_from_and_no_other_request_does(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        assert connection.ask(target("replay")).body == b"0"
        park(app, connection, "a", replay=1)
        token = app.do("token", name="a")
        assert app.do("resume", name="a") is True
        assert connection.read().body == str(token).encode()
        assert connection.ask(target("replay")).body == b"0"


def test_a_token_of_a_parking_that_is_over_does_not_resume_the_next(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        park(app, connection, "a")
        first = app.do("token", name="a")
        assert app.do("resume_token", token=first) is True
        assert connection.read().body == b"a 2"
        park(app, connection, "b")
        assert app.do("resume_token", token=first) is False
        assert app.connections() == {"parked": 1}
        assert app.do("resume", name="b") is True
        assert connection.read().body == b"b 2"


def test_a_token_of_a_client_that_is_gone_does_not_resume_its_successor(app: GuardApp) -> None:
    tokens = []
    for number in range(5):
        with Connection(app.place) as connection:
            park(app, connection, f"n{number}")
            tokens.append(app.do("token", name=f"n{number}"))
        eventually(lambda: app.connections() == {})
    assert len(set(tokens)) == 5
    assert len({token & 0xFFFFFFFF for token in tokens}) == 1, "no descriptor was used again"
    with Connection(app.place) as connection:
        park(app, connection, "last")
        assert not any(app.do("resume_token", token=token) for token in tokens)
        assert app.connections() == {"parked": 1}
        assert app.do("resume", name="last") is True
        assert connection.read().body == b"last 2"


@pytest.mark.parametrize("token", [0, 1, 5, 2**32 - 1, 2**31, 2**64 - 1, 7 << 32 | 7])
def test_a_token_that_was_never_given_resumes_nothing(shared: GuardApp, token: int) -> None:
    assert shared.do("resume_token", token=token) is False


@pytest.mark.parametrize("silent", ["", "1"], ids=["with-a-body", "without"])
def test_a_request_may_be_resumed_in_the_call_that_parks_it(app: GuardApp, silent: str) -> None:
    with Connection(app.place) as connection:
        for number in range(3):
            asked = urlencode({"name": f"n{number}", "times": 3, "at-once": 1, "silent": silent})
            assert connection.ask(f"/park?{asked}").body == f"n{number} 4".encode()
        assert is_in_step(connection)


def test_parking_twice_in_one_call_is_parking_once(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        park(app, connection, "a", twice=1)
        assert app.do("resume", name="a") is True
        assert connection.read().body == b"a 2"
        assert is_in_step(connection)


def test_what_was_announced_before_parking_is_not_sent_after_it(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        park(app, connection, "a" * 58, planned=1)  # the answer is as long as what was announced
        assert app.do("resume", name="a" * 58) is True
        answer = connection.read()
        assert (answer.body, answer.all("X-Stale")) == (b"a" * 58 + b" 2", [])
        assert is_in_step(connection)


def test_a_request_with_a_body_is_parked_and_replayed(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        connection.send(target("park", name="a"), "POST", body=b"x" * 5000)
        eventually(lambda: app.connections() == {"parked": 1})
        assert app.do("resume", name="a") is True
        assert connection.read().body == b"a 2"
        assert is_in_step(connection)


def test_the_last_request_of_a_connection_may_park(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        connection.send(target("park", name="a"), fields={"Connection": "close"})
        eventually(lambda: app.connections() == {"parked": 1})
        assert app.do("resume", name="a") is True
        answer = connection.read()
        assert (answer.body, answer.is_last) == (b"a 2", True)
        assert connection.is_ended()


def test_a_request_that_nobody_resumes_is_replayed_in_time_and_may_park_again() -> None:
    with GuardApp(parked_timeout_s=0.4) as app, Connection(app.place) as connection:
        began = time.monotonic()
        assert connection.ask(target("park", name="a", times=3)).body == b"a 4"
        assert 1.2 <= time.monotonic() - began < 2.5
        assert is_in_step(connection)
        assert app.counters()["replays"] == 3
        connection.close()
        eventually(lambda: app.connections() == {})


# The loop


def test_the_tick_comes_ten_times_a_second(app: GuardApp) -> None:
    before = len(app.do("ticks"))
    time.sleep(2)
    assert 15 <= len(app.do("ticks")) - before <= 25


def test_a_tick_that_raises_is_printed_and_called_again(app: GuardApp) -> None:
    app.do("fail_ticks", does=True)
    before = len(app.do("ticks"))
    eventually(lambda: len(app.do("ticks")) > before + 3)
    app.do("fail_ticks", does=False)
    with Connection(app.place) as connection:
        assert is_in_step(connection)
    eventually(lambda: app.connections() == {})
    assert app.end().count("RuntimeError: this tick was told to fail") >= 3


def test_a_watcher_that_raises_is_printed_and_called_again(app: GuardApp) -> None:
    for _ in range(3):
        assert app.do("fail_watch") == "failing"
    with Connection(app.place) as connection:
        assert is_in_step(connection)
    eventually(lambda: app.connections() == {})
    assert app.end().count("RuntimeError: this watcher was told to fail") == 3


def test_a_watched_socket_wakes_the_loop_at_once(app: GuardApp) -> None:
    began = time.monotonic()
    for _ in range(200):
        app.do("counters")
    assert time.monotonic() - began < 1, "each has waited for a tick"


def test_what_belongs_to_a_request_raises_outside_of_one(app: GuardApp) -> None:
    assert set(app.do("outside")) == {"RuntimeError: no request is being answered"}
    with Connection(app.place) as connection:
        assert is_in_step(connection)
        assert set(app.do("outside")) == {"RuntimeError: no request is being answered"}
        park(app, connection, "a")
        assert set(app.do("outside")) == {"RuntimeError: no request is being answered"}
    with Connection(app.place, receive_buffer=SMALL_BUFFER) as connection:
        connection.send(target("memory", length=LARGE))
        eventually(lambda: app.connections() == {"busy": 1})
        assert set(app.do("outside")) == {"RuntimeError: no request is being answered"}


# Who asks, and since when


def test_the_peer_and_the_arrival_are_known(shared: GuardApp) -> None:
    with Connection(shared.place) as connection:
        own = list(connection.socket.getsockname())
        for _ in range(2):
            began = time.monotonic()
            told = json.loads(connection.ask("/who").body)
            assert (told["peer"], told["remote"]) == (own, own[0])
            assert began <= told["arrived"] <= told["now"] <= time.monotonic()


def test_the_arrival_is_that_of_the_first_byte(shared: GuardApp) -> None:
    with Connection(shared.place) as connection:
        whole = request("/who", "GET", {"Host": "a"})
        connection.socket.sendall(whole[:1])
        time.sleep(0.3)
        connection.socket.sendall(whole[1:])
        told = json.loads(connection.read().body)
        assert 0.25 < told["now"] - told["arrived"] < 2


def test_a_peer_is_told_in_ipv6() -> None:
    with GuardApp("::1") as app, socket.create_connection(app.place, timeout=5) as client:
        client.sendall(request("/who", "GET", {"Host": "a", "Connection": "close"}))
        received = b"".join(iter(lambda: client.recv(4096), b""))
        told = json.loads(received.partition(b"\r\n\r\n")[2])
        assert told["peer"] == list(client.getsockname()[:2])
        assert told["remote"] == "::1"


def test_an_ipv4_client_of_an_ipv6_listener_is_told_as_such() -> None:
    with GuardApp("::") as app, socket.create_connection(("127.0.0.1", app.place.port), timeout=5) as client:
        client.sendall(request("/who", "GET", {"Host": "a", "Connection": "close"}))
        received = b"".join(iter(lambda: client.recv(4096), b""))
        told = json.loads(received.partition(b"\r\n\r\n")[2])
        assert told["peer"] == ["127.0.0.1", client.getsockname()[1]]
        assert told["remote"] == "127.0.0.1"


# The end


def test_who_comes_after_stop_accepting_waits_in_the_kernel(app: GuardApp) -> None:
    with Connection(app.place) as early:
        assert is_in_step(early)
        app.do("stop_accepting")
        with Connection(app.place, timeout=0.5) as late:
            late.send("/text")
            with pytest.raises(TimeoutError):
                late.read()
        assert is_in_step(early)
        assert app.connections() == {"idle": 1}


def test_stop_accepting_holds_after_the_process_was_full() -> None:
    with GuardApp(max_connections=2) as app:
        first, second, third = (Connection(app.place, timeout=0.5) for _ in range(3))
        assert is_in_step(first)
        assert is_in_step(second)
        eventually(lambda: app.counters()["paused_accepts"] > 0)
        app.do("stop_accepting")
        first.close()
        second.close()
        third.send("/text")
        with pytest.raises(TimeoutError):
            third.read()
        third.close()
        assert app.counters()["accepted"] == 2


def test_every_connection_ends_with_its_next_answer_when_told_to(app: GuardApp) -> None:
    with Connection(app.place) as connection, Connection(app.place) as parked:
        assert is_in_step(connection)
        park(app, parked, "a")
        app.do("close_after_answers")
        app.do("resume", name="a")
        for answer in (connection.ask("/text"), parked.read()):
            assert (answer.status, answer.is_last) == (200, True)
        assert connection.is_ended()
        assert parked.is_ended()
        with Connection(app.place) as late:
            assert late.ask("/text").is_last
            assert late.is_ended()


def test_only_idle_connections_are_closed(app: GuardApp, large: Path) -> None:
    with (
        Connection(app.place) as idle,
        Connection(app.place) as parked,
        Connection(app.place) as asking,
        Connection(app.place, receive_buffer=SMALL_BUFFER) as busy,
    ):
        assert is_in_step(idle)
        park(app, parked, "a")
        asking.socket.sendall(b"GET /text HTTP/1.1\r\n")
        busy.send(target("file", path=large))
        busy.read_head()
        eventually(lambda: app.connections() == {"idle": 1, "parked": 1, "head": 1, "busy": 1})
        assert app.do("close_idle", seconds=60) == 0
        assert app.do("close_idle", seconds=0) == 1
        assert idle.is_ended()
        assert app.connections() == {"parked": 1, "head": 1, "busy": 1}
        asking.socket.sendall(b"Host: a\r\n\r\n")
        assert asking.read().body == b"hello"
        app.do("resume", name="a")
        assert parked.read().body == b"a 2"
        assert len(busy.read_exactly(LARGE)) == LARGE


def test_every_state_is_counted(app: GuardApp) -> None:
    with (
        Connection(app.place) as fresh,
        Connection(app.place) as head,
        Connection(app.place) as body,
        Connection(app.place, receive_buffer=SMALL_BUFFER) as busy,
        Connection(app.place) as parked,
        Connection(app.place) as idle,
        Connection(app.place) as linger,
    ):
        head.socket.sendall(b"G")
        body.socket.sendall(b"POST /text HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx")
        busy.send(target("memory", length=LARGE))
        parked.send(target("park", name="a"))
        assert is_in_step(idle)
        linger.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert linger.read().status == 400
        states = ("fresh", "head", "body", "busy", "parked", "idle", "linger")
        eventually(lambda: app.connections() == dict.fromkeys(states, 1))
        assert fresh.unread() == b""


def queues(port: int) -> list[tuple[int, int]]:
    """Return what the kernel holds for each client of a port, to be sent and to be read."""
    # proc(5), /proc/net/tcp: local address, remote address, state, then send and receive queue.
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    own = [row[4].split(":") for row in rows if row[1].endswith(f":{port:04X}") and row[3] != "0A"]
    return [(int(unsent, 16), int(unread, 16)) for unsent, unread in own]


def queued_bytes(port: int) -> int:
    """Return what the kernel holds for clients of a port, whether or not a process still knows of them."""
    return sum(unsent for unsent, _ in queues(port))


def unread_bytes(port: int) -> int:
    """Return what clients of a port have sent that no process has read."""
    return sum(unread for _, unread in queues(port))


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_share(pid: int, seconds: float) -> float:
    """Return the share of a CPU that a process takes for so long."""

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(seconds)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds
