"""The scoreboard: its layout, and that each word has its own place."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest

from edge_server.errors import ResourceError
from edge_server.shm.reload_record import RECORD_BYTES
from edge_server.shm.scoreboard import (
    ALL_GATES,
    HEADER_BYTES,
    MAGIC,
    ROW_BYTES,
    VERSION,
    Field,
    Gate,
    Head,
    Scoreboard,
    WorkerState,
    identity_of,
)
from edge_server.shm.segment import Segment, segment_name

GATES_OF_THE_CONTRACT = [
    "config_valid",
    "packs_verified",
    "cas_reachable",
    "allow_list",
    "amnesia_ok",
    "workers_up",
    "shedder_stable",
    "not_draining",
    "sidecar_up",
]


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    """The scoreboard of three worker slots."""
    board = Scoreboard.create(3, segment_name("board"))
    yield board
    board.segment.unlink()
    board.close()


def word(board: Scoreboard, offset: int) -> int:
    (value,) = struct.unpack_from("=Q", board.segment.buf, offset)
    return int(value)


def test_gates_are_bits_in_the_order_of_the_contract() -> None:
    assert [str(gate.name).lower() for gate in Gate] == GATES_OF_THE_CONTRACT
    assert [int(gate) for gate in Gate] == [1 << bit for bit in range(9)]


def test_a_new_board_is_not_ready_and_has_nobody(board: Scoreboard) -> None:
    assert board.missing_gates == ALL_GATES
    assert board.is_degraded
    assert (board.generation, board.is_stopping, board.is_operator_drain) == (0, False, False)
    assert (board.slots, board.supervisor_pid) == (3, os.getpid())
    assert {row.state for row in board.rows()} == {WorkerState.EMPTY}


def test_the_header_names_structure_and_version(board: Scoreboard) -> None:
    assert bytes(board.segment.buf[:8]) == b"edgescor"
    assert word(board, 8) == VERSION


def test_rows_stand_after_the_header_and_share_no_cache_line(board: Scoreboard) -> None:
    assert HEADER_BYTES % 128 == 0
    assert ROW_BYTES % 128 == 0
    assert len(board.segment.buf) == HEADER_BYTES + 8 * ROW_BYTES + RECORD_BYTES


@pytest.mark.parametrize("field", list(Field), ids=lambda field: field.name)
def test_a_field_is_one_word_of_its_row_and_no_other(board: Scoreboard, field: Field) -> None:
    before = bytes(board.segment.buf)
    board.row(3).set(field, 0x0123456789ABCDEF)
    offset = HEADER_BYTES + 3 * ROW_BYTES + 8 * field
    expected = before[:offset] + struct.pack("=Q", 0x0123456789ABCDEF) + before[offset + 8 :]
    assert bytes(board.segment.buf) == expected
    assert board.row(3).get(field) == 0x0123456789ABCDEF


@pytest.mark.parametrize(
    ("attribute", "value", "head"),
    [
        ("generation", 7, Head.GENERATION),
        ("missing_gates", Gate.WORKERS_UP | Gate.SIDECAR_UP, Head.MISSING_GATES),
        ("is_degraded", False, Head.IS_DEGRADED),
        ("is_operator_drain", True, Head.IS_OPERATOR_DRAIN),
        ("is_stopping", True, Head.IS_STOPPING),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_header_attribute_is_one_word(board: Scoreboard, attribute: str, value: int, head: Head) -> None:
    before = bytes(board.segment.buf)
    setattr(board, attribute, value)
    assert getattr(board, attribute) == value
    expected = before[: 8 * head] + struct.pack("=Q", int(value)) + before[8 * head + 8 :]
    assert bytes(board.segment.buf) == expected


@pytest.mark.parametrize(
    ("slot", "letter", "index", "identity"),
    [
        (0, "a", 0, "0a"),
        (0, "b", 1, "0b"),
        (2, "b", 5, "2b"),
        (-1, "a", 6, "sidecar-a"),
        (-1, "b", 7, "sidecar-b"),
    ],
    ids=str,
)
def test_each_identity_has_its_own_row(
    board: Scoreboard, slot: int, letter: str, index: int, identity: str
) -> None:
    row = board.row(board.row_index(slot, letter))
    assert board.row_index(slot, letter) == index
    assert (row.slot, row.letter, row.identity) == (slot, letter, identity)
    assert identity_of(slot, letter) == identity
    assert "_" not in identity


def test_rows_are_listed_by_slot_and_letter_with_the_sidecar_last(board: Scoreboard) -> None:
    told = [row.identity for row in board.rows()]
    assert told == ["0a", "0b", "1a", "1b", "2a", "2b", "sidecar-a", "sidecar-b"]


def test_a_row_begins_without_the_counts_of_the_process_before(board: Scoreboard) -> None:
    row = board.row(1)
    row.set(Field.REQUESTS, 99)
    row.begin(4711, generation=2, cpu=0)
    assert (row.pid, row.state, row.get(Field.REQUESTS)) == (4711, WorkerState.STARTING, 0)
    assert (row.get(Field.GENERATION), row.get(Field.CPU)) == (2, 1)
    assert row.get(Field.BEAT_NS) > 0


def test_a_process_that_is_not_pinned_has_no_cpu(board: Scoreboard) -> None:
    board.row(1).begin(4711, generation=1, cpu=None)
    assert board.row(1).get(Field.CPU) == 0


def test_a_cleared_row_is_empty_and_its_neighbours_are_not(board: Scoreboard) -> None:
    for index in (0, 1, 2):
        board.row(index).begin(100 + index, generation=1, cpu=None)
    board.row(1).clear()
    assert bytes(board.row(1).words) == bytes(ROW_BYTES)
    assert [board.row(index).pid for index in (0, 1, 2)] == [100, 0, 102]


def test_a_child_writes_and_the_parent_reads(board: Scoreboard) -> None:
    pid = os.fork()
    if pid == 0:
        board.row(0).set(Field.INFLIGHT, 12)
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.row(0).get(Field.INFLIGHT) == 12


def test_an_outsider_reads_and_cannot_write(board: Scoreboard) -> None:
    outside = Scoreboard.attach(board.segment.name)
    board.generation = 3
    assert outside.generation == 3
    with pytest.raises(TypeError):
        outside.generation = 4
    outside.close()


@pytest.mark.parametrize("size", [8, 100, 4096], ids=["small", "uneven", "zero-page"])
def test_something_else_is_not_taken_for_a_board(size: int) -> None:
    other = Segment.create(segment_name("other"), size)
    try:
        with pytest.raises(ResourceError, match="not a scoreboard"):
            Scoreboard.attach(other.name)
    finally:
        other.unlink()


def test_a_board_of_another_version_is_refused() -> None:
    other = Segment.create(segment_name("other"), 4096)
    words = other.buf.cast("Q")
    words[Head.MAGIC], words[Head.VERSION] = MAGIC, VERSION + 1
    try:
        with pytest.raises(ResourceError, match="version"):
            Scoreboard.attach(other.name)
    finally:
        other.unlink()
