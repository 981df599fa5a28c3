"""What a fault explains, who may be signalled, and that a balloon holds what it says and gives it back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from edge_server.config.addresses import Address
from edge_server.drill.balloon import Balloon
from edge_server.drill.faults import Outcome, why_not
from edge_server.drill.instance import Grip, supervisor_of
from edge_server.drill.journal import Loss
from edge_server.drill.watch import Look, is_ready_between, steady_after
from edge_server.errors import ResourceError

KILLED_S = 100.0
KILL = Outcome(KILLED_S, KILLED_S, victim="victim", killed_s=KILLED_S)


def lost(began_s: float, ended_s: float, process: str = "victim", *, is_proxied: bool = False) -> Loss:
    return Loss(began_s, ended_s, process, is_proxied, "reset")


@pytest.mark.parametrize(
    ("loss", "is_explained"),
    [
        pytest.param(lost(99.9, 100.1), True, id="in-flight-on-the-victim"),
        pytest.param(lost(100.01, 100.02), True, id="sent-to-the-victim-before-its-end-was-seen"),
        pytest.param(lost(99.9, 100.1, "other"), False, id="on-another-worker"),
        pytest.param(lost(98.0, 99.0), False, id="on-the-victim-long-before"),
        pytest.param(lost(99.9, 100.1, ""), True, id="first-on-its-connection-across-the-kill"),
        pytest.param(lost(100.2, 100.3, ""), False, id="first-on-its-connection-afterwards"),
        pytest.param(lost(99.9, 100.1, is_proxied=True), False, id="behind-a-proxy-that-was-not-there"),
    ],
)
def test_a_kill_explains_what_was_on_the_victim_and_nothing_else(loss: Loss, is_explained: bool) -> None:
    assert KILL.explains(loss) is is_explained


def test_a_killed_sidecar_and_a_balloon_explain_no_loss() -> None:
    assert not Outcome(KILLED_S, KILLED_S, has_victim=True).explains(lost(99.9, 100.1, ""))


def test_the_proxy_explains_what_went_through_it() -> None:
    latency = Outcome(99.0, 101.0, is_proxied=True)
    assert latency.explains(lost(99.9, 100.1, is_proxied=True))
    assert not latency.explains(lost(99.9, 100.1))


def test_a_worker_is_not_stopped_where_nobody_would_notice() -> None:
    assert "heartbeat_timeout" in why_not("stop-worker", None)
    assert why_not("stop-worker", 5.0) == why_not("kill-worker", None) == ""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_a_child_of_the_supervisor_can_be_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    async def run() -> float | None:
        grip = Grip(sleeper.pid, os.getpid())
        grip.send(signal.SIGKILL)
        ended_s = await grip.ended(10)
        grip.close()
        return ended_s

    assert asyncio.run(run()) is not None
    assert sleeper.wait() == -signal.SIGKILL


def test_nobody_elses_process_is_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    with pytest.raises(ResourceError, match="not a child of the supervisor 1"):
        Grip(sleeper.pid, 1)
    assert sleeper.poll() is None


def test_a_process_that_is_gone_is_told(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()
    with pytest.raises(ResourceError, match="gone"):
        Grip(sleeper.pid, os.getpid())


def test_processes_whose_parent_does_not_listen_there_are_no_instance(
    sleeper: subprocess.Popen[bytes],
) -> None:
    status = {"workers": [{"pid": sleeper.pid}], "sidecars": []}
    with pytest.raises(ResourceError, match="same machine"):
        supervisor_of(Address("127.0.0.1", 1), status)
    with pytest.raises(ResourceError, match="same machine"):
        supervisor_of(Address("127.0.0.1", 1), {"workers": [], "sidecars": []})


def test_a_balloon_holds_its_size_and_gives_it_back() -> None:
    size = 24 << 20

    async def run() -> tuple[int, int]:
        balloon = Balloon(size)
        await balloon.inflate()
        held = balloon.resident_bytes()
        await balloon.burst()
        return held, balloon.resident_bytes()

    held, left = asyncio.run(run())
    assert held >= size
    assert left == 0


def test_a_balloon_ends_with_whoever_started_it() -> None:
    command = [sys.executable, "-m", "edge_server.drill.balloon", str(1 << 20)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"full\n"
        child.stdin.close()
        assert child.wait(10) == 0


def test_a_balloon_that_the_machine_could_burst_at_is_refused() -> None:
    with pytest.raises(ResourceError, match="more than half"):
        asyncio.run(Balloon(psutil.virtual_memory().total).inflate())


LOOKS = [Look(second, second + 0.1, admin, assets) for second, admin, assets in [
    (10.0, True, True), (11.0, False, True), (12.0, True, True), (13.0, True, False), (14.0, True, True),
    (15.0, True, True),
]]  # fmt: skip


@pytest.mark.parametrize(
    ("cleared_s", "stop_s", "expected"),
    [(10.5, 16.0, 3.5), (10.5, 14.0, None), (14.5, 16.0, 0.5), (14.05, 16.0, 0.0), (16.0, 17.0, None)],
    ids=["unsteady-first", "last-one-failed", "at-once", "look-under-way", "no-look"],
)
def test_readiness_is_steady_from_the_first_look_of_the_last_run(
    cleared_s: float, stop_s: float, expected: float | None
) -> None:
    found = steady_after(LOOKS, cleared_s, stop_s)
    assert found == (None if expected is None else pytest.approx(expected))


def test_ready_throughout_needs_a_look_and_no_failure() -> None:
    assert is_ready_between(LOOKS, 14.0, 16.0)
    assert not is_ready_between(LOOKS, 10.0, 12.0)
    assert not is_ready_between(LOOKS, 20.0, 30.0)


def test_an_age_is_told_from_the_start_of_a_process(sleeper: subprocess.Popen[bytes]) -> None:
    grip = Grip(sleeper.pid, os.getpid())
    assert 0 <= grip.age_s(time.time()) + 0.02 < 30
    grip.close()
