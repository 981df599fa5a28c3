"""The address guard: what may be connected to, and that what was checked is what is used."""

from __future__ import annotations

import threading
import time

import pytest

from edge_server.errors import FillUnavailable, NotAllowed
from edge_server.fill import address_guard
from edge_server.fill.address_guard import FAILED_S, RESOLVERS, AddressGuard
from edge_server.fill.deadline import ConnectTimeout, Deadline
from tests.servers import eventually


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2001:4860:4860::8888", "64:ff9b::808:808"],
)
def test_a_global_address_is_let_through(address: str) -> None:
    assert AddressGuard().is_allowed(address)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.1.2.3", "169.254.1.1"),
        *("172.16.0.1", "172.31.255.255", "192.0.0.9", "192.0.2.1", "192.88.99.1", "192.168.1.1"),
        *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
        *("255.255.255.255", "169.254.169.254", "168.63.129.16", "100.100.100.200"),
        *("::", "::1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::8.8.8.8", "64:ff9b::7f00:1"),
        *("64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::1"),
        *("2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1"),
        *("ff02::1", "fe80::1%eth0", "2606:4700::1%1", "", "localhost", "0x7f.1", "010.0.0.1", "1.1.1"),
    ],
)
def test_an_address_that_is_not_global_is_refused(address: str) -> None:
    assert not AddressGuard().is_allowed(address)


def test_a_hole_opens_its_network_and_no_other() -> None:
    guard = AddressGuard(("10.1.0.0/16", "fd00::/8"))
    assert guard.is_allowed("10.1.2.3")
    assert guard.is_allowed("fd00::1")
    assert not guard.is_allowed("10.2.0.1")


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "168.63.129.16", "100.100.100.200"],
)
def test_no_hole_opens_metadata_services_and_what_is_no_host(address: str) -> None:
    assert not AddressGuard(("0.0.0.0/0", "::/0")).is_allowed(address)


@pytest.mark.parametrize("address", ["::", "::ffff:10.0.0.1", "ff02::1", "fd00:ec2::254"])
def test_no_hole_opens_another_spelling_of_an_address(address: str) -> None:
    assert not AddressGuard(("0.0.0.0/0", "::/0")).is_allowed(address)


def test_only_the_addresses_that_may_be_connected_to_are_returned_in_their_order() -> None:
    guard = AddressGuard(resolver=lambda host, port: ["10.0.0.1", "8.8.8.8", "::1", "1.1.1.1"])
    assert guard.resolve("a.org", 443) == ["8.8.8.8", "1.1.1.1"]


def test_a_name_with_forbidden_addresses_only_is_not_allowed() -> None:
    guard = AddressGuard(resolver=lambda host, port: ["127.0.0.1", "::1"])
    with pytest.raises(NotAllowed):
        guard.resolve("a.org", 443)


def test_a_name_that_does_not_resolve_is_unavailable() -> None:
    def resolver(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    with pytest.raises(FillUnavailable):
        AddressGuard(resolver=resolver).resolve("a.org", 443)


def test_each_answer_of_a_rebinding_resolver_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_guard, "RESOLVED_S", 0.0)
    answers = iter([["8.8.8.8"], ["127.0.0.1"], ["8.8.4.4"]])
    guard = AddressGuard(resolver=lambda host, port: next(answers))
    assert guard.resolve("a.org", 443) == ["8.8.8.8"]
    with pytest.raises(NotAllowed):
        guard.resolve("a.org", 443)
    assert guard.resolve("a.org", 443) == ["8.8.4.4"]


def test_what_was_resolved_is_used_for_a_while() -> None:
    calls = []

    def resolver(host: str, port: int) -> list[str]:
        calls.append(host)
        return ["8.8.8.8"]

    guard = AddressGuard(resolver=resolver)
    assert [guard.resolve("a.org", 443) for _ in range(3)] == [["8.8.8.8"]] * 3
    assert calls == ["a.org"]


def test_a_resolver_that_hangs_holds_nobody_up_past_its_deadline_and_its_late_answer_serves() -> None:
    gate = threading.Event()

    def resolver(host: str, port: int) -> list[str]:
        gate.wait(10)
        return ["8.8.8.8"]

    guard = AddressGuard(resolver=resolver, timeout_s=0.1)
    began_s = time.monotonic()
    with pytest.raises(ConnectTimeout):
        guard.resolve("a.org", 443)
    with pytest.raises(ConnectTimeout):
        guard.resolve("a.org", 443, Deadline(time.monotonic() + 0.01))
    assert time.monotonic() - began_s < 5
    gate.set()
    eventually(lambda: not guard._lookups)
    assert guard.resolve("a.org", 443) == ["8.8.8.8"]
    guard.close()


def test_names_that_hang_take_a_few_threads_and_who_asks_for_the_same_shares_one() -> None:
    gate, asked = threading.Event(), []

    def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        gate.wait(10)
        return ["8.8.8.8"]

    guard = AddressGuard(resolver=resolver, timeout_s=5)
    answers: list[list[str]] = []

    def ask(number: int) -> None:
        answers.append(guard.resolve(f"{number % 8}.org", 443))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    eventually(lambda: sum(len(lookup.waiters) for lookup in list(guard._lookups.values())) == 24)
    assert len(asked) == RESOLVERS
    gate.set()
    for thread in threads:
        thread.join(5)
    assert answers == [["8.8.8.8"]] * 24
    assert sorted(asked) == [f"{number}.org" for number in range(8)]
    guard.close()


def test_a_name_that_does_not_resolve_is_not_asked_for_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        raise OSError("no such name")

    guard = AddressGuard(resolver=resolver)
    for _ in range(3):
        with pytest.raises(FillUnavailable):
            guard.resolve("a.org", 443)
    assert asked == ["a.org"]
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s + FAILED_S + 1)
    with pytest.raises(FillUnavailable):
        guard.resolve("a.org", 443)
    assert asked == ["a.org"] * 2
