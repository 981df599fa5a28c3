"""Repeated answers: the same bytes are answered the same, and the application is not asked."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.guard_app import GuardApp, pattern
from tests.servers import eventually
from tests.wire import Answer, Connection, request

SIZE = 3 << 20
CONTENT = pattern(SIZE)
SMALL_BUFFER = 4096


@pytest.fixture
def app() -> Iterator[GuardApp]:
    with GuardApp() as running:
        running.do("repeat")
        yield running


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(CONTENT)
    return path


def target(answer: str, /, **query: object) -> str:
    return f"/{answer}?{urlencode({'remember': 0, **query})}"


def lasting(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return an answer without what is made anew for each."""
    fields = [field for field in answer.fields if field[0] not in ("Date", "X-Corr-ID")]
    return answer.status, sorted(fields), answer.body


def counts(app: GuardApp) -> tuple[int, int]:
    """Return how many answers of the first kind were repeated since the last call, and their bytes."""
    kinds, _ = app.do("repeated")
    within, _, sent = kinds[0]
    return sum(within), sent


@pytest.mark.parametrize("length", [0, 1, 1000, 16384, 16385, 70_000, 300_000, SIZE])
@pytest.mark.parametrize("start", [0, 7])
def test_a_file_is_sent_again_as_it_was(app: GuardApp, large: Path, start: int, length: int) -> None:
    length = min(length, SIZE - start)
    with Connection(app.place) as connection:
        first = connection.ask(target("file", path=large, start=start, length=length))
        for _ in range(4):
            again = connection.ask(target("file", path=large, start=start, length=length))
            assert lasting(again) == lasting(first)
        assert first.body == CONTENT[start : start + length]
    assert app.do("asked") == 1
    assert counts(app) == (4, 4 * length)


@pytest.mark.parametrize(
    "answer", ["text?text=hello", "memory?length=50000", "fields?value=x", "head?status=304 No"]
)
def test_other_answers_are_given_again_whole(app: GuardApp, answer: str) -> None:
    asked = f"/{answer.replace(' ', '%20')}&remember=1"
    with Connection(app.place) as connection:
        first = connection.ask(asked)
        assert [lasting(connection.ask(asked)) for _ in range(3)] == 3 * [lasting(first)]
    assert app.do("asked") == 1


def test_each_repeated_answer_has_a_date_and_an_id_of_its_own(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        connection.ask(target("text"))
        answers = [connection.ask(target("text")) for _ in range(50)]
    assert len({answer["X-Corr-ID"] for answer in answers}) == 50
    assert all(answer["Date"].endswith(" GMT") for answer in answers)


@pytest.mark.parametrize(
    ("method", "query", "fields"),
    [
        ("GET", {"remember": 2}, {}),
        ("HEAD", {}, {}),
        ("GET", {}, {"Connection": "close"}),
        ("GET", {"text": "x" * 8000 + "y" * 8000}, {"Content-Length": "0", "X-Pad": "1" * 9000}),
    ],
    ids=["of no kind", "HEAD", "the last one", "too large a request"],
)
def test_what_may_not_be_repeated_is_asked_for_each_time(
    app: GuardApp, method: str, query: Mapping[str, object], fields: Mapping[str, str]
) -> None:
    for _ in range(3):
        with Connection(app.place) as connection:
            connection.ask(target("text", **query), method, fields)
    assert counts(app) == (0, 0)


def test_a_request_with_content_is_never_repeated(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        for _ in range(3):
            answer = connection.ask(target("text"), "GET", {"Content-Length": "5"}, b"12345")
            assert answer.body == b"hello"
    assert app.do("asked") == 3


def test_a_head_that_is_the_beginning_of_another_is_not_confused(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        for text in ("a", "aa", "a" * 8, "a" * 9, "a" * 16, "b" + "a" * 8):
            for _ in range(2):
                assert connection.ask(target("text", text=text)).body == text.encode()
    assert app.do("asked") == 6


def test_pipelined_requests_are_repeated_in_order(app: GuardApp) -> None:
    texts = [str(k % 7) for k in range(200)]
    with Connection(app.place) as connection:
        for text in sorted(set(texts)):
            connection.ask(target("text", text=text))
        asked = app.do("asked")
        connection.socket.sendall(
            b"".join(request(target("text", text=text), "GET", {"Host": str(app.place)}) for text in texts)
        )
        assert [connection.read().body for _ in texts] == [text.encode() for text in texts]
    assert app.do("asked") == asked


def test_repeated_and_asked_answers_keep_their_order(app: GuardApp, large: Path) -> None:
    asked = [
        target("text"),
        f"/text?{urlencode({'text': 'new'})}",
        target("file", path=large),
        "/text?text=last",
    ]
    with Connection(app.place) as connection:
        for each in asked:
            connection.ask(each)
        connection.socket.sendall(
            b"".join(request(each, "GET", {"Host": str(app.place)}) for each in asked * 5)
        )
        for _ in range(5):
            bodies = [connection.read().body for _ in asked]
            assert bodies == [b"hello", b"new", CONTENT, b"last"]


def test_a_head_in_pieces_is_answered_too(app: GuardApp) -> None:
    data = request(target("text"), "GET", {"Host": str(app.place)})
    with Connection(app.place) as connection:
        connection.ask(target("text"))
        for cut in (1, 10, len(data) - 3, len(data) - 1):
            connection.socket.sendall(data[:cut])
            time.sleep(0.02)
            connection.socket.sendall(data[cut:])
            assert connection.read().body == b"hello"


def test_a_slow_reader_gets_all_of_a_repeated_answer(app: GuardApp, large: Path) -> None:
    with Connection(app.place) as other:
        other.ask(target("file", path=large))
        with Connection(app.place, receive_buffer=SMALL_BUFFER) as slow:
            for _ in range(2):
                slow.send(target("file", path=large))
                slow.send(target("text"))
                slow.read_head()
                begun = slow.read_exactly(100_000)
                assert other.ask(target("file", path=large)).body == CONTENT
                assert app.connections() == {"busy": 1, "idle": 1}
                assert begun + slow.read_exactly(SIZE - len(begun)) == CONTENT
                assert slow.read().body == b"hello"


def test_a_client_that_does_not_read_a_repeated_answer_is_reset(large: Path) -> None:
    with GuardApp(min_send_rate=100_000) as app:
        app.do("repeat")
        with Connection(app.place) as other:
            other.ask(target("file", path=large))
        with Connection(app.place, receive_buffer=SMALL_BUFFER) as connection:
            connection.send(target("file", path=large))
            eventually(lambda: app.connections() == {"busy": 1})
            eventually(lambda: app.connections() == {}, within=5)
        assert app.counters()["timed_out_send"] == 1
        assert counts(app) == (1, SIZE)


def test_a_client_that_leaves_inside_a_repeated_answer_disturbs_nobody(app: GuardApp, large: Path) -> None:
    with Connection(app.place) as other:
        other.ask(target("file", path=large))
        for _ in range(20):
            leaving = Connection(app.place, receive_buffer=SMALL_BUFFER)
            leaving.send(target("file", path=large))
            leaving.read_head()
            leaving.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            leaving.close()
        assert other.ask(target("file", path=large)).body == CONTENT
        eventually(lambda: app.connections() == {"idle": 1})


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x" * SIZE)


def test_a_changed_file_is_not_repeated(app: GuardApp, large: Path) -> None:
    with Connection(app.place) as connection:
        for length in (100, SIZE):
            for _ in range(3):
                assert connection.ask(target("file", path=large, length=length)).status == 200
        rewrite(large)
        for length in (100, SIZE):
            assert connection.ask(target("file", path=large, length=length)).status == 503


def test_what_was_made_from_a_changed_file_is_not_repeated(app: GuardApp, large: Path) -> None:
    asked = f"/text?{urlencode({'remember': 1, 'text': 'made', 'from': large})}"
    with Connection(app.place) as connection:
        for _ in range(3):
            assert connection.ask(asked).body == b"made"
        assert app.do("asked") == 1
        rewrite(large)
        connection.ask(asked)
        assert app.do("asked") == 2


def test_a_repeated_answer_under_way_is_never_mixed(app: GuardApp, large: Path) -> None:
    with Connection(app.place) as other, Connection(app.place, receive_buffer=SMALL_BUFFER) as slow:
        for _ in range(4):  # all of it is warm then
            other.ask(target("file", path=large))
        slow.send(target("file", path=large))
        slow.read_head()
        begun = slow.read_exactly(50_000)
        rewrite(large)
        assert begun + slow.read_exactly(SIZE - len(begun)) == CONTENT


def test_answers_go_with_their_file(app: GuardApp, large: Path) -> None:
    with Connection(app.place) as connection:
        connection.ask(target("file", path=large))
        connection.ask(target("file", path=large))
        assert app.do("asked") == 1
        app.do("close_files")
        assert not any(str(large) in os.readlink(fd) for fd in Path(f"/proc/{app.pid}/fd").iterdir())
        assert connection.ask(target("file", path=large)).body == CONTENT
        assert app.do("asked") == 2


def test_everything_is_forgotten_when_told_to(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        connection.ask(target("text"))
        app.do("forget_answers")
        connection.ask(target("text"))
        assert app.do("asked") == 2


def test_the_last_answer_of_a_drain_says_so_though_it_is_repeated(app: GuardApp, large: Path) -> None:
    with Connection(app.place) as first, Connection(app.place) as second:
        for connection in (first, second):
            connection.ask(target("text"))
            connection.ask(target("file", path=large))
        app.do("close_after_answers")
        assert first.ask(target("text")).is_last
        assert first.is_ended()
        answer = second.ask(target("file", path=large))
        assert (answer.body, answer.is_last) == (CONTENT, True)
        assert second.is_ended()


def test_samples_tell_who_asked_and_what_was_sent(app: GuardApp) -> None:
    app.do("repeat", sample_every=10)
    with Connection(app.place) as connection:
        connection.ask(target("text"))
        answers = [connection.ask(target("text")) for _ in range(40)]
        _, samples = app.do("repeated")
        peer = list(connection.socket.getsockname())
    assert [sample[2] for sample in samples] == [answer["X-Corr-ID"] for answer in answers[9::10]]
    for kind, address, _, etag, latency_s, sent in samples:
        assert (kind, address, etag, sent) == (0, peer, '"tag"', 5)
        assert 0 < latency_s < 1


def test_many_different_requests_take_bounded_memory(app: GuardApp) -> None:
    def resident() -> int:
        fields = Path(f"/proc/{app.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    pad = "p" * 7000
    before = resident()
    with Connection(app.place) as connection:
        for k in range(8000):  # 112 MB of heads and bodies
            connection.ask(target("text", text=f"{k}-{pad}"))
        assert resident() - before < 48 << 20
        assert connection.ask(target("text", text=f"7999-{pad}")).body.startswith(b"7999-")
    assert counts(app)[0] == 1


def test_an_answer_is_repeated_for_as_long_as_it_may_be(app: GuardApp) -> None:
    asked = f"{target('text')}&for=0.5"
    with Connection(app.place) as connection:
        for _ in range(3):
            connection.ask(asked)
        assert app.do("asked") == 1
        time.sleep(0.5)
        connection.ask(asked)
        assert app.do("asked") == 2


def test_one_client_that_pipelines_lets_others_have_their_turn(app: GuardApp) -> None:
    one = request(target("text"), "GET", {"Host": str(app.place)})
    with Connection(app.place) as greedy, Connection(app.place) as other:
        for connection in (greedy, other):
            connection.ask(target("text"))
        count = 5000
        greedy.socket.sendall(one * count)
        for _ in range(20):
            assert other.ask(target("text")).body == b"hello"
        for _ in range(count):
            assert greedy.read().body == b"hello"
        assert greedy.unread() == b""
    assert app.do("asked") < 20, "but for heads that arrived in two pieces"


def test_heads_that_meet_in_one_bucket_cost_nobody_a_walk(app: GuardApp) -> None:
    # Two words of eight bytes that leave the hash as it was, whatever the seed.
    words = (b"aaaaaaaaaaaaaaaa", b"aaaaaaa\xe1aaaaeaa\xe1")
    start = b"GET /text?remember=0&text=12345 HTTP/1.1\r\nHost: a\r\nX-Long: "
    start += b"." * (-len(start) % 8)
    with Connection(app.place) as connection:
        for number in range(4000):
            field = b"".join(words[number >> bit & 1] for bit in range(12))
            connection.socket.sendall(start + field + b"\r\n\r\n")
            assert connection.read().body == b"12345"
        began_s = time.monotonic()
        app.do("forget_answers")
        assert time.monotonic() - began_s < 0.5


def test_all_of_a_body_that_the_socket_takes_in_pieces_is_counted(app: GuardApp) -> None:
    with Connection(app.place) as connection:
        connection.ask(target("memory", length=60_000))
        before = app.counters()["bytes_out"]
        with Connection(app.place, receive_buffer=SMALL_BUFFER) as slow:
            for _ in range(8):
                slow.send(target("memory", length=60_000))
            for _ in range(8):
                assert len(slow.read().body) == 60_000
        assert app.counters()["bytes_out"] - before == 8 * 60_000
