"""Who is stuck, and who is only not let run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from edge_server.supervisor import starvation
from edge_server.supervisor.slots import Process
from edge_server.supervisor.starvation import RAN_NS, WAITED_S, Starvation, is_runnable, ran_ns, unpin

CPUS = sorted(os.sched_getaffinity(0))


@pytest.fixture
def spinning() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def sleeping() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


def eventually(condition: object) -> None:
    until_s = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until_s
        time.sleep(0.01)


def process(pid: int) -> Process:
    return Process(0, "a", 0, pid, 0.0)


def test_one_that_spins_is_let_run(spinning: int) -> None:
    starved = Starvation()
    starved.look([process(spinning)], 0.0)
    before_ns = ran_ns(spinning)
    eventually(lambda: ran_ns(spinning) - before_ns > 2 * RAN_NS)
    assert is_runnable(spinning)
    assert not starved.holds(process(spinning), WAITED_S)


def test_one_that_waits_or_is_stopped_wants_no_cpu(sleeping: int, spinning: int) -> None:
    eventually(lambda: not is_runnable(sleeping))
    os.kill(spinning, signal.SIGSTOP)
    eventually(lambda: not is_runnable(spinning))
    starved = Starvation()
    for now_s in (0.0, WAITED_S):
        starved.look([process(sleeping), process(spinning)], now_s)
    assert not starved.holds(process(sleeping), WAITED_S)
    assert not starved.holds(process(spinning), WAITED_S)


def test_one_that_is_not_let_run_is_no_longer_pinned(spinning: int, monkeypatch: pytest.MonkeyPatch) -> None:
    os.sched_setaffinity(spinning, {CPUS[0]})
    eventually(lambda: is_runnable(spinning))
    monkeypatch.setattr(starvation, "ran_ns", lambda pid: 7)
    starved = Starvation()
    starved.look([process(spinning)], 0.0)
    starved.look([process(spinning)], WAITED_S - 0.01)
    assert os.sched_getaffinity(spinning) == {CPUS[0]}
    starved.look([process(spinning)], WAITED_S)
    assert starved.holds(process(spinning), WAITED_S)
    assert sorted(os.sched_getaffinity(spinning)) == CPUS


def test_one_that_has_beaten_again_is_not_suspicious_any_more(
    spinning: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starvation, "ran_ns", lambda pid: 7)
    starved = Starvation()
    starved.look([process(spinning)], 0.0)
    starved.look([], 1.0)
    assert not starved.holds(process(spinning), 2.0)


def test_nothing_is_known_of_a_process_that_is_gone() -> None:
    gone = 2**22 + 1  # above pid_max
    assert (is_runnable(gone), ran_ns(gone), unpin(gone, CPUS)) == (False, 0, False)
