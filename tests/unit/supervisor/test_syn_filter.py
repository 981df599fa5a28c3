"""The SYN filter on loopback: what has begun arrives, what begins later does not."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterator

import pytest

from edge_server.config.addresses import Address
from edge_server.supervisor.listen import bind_shared
from edge_server.supervisor.syn_filter import refuse_new


def _has(host: str) -> bool:
    try:
        bind_shared(Address(host, 0), 1)[0].close()
    except Exception:
        return False
    return True


LOOPBACKS = [
    pytest.param("127.0.0.1", id="ipv4"),
    pytest.param("::1", id="ipv6", marks=pytest.mark.skipif(not _has("::1"), reason="no IPv6 loopback here")),
]


@pytest.fixture(params=LOOPBACKS)
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    (listener,) = bind_shared(Address(request.param, 0), 1)
    yield listener
    listener.close()


def accept_all(listener: socket.socket) -> list[socket.socket]:
    accepted = []
    try:
        while True:
            accepted.append(listener.accept()[0])
    except BlockingIOError:
        return accepted


def test_connections_that_wait_are_still_accepted_and_served(listener: socket.socket) -> None:
    clients = [socket.create_connection(listener.getsockname()[:2]) for _ in range(20)]
    refuse_new(listener)
    for client in clients:
        client.sendall(b"question")
    accepted = accept_all(listener)
    assert len(accepted) == 20
    for connection in accepted:
        connection.setblocking(True)
        assert connection.recv(100) == b"question"
        connection.sendall(b"answer")
        connection.close()
    for client in clients:
        assert client.recv(100) == b"answer"
        assert client.recv(100) == b""
        client.close()


def test_no_new_connection_begins(listener: socket.socket) -> None:
    refuse_new(listener)
    with pytest.raises(TimeoutError):
        socket.create_connection(listener.getsockname()[:2], timeout=0.3)
    assert accept_all(listener) == []


def test_a_client_that_was_kept_out_is_refused_once_the_socket_is_closed(listener: socket.socket) -> None:
    place = listener.getsockname()
    refuse_new(listener)
    with socket.socket(listener.family) as client:
        client.setblocking(False)
        assert client.connect_ex(place) == errno.EINPROGRESS
        listener.close()
        select.select([], [client], [], 5)  # the SYN is repeated after a second
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def test_the_other_sockets_of_the_port_do_not_take_over(listener: socket.socket) -> None:
    """Each socket of a SO_REUSEPORT group needs its own filter: the kernel chooses first, then filters."""
    host = listener.getsockname()[0]
    listener.close()
    group = bind_shared(Address(host, 0), 3)
    for member in group:
        refuse_new(member)
    for _ in range(6):
        with pytest.raises(TimeoutError):
            socket.create_connection((host, group[0].getsockname()[1]), timeout=0.05)
    for member in group:
        assert accept_all(member) == []
        member.close()
