"""A disk that hangs: whoever needs it waits for a while, and memory goes on."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from edge_server.cas import disk as disk_module
from edge_server.cas import opening as opening_module
from edge_server.cas.store import Store
from edge_server.cas.tier import FOLDERS, Tier
from edge_server.cas.upkeep import Upkeep
from edge_server.errors import FillUnavailable, NoRoom, StoreUnavailable
from edge_server.shm.fill_index import DISK, FillIndex, key_id
from edge_server.sidecar import sinks
from tests.servers import eventually
from tests.stores import BLANK, DISK_BYTES, KIB, MEMORY_BYTES, Shelf, body_of

BIG = 40 * KIB


class Gate:
    """Where what touches a disk hangs while it is shut."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        self.event = threading.Event()
        self.entered = threading.Event()
        right = getattr(Tier, method)

        def hanging(tier: Tier, *args: object) -> object:
            if tier.is_durable:
                self.entered.set()
                self.event.wait(20)
            return right(tier, *args)

        monkeypatch.setattr(Tier, method, hanging)


def test_a_disk_that_hangs_when_it_is_opened_holds_nothing_up_and_is_used_when_it_is_there(
    index: FillIndex, memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening_module, "OPENING_S", 0.05)
    gate = Gate(monkeypatch, "probe")
    shelf = Shelf(index, memory, tmp_path / "disk")
    assert not shelf.store.is_reachable()
    shelf.fill("a", body_of(1, 4 * KIB))
    assert shelf.read("a") == body_of(1, 4 * KIB)
    shelf.store.retry_disk()  # nobody else opens it meanwhile
    assert shelf.told("cas_disk")[-1]["reason"] == "opening takes long"
    gate.event.set()
    eventually(shelf.store.is_reachable)
    shelf.settle()
    assert shelf.store.stats().disk_bytes == 4 * KIB
    shelf.check()
    shelf.close()


def test_a_store_that_is_closed_while_its_disk_is_opened_lets_go_of_that(
    index: FillIndex, memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening_module, "OPENING_S", 0.05)
    gate = Gate(monkeypatch, "probe")
    shelf = Shelf(index, memory, tmp_path / "disk")
    shelf.close()
    gate.event.set()
    eventually(lambda: not [each for each in threading.enumerate() if each.name == "cas-opening"])
    again = Shelf(index, memory, tmp_path / "disk")
    assert again.store.is_reachable()
    again.close()


@pytest.mark.parametrize("method", ["create", "seal", "install", "sync_names"])
def test_a_body_for_a_disk_that_hangs_is_given_up_and_bodies_in_memory_are_not(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(sinks, "DISK_S", 0.05)
    gate = Gate(monkeypatch, method)
    open_sink = sinks.opener(shelf.store)
    began_s = time.monotonic()

    def store_big() -> None:
        sink = open_sink(BIG, True)
        sink.write(body_of(1, BIG))
        sink.commit(lambda: shelf.store.commit(sink.writer, key_id("big"), BLANK, "big"))

    with pytest.raises(FillUnavailable):
        store_big()
    assert gate.entered.is_set()
    small = open_sink(None, True)
    small.write(b"small")
    small.commit(lambda: shelf.store.commit(small.writer, key_id("small"), BLANK, "small"))
    assert shelf.read("small") == b"small"
    assert time.monotonic() - began_s < 5
    gate.event.set()
    assert shelf.store.contents.disk is not None
    tier = shelf.store.contents.disk.tier
    eventually(lambda: not tier.claimed_bytes)
    eventually(lambda: not list((Path(tier.folder) / "tmp").iterdir()))
    shelf.check()


def test_nobody_else_waits_for_a_disk_that_has_hung_until_it_answers_again(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "RETRY_S", 0.01)
    gate, open_sink = Gate(monkeypatch, "seal"), sinks.opener(shelf.store)

    def store_big(number: int) -> None:
        sink = open_sink(BIG, True)
        sink.write(body_of(number, BIG))
        sink.commit(lambda: shelf.store.commit(sink.writer, key_id(str(number)), BLANK, str(number)))

    with monkeypatch.context() as patched:
        patched.setattr(sinks, "DISK_S", 0.05)
        with pytest.raises(StoreUnavailable):
            store_big(1)
    assert not shelf.store.is_reachable()
    assert shelf.told("cas_disk")[-1]["reason"] == "takes too long"
    began_s = time.monotonic()
    for number in range(2, 10):
        with pytest.raises(StoreUnavailable):
            store_big(number)
    endless = open_sink(None, True)
    with pytest.raises(StoreUnavailable):
        endless.write(body_of(10, BIG))
    endless.abort()
    assert time.monotonic() - began_s < sinks.DISK_S / 4
    gate.event.set()
    eventually(lambda: (shelf.store.retry_disk(), shelf.store.is_reachable())[1])
    assert shelf.store.contents.disk is not None
    tier = shelf.store.contents.disk.tier
    eventually(lambda: not tier.claimed_bytes)
    store_big(2)
    assert shelf.read("2") == body_of(2, BIG)
    shelf.check()


def test_what_may_not_be_stored_never_reaches_a_disk_however_large_it_is(
    index: FillIndex, memory: Path, tmp_path: Path
) -> None:
    shelf = Shelf(index, memory, tmp_path / "disk")
    open_sink = sinks.opener(shelf.store)
    secret = open_sink(BIG, False)
    assert BIG > MEMORY_BYTES // 4
    secret.write(b"s" * BIG)
    assert secret.writer.number != DISK
    with pytest.raises(FillUnavailable):
        secret.write(b"s" * MEMORY_BYTES)
    secret.abort()
    with pytest.raises(FillUnavailable):
        open_sink(DISK_BYTES // 2, False)
    shelf.check()
    shelf.close()


def test_a_successor_of_a_store_whose_disk_hung_has_what_is_in_memory(
    index: FillIndex, memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening_module, "OPENING_S", 0.05)
    gate = Gate(monkeypatch, "probe")
    shelf = Shelf(index, memory, tmp_path / "disk")
    shelf.fill("a", b"kept")
    shelf.close()
    successor: Store = shelf.successor()
    assert successor.find(key_id("a")) is not None
    gate.event.set()
    shelf.close()


@pytest.mark.parametrize("method", ["create", "seal", "install", "sync_names"])
def test_what_has_waited_for_a_disk_until_there_is_a_successor_changes_nothing_any_more(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    gate = Gate(monkeypatch, method)
    late, outcomes = shelf.store, []

    def store_big() -> None:
        try:
            writer = late.begin(BIG)
            writer.write(body_of(1, BIG))
            late.commit(writer, key_id("big"), BLANK, "big")
            outcomes.append("stored")
        except NoRoom:
            outcomes.append("refused")

    storing = threading.Thread(target=store_big)
    storing.start()
    assert gate.entered.wait(5)
    late.close()
    successor = shelf.successor()
    shelf.fill("small", b"small")
    before = shelf.index.changes
    gate.event.set()
    storing.join(10)
    if method == "sync_names":  # it had its key already
        assert (outcomes, shelf.read("big")) == (["stored"], body_of(1, BIG))
    else:
        assert (outcomes, shelf.read("big")) == (["refused"], None)
    assert shelf.index.changes == before
    assert late.purge("small") == 0
    assert shelf.read("small") == b"small"
    eventually(successor.is_reachable)  # opening it may have hung too
    for folder in FOLDERS:
        successor.sweep(folder)
    shelf.check()


def test_upkeep_that_hangs_is_not_waited_for_longer_than_was_said(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, "create")
    upkeep = Upkeep(shelf.store, pause_s=0.001)
    shelf.fill("small", b"small")
    upkeep.start()
    assert gate.entered.wait(5)
    began_s = time.monotonic()
    upkeep.stop(0.05)
    assert time.monotonic() - began_s < 2
    gate.event.set()
    upkeep.stop()
