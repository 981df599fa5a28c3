from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_server.observe import log_sink
from edge_server.observe.log_sink import CAPACITY, WHOLE_BYTES, LogSink


def tell_dropped(lines: int) -> bytes:
    return b"dropped %d\n" % lines


def drain(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    read = b""
    while True:
        try:
            block = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return read
        if not block:
            return read
        read += block


@pytest.fixture(params=["pipe", "polled pipe", "socket"])
def ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A reading and a writing end; the writer of each kind must never wait."""
    if request.param == "socket":
        left, right = socket.socketpair()
        yield left.fileno(), right.fileno()
        left.close()
        right.close()
        return
    if request.param == "polled pipe":
        monkeypatch.setattr(log_sink.stat, "S_ISFIFO", lambda mode: False)
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_lines_arrive_whole_and_in_order(ends: tuple[int, int]) -> None:
    reader, writer = ends
    sink = LogSink(writer, tell_dropped)
    lines = [b"line %d\n" % number for number in range(CAPACITY)]
    for line in lines:
        sink.append(line)
    sink.flush()
    assert drain(reader) == b"".join(lines)


def test_a_reader_that_stopped_never_stops_the_writer(ends: tuple[int, int]) -> None:
    reader, writer = ends
    sink = LogSink(writer, tell_dropped)
    line = b"x" * 999 + b"\n"
    count = 4000
    for _ in range(count):
        sink.append(line)
        sink.flush()
    received = b""
    while block := drain(reader):
        received += block
        sink.flush()
    lines = received.splitlines(keepends=True)
    (notice,) = [each for each in lines if each != line]
    dropped = int(notice.removeprefix(b"dropped "))
    assert dropped > 0
    assert len(lines) - 1 + dropped == count


def test_the_shared_descriptor_keeps_its_flags() -> None:
    reader, writer = os.pipe()
    before = fcntl.fcntl(writer, fcntl.F_GETFL)
    sink = LogSink(writer, tell_dropped)
    for _ in range(CAPACITY):
        sink.append(b"y" * 500 + b"\n")
    sink.flush()
    assert fcntl.fcntl(writer, fcntl.F_GETFL) == before
    os.close(reader)
    os.close(writer)


def test_a_write_is_whole_lines_that_a_pipe_takes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(
        log_sink, "bind_put", lambda descriptor: (lambda data: written.append(data) or len(data), None)
    )
    sink = LogSink(1, tell_dropped)
    for number in range(300):
        sink.append(b"%d:" % number + b"z" * (number * 13 % 1500) + b"\n")
    sink.flush()
    assert len(written) > 10
    assert all(len(data) <= WHOLE_BYTES and data.endswith(b"\n") for data in written)


def test_lines_of_two_processes_never_mix(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    children = []
    for letter in (b"a", b"b"):
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            sink = LogSink(writer, tell_dropped)
            for number in range(400):
                sink.append(letter * (200 + number) + b"\n")
                sink.flush()
            while sink._lines:
                sink.flush()
            os._exit(0)
        children.append(pid)
    os.close(writer)
    received = b""
    while block := os.read(reader, 1 << 16):
        received += block
    os.close(reader)
    for pid in children:
        os.waitpid(pid, 0)
    lines = received.splitlines()
    assert len(lines) == 800
    assert all(len(set(line)) == 1 for line in lines)


def test_a_reader_that_went_away_costs_lines_and_nothing_else() -> None:
    reader, writer = os.pipe()
    sink = LogSink(writer, tell_dropped)
    os.close(reader)
    for _ in range(CAPACITY * 2):
        sink.append(b"lost\n")
        sink.flush()
    os.close(writer)


def test_a_closed_descriptor_costs_lines_and_nothing_else() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    sink = LogSink(writer, tell_dropped)
    sink.append(b"lost\n")
    sink.flush()


def test_a_file_gets_every_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    sink = LogSink(descriptor, tell_dropped)
    for number in range(3 * CAPACITY):
        sink.append(b"%d\n" % number)
    sink.flush()
    os.close(descriptor)
    assert path.read_bytes() == b"".join(b"%d\n" % number for number in range(3 * CAPACITY))


def test_a_flush_within_a_flush_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []

    def put(data: bytes) -> int:
        sink.append(b"from a signal handler\n") if len(written) < 1 else None
        sink.flush()
        written.append(data)
        return len(data)

    monkeypatch.setattr(log_sink, "bind_put", lambda descriptor: (put, None))
    sink = LogSink(1, tell_dropped)
    sink.append(b"first\n")
    sink.flush()
    assert written == [b"first\n", b"from a signal handler\n"]


def test_a_line_that_a_full_disk_has_torn_is_ended_before_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = bytearray()
    room = 7

    def put(data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[:room]
        taken.extend(part)
        room -= len(part)
        return len(part)

    monkeypatch.setattr(log_sink, "bind_put", lambda descriptor: (put, None))
    sink = LogSink(0, tell_dropped)
    for line in (b"first line\n", b"second\n"):
        sink.append(line)
        sink.flush()
        sink.flush()
    room = 100
    sink.append(b"third\n")
    sink.flush()
    assert bytes(taken) == b"first l\nthird\ndropped 2\n"


def test_eight_writers_that_storm_one_pipe_never_mix_their_lines() -> None:
    reader, writer = os.pipe()
    lines_each, sizes = 300, (40, 700, WHOLE_BYTES - 1)
    pids = []
    for number in range(8):
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            sink = LogSink(writer, tell_dropped)
            for count in range(lines_each):
                head = b"%d %d " % (number, count)
                sink.append(head.ljust(sizes[count % 3], b"abcdefgh"[number : number + 1]) + b"\n")
                sink.flush()
                while sink._lines:
                    select.select([], [writer], [], 5)
                    sink.flush()
            os._exit(0)
        pids.append(pid)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        lines = pipe.read().splitlines()
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    told: dict[int, list[int]] = {number: [] for number in range(8)}
    for line in lines:
        number, count, filling = re.fullmatch(rb"(\d) (\d+) ([a-h]*)", line).groups()  # type: ignore[union-attr]
        told[int(number)].append(int(count))
        assert set(filling) <= set(b"abcdefgh"[int(number) : int(number) + 1])
        assert len(line) == sizes[int(count) % 3]
    assert all(counts == list(range(lines_each)) for counts in told.values())


def test_a_closed_sink_has_nothing_open(ends: tuple[int, int]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        sink = LogSink(ends[1], tell_dropped)
        sink.append(b"line\n")
        sink.flush()
        sink.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert drain(ends[0]) == b"line\n" * 3
