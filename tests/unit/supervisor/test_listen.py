"""Listening sockets on loopback: sharing, refusing to share, and what errors say."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from edge_server.config.addresses import Address
from edge_server.errors import ResourceError
from edge_server.supervisor import listen
from edge_server.supervisor.listen import Listeners, backlog, bind_all, bind_shared

ANY = Address("127.0.0.1", 0)


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    """Three slots and the admin plane on ports that the kernel picked."""
    listeners = bind_all(ANY, ANY, slots=3)
    yield listeners
    listeners.close()


def option(listener: socket.socket, level: int, name: int) -> int:
    return listener.getsockopt(level, name)


def test_port_0_picks_one_port_for_all_slots_and_another_for_the_admin_plane(listeners: Listeners) -> None:
    ports = {listener.getsockname()[1] for listener in listeners.assets}
    assert len(listeners.assets) == 3
    assert len(ports) == 1
    assert listeners.admin.getsockname()[1] not in ports
    assert listeners.addresses[0] == f"127.0.0.1:{ports.pop()}"


def test_sockets_are_ready_for_workers(listeners: Listeners) -> None:
    for listener in listeners.all():
        assert option(listener, socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert option(listener, socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not listener.getblocking()
        assert not listener.get_inheritable()
    assert all(option(listener, socket.SOL_SOCKET, socket.SO_REUSEPORT) for listener in listeners.assets)
    assert not option(listeners.admin, socket.SOL_SOCKET, socket.SO_REUSEPORT)


def test_accepted_connections_send_without_delay(listeners: Listeners) -> None:
    with socket.create_connection(listeners.admin.getsockname()):
        listeners.admin.setblocking(True)
        accepted, _ = listeners.admin.accept()
        with accepted:
            assert option(accepted, socket.IPPROTO_TCP, socket.TCP_NODELAY)


def count_waiting(listener: socket.socket) -> int:
    count = 0
    try:
        while True:
            listener.accept()[0].close()
            count += 1
    except BlockingIOError:
        return count


def test_connections_are_spread_over_the_slots(listeners: Listeners) -> None:
    clients = [socket.create_connection(listeners.assets[0].getsockname()) for _ in range(60)]
    accepted = [count_waiting(listener) for listener in listeners.assets]
    for client in clients:
        client.close()
    assert sum(accepted) == 60
    assert min(accepted) > 0


@pytest.mark.parametrize("plane", [0, 1], ids=["asset-plane", "admin-plane"])
def test_a_second_instance_is_told_that_the_port_is_in_use(listeners: Listeners, plane: int) -> None:
    host, port = (listeners.assets[0], listeners.admin)[plane].getsockname()
    taken = Address(host, port)
    addresses = (taken, ANY) if plane == 0 else (ANY, taken)
    with pytest.raises(ResourceError, match=f"127.0.0.1:{port}: port in use; .* ss -ltnp") as caught:
        bind_all(*addresses, slots=2)
    assert caught.value.exit_code == 69


def test_a_port_that_anything_listens_on_everywhere_is_in_use() -> None:
    with socket.create_server(("0.0.0.0", 0)) as other, pytest.raises(ResourceError, match="port in use"):
        bind_shared(Address("127.0.0.1", other.getsockname()[1]), 2)


def test_a_failure_on_the_second_plane_gives_the_first_back(listeners: Listeners) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ResourceError, match="port in use"):
        bind_all(Address("127.0.0.1", port), Address(*listeners.admin.getsockname()), slots=2)
    for listener in bind_shared(Address("127.0.0.1", port), 2):
        listener.close()


def test_a_port_can_be_bound_again_while_old_connections_linger() -> None:
    (listener,) = bind_shared(ANY, 1)
    listener.setblocking(True)
    place = listener.getsockname()
    client = socket.create_connection(place)
    accepted, _ = listener.accept()
    accepted.close()  # the server closes first: its side is the one that lingers in TIME_WAIT
    assert client.recv(1) == b""
    client.close()
    listener.close()
    for again in bind_shared(Address(*place), 2):
        again.close()


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_ipv6_is_shown_in_brackets_and_takes_no_ipv4() -> None:
    listeners = bind_all(Address("::1", 0), Address("::", 0), slots=2)
    port = listeners.assets[0].getsockname()[1]
    assert listeners.addresses[0] == f"[::1]:{port}"
    assert listeners.addresses[1].startswith("[::]:")
    socket.create_connection(("::1", port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", listeners.admin.getsockname()[1]))
    listeners.close()


def test_a_name_is_resolved() -> None:
    (listener,) = bind_shared(Address("localhost", 0), 1)
    assert listen.shown(listener).startswith(("127.0.0.1:", "[::1]:"))
    listener.close()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        pytest.param(Address("192.0.2.1", 0), "no such address", id="not-our-address"),
        pytest.param(Address("nowhere.invalid", 8080), "not an address of this machine", id="unknown-name"),
    ],
)
def test_an_address_that_is_not_ours_is_explained(address: Address, words: str) -> None:
    with pytest.raises(ResourceError, match=words):
        bind_shared(address, 1)


def test_a_low_port_is_explained_with_its_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, place: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ResourceError) as caught:
        bind_shared(Address("127.0.0.1", 80), 1)
    for words in (
        "127.0.0.1:80",
        "CAP_NET_BIND_SERVICE",
        "AmbientCapabilities",
        "ip_unprivileged_port_start=80",
    ):
        assert words in str(caught.value)


def test_the_backlog_is_bounded_by_the_kernels() -> None:
    assert 1 <= backlog() <= listen.MAX_BACKLOG
