"""What a service manager reads, over real datagram sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_server.supervisor.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The manager's socket, and how $NOTIFY_SOCKET names it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@svc-edge-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(name.replace("@", "\0", 1))
        channel.setblocking(False)
        yield channel, name


def test_each_message_is_one_datagram(manager: tuple[socket.socket, str]) -> None:
    channel, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("serving")
    notifier.status("not ready: workers_up")
    notifier.stopping()
    assert [channel.recv(1000) for _ in range(3)] == [
        b"READY=1\nSTATUS=serving",
        b"STATUS=not ready: workers_up",
        b"STOPPING=1\nSTATUS=draining",
    ]


def test_the_watchdog_hears_twice_an_interval(manager: tuple[socket.socket, str]) -> None:
    channel, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2000000"})
    for tenths in range(30):
        notifier.beat(50.0 + tenths / 10)
    assert received(channel) == [b"WATCHDOG=1"] * 3


def received(channel: socket.socket) -> list[bytes]:
    messages = []
    try:
        while True:
            messages.append(channel.recv(1000))
    except BlockingIOError:
        return messages


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="no-watchdog"),
        pytest.param({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, id="for-another-process"),
        pytest.param({"WATCHDOG_USEC": "soon"}, id="not-a-number"),
    ],
)
def test_no_watchdog_hears_nothing(manager: tuple[socket.socket, str], environ: dict[str, str]) -> None:
    channel, name = manager
    Notifier({"NOTIFY_SOCKET": name, **environ}).beat(50.0)
    assert received(channel) == []


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="not-set"),
        pytest.param({"NOTIFY_SOCKET": "relative"}, id="not-an-address"),
        pytest.param({"NOTIFY_SOCKET": "/nowhere/notify"}, id="nobody-listens"),
    ],
)
def test_without_a_service_manager_nothing_fails(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    notifier.ready("serving")
    notifier.stopping()
