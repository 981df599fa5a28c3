"""Sending a filled object: a file of the memory tier by sendfile, beside a copy out of a shared segment.

    python -m tests.perf.bench_bodies

A worker opens a body for the first request, and keeps it for those that follow. Copying from a segment is
what an arena would need, since nobody else keeps its bytes from being recycled while they wait in a socket.
The receiving end is drained meanwhile. Then what a fill costs the store, and what the index costs a reader.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import threading
from collections.abc import Callable

from edge_server.cas.bodies import BodyFolder
from edge_server.cas.store import Store
from edge_server.cas.writer import Writer
from edge_server.shm.fill_index import NO_DIGEST, FillIndex, FillRecord, key_id
from edge_server.shm.segment import SHM_DIR, Segment, segment_name
from tests.perf._timing import Loop, compare

SIZES = (4 << 10, 64 << 10, 1 << 20, 8 << 20)
BLANK = FillRecord(NO_DIGEST, 0, 0, 0, 1, 0, 1, 1, 1, 200, b"{}")


def main() -> None:
    folder = SHM_DIR / segment_name("bench-cas")
    index = FillIndex.create(segment_name("bench-cas-index"), 1024)
    try:
        store = Store(index, folder, 256 << 20, None, 0, lambda event, fields: None)
        store.adopt()
        for size in SIZES:
            bench(store, BodyFolder(folder, None), size)
        bench_index(index)
        bench_fill(store)
    finally:
        index.segment.unlink()
        shutil.rmtree(folder)


def bench(store: Store, bodies: BodyFolder, size: int) -> None:
    data = os.urandom(size)
    ours, theirs = socket.socketpair()
    threading.Thread(target=drain, args=(theirs,), daemon=True).start()
    record = store.commit(written(store, data), key_id("a"), BLANK, "a")
    segment = Segment.create(segment_name("bench-arena"), size)
    segment.buf[:size] = data
    kept = bodies.open(record)

    def opened() -> None:
        fd = bodies.open(record)
        send(ours, fd, size)
        os.close(fd)

    def copied() -> None:
        ours.sendall(bytes(segment.buf[:size]))

    compare(
        f"a body of {size >> 10} KiB",
        {
            "copy from a segment": looped(copied),
            "open, fstat, sendfile": looped(opened),
            "sendfile, kept open": looped(lambda: send(ours, kept, size)),
        },
    )
    os.close(kept)
    segment.unlink()
    ours.close()


def bench_fill(store: Store) -> None:
    numbers = itertools.count()

    def fill() -> None:
        number = next(numbers)
        writer = store.begin(16 << 10)
        writer.write(number.to_bytes(8, "big") * (2 << 10))
        store.commit(writer, key_id(f"k{number % 500}"), BLANK, f"k{number % 500}")

    compare("a fill of 16 KiB: begin, write, hash, commit", {"fill": looped(fill)})


def bench_index(index: FillIndex) -> None:
    place = index.locate(key_id("a"))
    assert place is not None
    wanted, missing = key_id("a"), key_id("none")
    compare(
        "the fill index",
        {
            "find": looped(lambda: index.find(wanted)),
            "find what is not there": looped(lambda: index.find(missing)),
            "compare a sequence": looped(lambda: index.sequences[place[0]] == place[1]),
        },
    )


def looped(work: Callable[[], object]) -> Loop:
    def loop(count: int) -> None:
        for _ in range(count):
            work()

    return loop


def written(store: Store, data: bytes) -> Writer:
    writer = store.begin(len(data))
    writer.write(data)
    return writer


def send(to: socket.socket, fd: int, size: int) -> None:
    offset = 0
    while offset < size:
        offset += os.sendfile(to.fileno(), fd, offset, size - offset)


def drain(end: socket.socket) -> None:
    buffer = bytearray(1 << 20)
    while end.recv_into(buffer):
        pass


if __name__ == "__main__":
    main()
