"""Ranges of objects over `fill.max_object_bytes`, over the real command: few bytes never pull all of them."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_server.fill.blocks import BLOCK_BYTES, PROBE
from tests.live import Authority, Live, flags, https_origin, post
from tests.origins import ok
from tests.servers import Server, eventually
from tests.sparse import SIZE, SparseObject, sparse_object

MAX_BYTES = 8 << 20
# What a refused GET of the whole object leaves in the buffers of sockets before it is given up.
UNREAD = 12 << 20
LAST = (SIZE - SIZE % BLOCK_BYTES, SIZE)


@pytest.fixture
def large(tmp_path: Path) -> Iterator[SparseObject]:
    with sparse_object(tmp_path) as made:
        yield made


@pytest.fixture
def start(serve: Callable[..., Server], tmp_path: Path, large: SparseObject) -> Iterator[Callable[..., Live]]:
    """Start an instance whose origin has the object as ``/large``."""
    authority = Authority(tmp_path)
    with https_origin(authority) as origin:
        origin.streamed["/large"] = large.script

        def begin(**settings: object) -> Live:
            given = {"fill__max_object_bytes": MAX_BYTES, "retry__live_fill__max_retries": 0, **settings}
            return Live(serve(*flags(origin, authority, **given)), origin)

        yield begin


def block(number: int) -> tuple[int, int]:
    return number * BLOCK_BYTES, (number + 1) * BLOCK_BYTES


def fetched(large: SparseObject) -> set[tuple[int, int] | None]:
    """Return what the origin was asked for, without the probe and what was refused."""
    return set(large.ranges) - {PROBE, None}


def test_a_hundred_bytes_of_ten_gibibytes_cost_one_block(
    start: Callable[..., Live], large: SparseObject
) -> None:
    live = start()
    place = SIZE // 2 + 5
    first = live.get("large", Range=f"bytes={place}-{place + 99}")
    assert (first.status, first.body) == (206, large.bytes(place, place + 100))
    assert first["Content-Range"] == f"bytes {place}-{place + 99}/{SIZE}"
    assert (first["Cache-Status"], first["Content-Type"]) == ("svc-edge; fwd=miss; stored", "video/mp4")
    assert first.all("ETag") == []
    assert fetched(large) == {block(place // BLOCK_BYTES)}
    assert large.sent < UNREAD
    asked = len(large.ranges)
    for _ in range(8):  # of both workers
        again = live.get("large", Range=f"bytes={place}-{place + 99}")
        assert (again.status, again.body, again["Cache-Status"]) == (206, first.body, "svc-edge; hit")
    assert len(large.ranges) == asked


@pytest.mark.parametrize(
    ("wanted", "start_at", "stop_at", "blocks"),
    [
        ("0-0", 0, 1, {block(0)}),
        (f"{BLOCK_BYTES - 50}-{BLOCK_BYTES + 49}", BLOCK_BYTES - 50, BLOCK_BYTES + 50, {block(0), block(1)}),
        (f"{BLOCK_BYTES}-{6 * BLOCK_BYTES}", BLOCK_BYTES, 6 * BLOCK_BYTES + 1, set(map(block, range(1, 7)))),
        ("-100", SIZE - 100, SIZE, {LAST}),
        (f"{SIZE - 7}-", SIZE - 7, SIZE, {LAST}),
    ],
    ids=["the first byte", "across a border", "several blocks", "a suffix", "to the end"],
)
def test_a_range_is_put_together_of_the_blocks_it_needs(
    start: Callable[..., Live],
    large: SparseObject,
    wanted: str,
    start_at: int,
    stop_at: int,
    blocks: set[tuple[int, int]],
) -> None:
    live = start()
    for _ in range(2):
        answer = live.get("large", Range=f"bytes={wanted}")
        assert (answer.status, answer.body) == (206, large.bytes(start_at, stop_at))
        assert answer["Content-Range"] == f"bytes {start_at}-{stop_at - 1}/{SIZE}"
    assert fetched(large) == blocks


def test_many_clients_at_once_fetch_each_block_once(start: Callable[..., Live], large: SparseObject) -> None:
    live = start()
    spans = [(number * 100_000, number * 100_000 + 150_000) for number in range(30)]
    with ThreadPoolExecutor(15) as pool:
        answers = list(
            pool.map(lambda span: live.get("large", Range=f"bytes={span[0]}-{span[1] - 1}"), spans)
        )
    for span, answer in zip(spans, answers, strict=True):
        assert (answer.status, answer.body) == (206, large.bytes(*span))
    assert sorted(large.ranges.count(block(number)) for number in range(3)) == [1, 1, 1]
    assert fetched(large) == set(map(block, range(3)))


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"If_None_Match": "*"}, 304), ({"If_Match": '"v1"'}, 412), ({"If_Match": "*"}, 206)],
    ids=["none of any", "of a tag", "of any"],
)
def test_preconditions_are_held_against_no_tag(
    start: Callable[..., Live], fields: dict[str, str], status: int
) -> None:
    answer = start().get("large", Range="bytes=0-9", **fields)
    assert (answer.status, answer.all("ETag")) == (status, [])


def test_several_ranges_are_put_together_of_their_blocks(
    start: Callable[..., Live], large: SparseObject
) -> None:
    live = start(http__enable_multi_range=True)
    answer = live.get("large", Range="bytes=10-19,-5")
    assert answer.status == 206
    assert large.bytes(10, 20) in answer.body
    assert large.bytes(SIZE - 5, SIZE) in answer.body
    assert fetched(large) == {block(0), LAST}


@pytest.mark.parametrize(
    ("method", "fields", "status", "reason"),
    [
        ("GET", {}, 502, "integrity"),
        ("HEAD", {"Range": "bytes=0-9"}, 502, None),
        ("GET", {"Range": "bytes=0-"}, 502, "integrity"),
        ("GET", {"Range": f"bytes=0-{MAX_BYTES}"}, 502, "integrity"),
        ("GET", {"Range": "bytes=0-9", "If_Range": '"v1"'}, 502, "integrity"),
        ("GET", {"Range": "bytes=0-9", "Authorization": "Basic eDp5"}, 502, "integrity"),
        ("GET", {"Range": f"bytes={SIZE}-"}, 416, "invalid_range"),
        ("GET", {"Range": "bytes=9-1"}, 416, "invalid_range"),
    ],
    ids=["all", "head", "all as a range", "too much", "if-range", "credentials", "beyond the end", "invalid"],
)
def test_what_blocks_cannot_answer_is_refused(
    start: Callable[..., Live],
    large: SparseObject,
    method: str,
    fields: dict[str, str],
    status: int,
    reason: str | None,
) -> None:
    live = start()
    answer = live.get("large", method, **fields)
    assert answer.status == status
    assert reason in (None, answer["X-Reason"])
    assert fetched(large) <= {block(0)}
    assert large.sent < UNREAD
    if status == 416:
        assert answer["Content-Range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    ("etag", "fields"),
    [
        (None, []),
        ('W/"v1"', []),
        ('"v1"', ["Vary: Accept-Language"]),
        ('"v1"', ["Cache-Control: no-store"]),
        ('"v1"', ["Cache-Control: private"]),
    ],
    ids=["no tag", "a weak tag", "it varies", "no-store", "private"],
)
def test_what_may_not_be_put_together_stays_refused(
    start: Callable[..., Live], large: SparseObject, etag: str | None, fields: list[str]
) -> None:
    live = start()
    large.etag, large.fields = etag, fields
    answer = live.get("large", Range="bytes=0-9")
    assert (answer.status, answer["X-Reason"]) == (502, "integrity")
    assert fetched(large) == set()


def test_another_version_drops_all_blocks_of_the_one_before(
    start: Callable[..., Live], large: SparseObject
) -> None:
    live = start()
    old = [large.bytes(0, 10), large.bytes(SIZE - 10, SIZE)]
    assert [live.get("large", Range=wanted).body for wanted in ("bytes=0-9", "bytes=-10")] == old
    large.renew(2)
    place = SIZE // 2
    # A block that is not here yet is asked for with If-Range, and tells.
    assert live.get("large", Range=f"bytes={place}-{place + 9}").body == large.bytes(place, place + 10)
    for wanted, span in (("bytes=0-9", (0, 10)), ("bytes=-10", (SIZE - 10, SIZE))):
        answer = live.get("large", Range=wanted)
        assert (answer.status, answer.body) == (206, large.bytes(*span))
        assert answer.body not in old
    assert large.ranges.count(block(0)) == 2


def test_a_stale_object_is_asked_for_one_byte_and_keeps_its_blocks(
    start: Callable[..., Live], large: SparseObject
) -> None:
    live = start()
    large.fields = ["Cache-Control: max-age=0"]
    for _ in range(3):
        assert live.get("large", Range="bytes=0-9").body == large.bytes(0, 10)
    assert large.ranges.count(PROBE) == 3
    assert large.ranges.count(block(0)) == 1
    large.renew(2)
    assert live.get("large", Range="bytes=0-9").body == large.bytes(0, 10)
    assert large.ranges.count(block(0)) == 2


def test_an_object_that_has_become_small_or_gone_is_fetched_whole_again(
    start: Callable[..., Live], large: SparseObject
) -> None:
    live = start()
    large.fields = ["Cache-Control: max-age=0"]
    assert live.get("large", Range="bytes=0-9").status == 206
    del live.origin.streamed["/large"]
    live.origin.answers["/large"] = ok(b"small enough", "Cache-Control: max-age=0")
    # A request that comes while the fetch before it is being told to who asked for it joins that one.
    eventually(lambda: live.get("large", Range="bytes=0-4").body == b"small")
    small = live.get("large", Range="bytes=0-4")
    assert (small.status, small.body) == (206, b"small")
    assert small["ETag"].startswith('"b3:')
    del live.origin.answers["/large"]
    assert live.get("large", Range="bytes=0-4", Cache_Control="no-cache").status == 404


def test_blocks_outlive_the_instance_on_a_disk(
    start: Callable[..., Live], large: SparseObject, tmp_path: Path
) -> None:
    settings = {"cas__path": tmp_path / "cas", "cas__memory_bytes": "2MiB"}  # which is too little for a block
    first = start(**settings)
    assert first.get("large", Range="bytes=0-9").status == 206
    assert first.server.stop() == 0
    second = start(**settings)
    answer = second.get("large", Range="bytes=5-9")
    assert (answer.status, answer.body) == (206, large.bytes(5, 10))
    assert large.ranges.count(block(0)) == large.ranges.count(PROBE) == 1


def test_a_sidecar_that_is_killed_between_two_blocks_leaves_what_is_right_and_a_successor_that_goes_on(
    start: Callable[..., Live], large: SparseObject
) -> None:
    live = start(ingress__timeout_secs=20)
    assert live.get("large", Range="bytes=0-9").status == 206
    second, release = block(1), threading.Event()

    def script(sock: socket.socket, head: bytes) -> None:
        if b"Range: bytes=%d-" % second[0] in head and not release.is_set():
            large.ranges.append(second)
            sock.sendall(b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\n" % BLOCK_BYTES)
            sock.sendall(b"ETag: %s\r\n" % (large.etag or "").encode())
            sock.sendall(b"Content-Range: bytes %d-%d/%d\r\n\r\n" % (second[0], second[1] - 1, SIZE))
            sock.sendall(large.bytes(second[0], second[0] + BLOCK_BYTES // 2))
            release.wait(20)
            return
        large.script(sock, head)

    live.origin.streamed["/large"] = script
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(live.get, "large", Range=f"bytes=0-{3 * BLOCK_BYTES - 1}")
        eventually(lambda: second in large.ranges and block(2) in large.ranges)
        os.kill(live.server.sidecar(), signal.SIGKILL)
        assert live.get("large", Range="bytes=5-9").body == large.bytes(5, 10)
        release.set()
        answer = asked.result()
    assert (answer.status, answer.body) == (206, large.bytes(0, 3 * BLOCK_BYTES))
    assert large.ranges.count(block(0)) == 1, "what stood at the kill stands after it"
    assert large.ranges.count(second) == 2
    again = live.get("large", Range=f"bytes={second[0]}-{second[1] - 1}")
    assert (again["Cache-Status"], again.body) == ("svc-edge; hit", large.bytes(*second))


def test_a_purge_removes_the_blocks(start: Callable[..., Live], large: SparseObject) -> None:
    live = start()
    assert live.get("large", Range="bytes=0-9").status == 206
    assert post(live.server, "/api/purge?path=large") == b'{"purged": 2}\n'
    eventually(lambda: live.get("large", Range="bytes=0-9").body == large.bytes(0, 10))
    eventually(lambda: large.ranges.count(block(0)) == 2)
