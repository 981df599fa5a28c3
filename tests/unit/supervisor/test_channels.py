"""Channels: one pair an identity, and who keeps which end."""

from __future__ import annotations

import socket

import pytest

from edge_server.shm.scoreboard import SIDECAR_SLOT
from edge_server.supervisor.channels import Channels


def fill(end: socket.socket) -> None:
    """Send until there is no room."""
    while True:
        end.send(b"x" * 1000)


@pytest.fixture
def channels() -> Channels:
    return Channels(2)


def test_what_one_end_sends_the_other_reads_whole(channels: Channels) -> None:
    assert sorted(channels.sidecar_ends()) == ["0a", "0b", "1a", "1b"]
    for identity, far in channels.sidecar_ends().items():
        near = channels.worker_end(identity)
        near.send(identity.encode())
        near.send(b"second")
        far.send(b"back")
        assert (far.recv(100), far.recv(100), near.recv(100)) == (identity.encode(), b"second", b"back")
    channels.close()


def test_no_end_ever_waits(channels: Channels) -> None:
    near = channels.worker_end("0a")
    with pytest.raises(BlockingIOError):
        near.recv(1)
    with pytest.raises(BlockingIOError):
        fill(near)
    channels.close()


@pytest.mark.parametrize(
    ("slot", "letter", "kept"),
    [(1, "b", 1), (SIDECAR_SLOT, "a", 4), (None, "", 0)],
    ids=["worker", "sidecar", "helper"],
)
def test_a_child_keeps_its_own_ends_only(
    channels: Channels, slot: int | None, letter: str, kept: int
) -> None:
    far, near = (
        channels.sidecar_ends(),
        {name: channels.worker_end(name) for name in ("0a", "0b", "1a", "1b")},
    )
    channels.leave(slot, letter)
    left = [end for end in (*far.values(), *near.values()) if end.fileno() >= 0]
    assert len(left) == kept
    if slot == 1:
        assert left == [near["1b"]]
    if slot == SIDECAR_SLOT:
        assert left == list(far.values())
    channels.close()
