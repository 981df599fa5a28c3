from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from edge_server.errors import PackUnreadable
from edge_server.sidecar import hashing
from edge_server.sidecar.hashing import Hashing


def eventually(condition: Callable[[], bool], within: float = 5) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Entries:
    """A catalog of entries that wait for their digest."""

    def __init__(self, answers: dict[int, Any]) -> None:
        self.answers = answers
        self.hashed: list[int] = []

    def pending_digests(self) -> list[int]:
        return list(self.answers)

    def entry(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(path=f"entry-{index}")

    def hash_entry(self, index: int, stop: Any) -> bytes | None:
        self.hashed.append(index)
        answer = self.answers[index]
        return answer(stop) if callable(answer) else answer


def test_every_missing_digest_is_computed() -> None:
    entries = Entries({3: b"3" * 32, 5: b"5" * 32})
    work = Hashing(entries)  # type: ignore[arg-type]
    assert work.pending is None
    work.start()
    eventually(lambda: work.pending == 0)
    assert entries.hashed == [3, 5]


def test_a_sandbox_that_forbids_the_priority_stops_no_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*args: object) -> None:
        raise PermissionError("not in this sandbox")

    monkeypatch.setattr("os.setpriority", forbid)
    work = Hashing(Entries({1: b"1" * 32}))  # type: ignore[arg-type]
    work.start()
    eventually(lambda: work.pending == 0)


def test_an_entry_that_cannot_be_read_is_logged_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[dict[str, Any]] = []
    monkeypatch.setattr(
        hashing, "log", lambda event, level, **fields: logged.append({"event": event, **fields})
    )

    def unreadable(stop: Any) -> bytes:
        raise PackUnreadable("it is gone", "/secret/place")

    entries = Entries({1: unreadable, 2: b"2" * 32})
    work = Hashing(entries)  # type: ignore[arg-type]
    work.start()
    eventually(lambda: work.pending == 0)
    assert logged == [
        {"event": "digest_failed", "path": "entry-1", "reason": "pack_io", "detail": "it is gone"}
    ]


def test_it_stops_within_an_entry() -> None:
    entries = Entries({1: lambda stop: stop.wait(5) and None, 2: b"2" * 32})
    work = Hashing(entries)  # type: ignore[arg-type]
    work.start()
    eventually(lambda: entries.hashed == [1])
    work.stop()
    work._thread.join(5)
    assert not work._thread.is_alive()
    assert entries.hashed == [1]


def test_what_somebody_waits_for_is_hashed_at_once_and_told() -> None:
    release = threading.Event()
    entries = Entries({1: lambda stop: release.wait(5) and b"1" * 32, 2: b"2" * 32})
    work = Hashing(entries)  # type: ignore[arg-type]
    told: list[tuple[int, bool]] = []
    work.start()
    eventually(lambda: entries.hashed == [1])  # the background is at the first one, for long
    work.want(2, lambda is_hashed: told.append((2, is_hashed)))
    eventually(lambda: told == [(2, True)])
    work.want(1, lambda is_hashed: told.append((1, is_hashed)))
    assert entries.hashed == [1, 2]  # nobody begins what is in hand
    release.set()
    eventually(lambda: told == [(2, True), (1, True)])


def test_who_waits_for_what_cannot_be_read_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "log", lambda *_, **__: None)

    def unreadable(stop: Any) -> bytes:
        raise PackUnreadable("it is gone", "/secret/place")

    work = Hashing(Entries({1: unreadable}))  # type: ignore[arg-type]
    told: list[bool] = []
    for _ in range(3):
        work.want(1, told.append)
    eventually(lambda: told == [False] * 3)
