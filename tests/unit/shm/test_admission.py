"""The ledger of admissions: where its words stand, and that nobody shares a line."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest

from edge_server.shm.admission import ROW_BYTES, Field, Ledger
from edge_server.shm.segment import segment_name


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger.create(3, segment_name("test-ledger"))
    yield made
    made.segment.unlink()
    made.close()


def test_a_new_ledger_names_itself_and_has_admitted_nothing(ledger: Ledger) -> None:
    assert bytes(ledger.segment.buf[:8]) == b"edgeadms"
    assert ledger.workers == 3
    assert ledger.began_s == pytest.approx(time.monotonic(), abs=5)
    assert [list(ledger.column(field)) for field in Field] == [[0] * 6] * len(Field)


def test_each_identity_has_a_row_that_shares_no_cache_line(ledger: Ledger) -> None:
    assert ROW_BYTES % 128 == 0
    assert len(ledger.segment.buf) == 7 * ROW_BYTES


@pytest.mark.parametrize("field", list(Field), ids=lambda field: field.name)
def test_a_field_is_one_word_of_its_row_and_of_its_column(ledger: Ledger, field: Field) -> None:
    before = bytes(ledger.segment.buf)
    ledger.row(4)[field] = 0x0123456789ABCDEF
    offset = ROW_BYTES * 5 + 8 * field
    expected = before[:offset] + struct.pack("=Q", 0x0123456789ABCDEF) + before[offset + 8 :]
    assert bytes(ledger.segment.buf) == expected
    assert ledger.column(field)[4] == 0x0123456789ABCDEF
