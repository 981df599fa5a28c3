"""A chain of audit records, and whatever is done to one."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge_server.observe.audit import FIELDS, KINDS, NO_HASH, ROTATED, TORN, make, read, torn_facts
from edge_server.observe.audit_verify import Finding, Line, Verifier
from edge_server.observe.metrics import AUDIT_KINDS


def chain(*kinds: str, seq: int = 0, prev: str = NO_HASH, reason: str = "") -> list[bytes]:
    """Return the lines of a chain, each without its newline; `reason` is that of the first."""
    lines = []
    for number, kind in enumerate(kinds, seq + 1):
        told = {"kind": kind, "corr_id": f"c-{number}", "ts": "2026-01-01T00:00:00.000Z", "mode": "live"}
        record = make(number, prev, {**told, "reason": reason if number == seq + 1 else ""})
        lines.append(record.line.removesuffix(b"\n"))
        prev = record.this
    return lines


def lines_of(data: bytes, file: str = "a") -> list[Line]:
    parts = data.split(b"\n")
    ended = [Line(file, number, part) for number, part in enumerate(parts[:-1], 1)]
    return ended + ([Line(file, len(parts), parts[-1], False)] if parts[-1] else [])


def judge(*files: bytes, **how: bool) -> list[Finding]:
    lines = [line for number, data in enumerate(files) for line in lines_of(data, str(number))]
    return list(Verifier(**how).findings(lines))  # type: ignore[arg-type]


def errors(*files: bytes, **how: bool) -> list[int]:
    return [finding.number for finding in judge(*files, **how) if finding.is_error]


def file_of(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


WHOLE = chain("begin", "fill", "reject", "fill_failed", "resume", "reject", "dropped", "fill")


def test_a_record_is_one_line_of_json_with_the_fields_of_a_log_line() -> None:
    found = json.loads(WHOLE[1])
    assert list(found) == [*FIELDS, "this"]
    assert (found["event"], found["seq"], found["prev"]) == ("audit", 2, json.loads(WHOLE[0])["this"])
    assert read(WHOLE[1]) is not None


def test_a_whole_chain_has_nothing_wrong_and_tells_its_head() -> None:
    verifier = Verifier()
    assert [finding.is_error for finding in verifier.findings(lines_of(file_of(WHOLE)))] == [False]
    assert (verifier.records, verifier.seq) == (8, 8)
    assert verifier.head == json.loads(WHOLE[-1])["this"]


@given(st.data())
def test_any_change_of_a_byte_is_found_on_its_line(data: st.DataObject) -> None:
    whole = bytearray(file_of(WHOLE))
    place = data.draw(st.integers(0, len(whole) - 2))
    value = data.draw(st.integers(0, 255))
    assume(whole[place] != value)
    line = whole[:place].count(b"\n") + 1
    whole[place] = value
    found = errors(bytes(whole))
    is_last = line == len(WHOLE) and b"\n" in whole[whole.rfind(WHOLE[-1][:5]) :]
    assert found[0] in (line, line + 1) or is_last


@given(st.data())
def test_any_record_that_is_dropped_is_found(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(WHOLE) - 2))
    stop = data.draw(st.integers(start + 1, len(WHOLE) - 1))
    # A file after a rotation begins with a resume.
    assume(not (start == 0 and b'"kind":"resume"' in WHOLE[stop]))
    assert errors(file_of(WHOLE[:start] + WHOLE[stop:])) == [start + 1]


@given(st.permutations(range(len(WHOLE))))
def test_any_other_order_is_found(order: list[int]) -> None:
    assume(order != sorted(order))
    assert errors(file_of([WHOLE[index] for index in order]))


@given(st.integers(0, len(WHOLE)), st.binary(max_size=200) | st.sampled_from(WHOLE))
def test_anything_that_is_inserted_is_found_where_it_stands(place: int, inserted: bytes) -> None:
    inserted = inserted.replace(b"\n", b"")
    found = errors(file_of([*WHOLE[:place], inserted, *WHOLE[place:]]))
    assert found
    assert found[0] in (place + 1, place + 2)


@given(st.integers(0, len(WHOLE) - 1), st.sampled_from(sorted(FIELDS)), st.integers() | st.text(max_size=9))
def test_a_record_that_is_made_anew_does_not_fit(place: int, field: str, value: int | str) -> None:
    changed = json.loads(WHOLE[place])
    assume(changed[field] != value or type(changed[field]) is not type(value))
    assume(not isinstance(value, str) or value.isprintable())
    changed[field] = value
    prev, seq = changed["prev"], changed["seq"]
    assume(type(prev) is str and type(seq) is int)
    anew = make(seq, prev, changed).line.removesuffix(b"\n")
    # A forged last record is one that only a head kept elsewhere tells from the true one.
    assume(place < len(WHOLE) - 1)
    assert errors(file_of([*WHOLE[:place], anew, *WHOLE[place + 1 :]]))


def test_what_is_missing_at_the_end_is_told_by_a_head_that_was_kept() -> None:
    head = json.loads(WHOLE[-1])["this"]
    for stop in range(1, len(WHOLE)):
        verifier = Verifier(expected=head)
        assert not [found for found in verifier.findings(lines_of(file_of(WHOLE[:stop]))) if found.is_error]
        assert not verifier.has_expected
    verifier = Verifier(expected=head)
    assert list(verifier.findings(lines_of(file_of(WHOLE))))
    assert verifier.has_expected


@pytest.mark.parametrize("torn", [WHOLE[4][:70], b"\x00" * 50, b"half\nand more", b"one\n\n"], ids=range(4))
def test_what_a_power_cut_has_torn_is_a_note_if_a_record_tells_of_just_that(torn: bytes) -> None:
    before = WHOLE[:4]
    size, digest = torn_facts(torn)
    told = {"kind": "resume", "reason": TORN, "size": size, "hash": digest}
    healed = make(5, json.loads(before[-1])["this"], told).line
    ending = b"" if torn.endswith(b"\n") else b"\n"
    assert not errors(file_of(before) + torn + ending + healed)
    assert errors(file_of(before) + torn + b"x" + ending + healed)
    assert errors(file_of(before) + healed) == [5]


def test_an_end_without_a_newline_is_a_note() -> None:
    (note,) = judge(file_of(WHOLE[:4]) + WHOLE[4][:100])
    assert (note.is_error, note.number) == (False, 5)


def test_a_chain_goes_on_over_files() -> None:
    first = chain("begin", "fill")
    second = chain("resume", "fill", seq=2, prev=json.loads(first[-1])["this"], reason=ROTATED)
    assert judge(file_of(first), file_of(second)) == []
    (note,) = judge(file_of(second))
    assert not note.is_error
    assert errors(file_of(second), file_of(first))
    assert errors(file_of(first), file_of(second[1:])) == [1]


def test_lines_of_a_log_may_stand_between_records_where_that_is_said() -> None:
    mixed = b'{"event":"start"}\n' + b"noise\n".join(line + b"\n" for line in WHOLE) + b"\xff\n"
    assert not errors(mixed, is_mixed=True)
    assert errors(mixed)
    assert errors(mixed.replace(b"c-3", b"c-4", 1), is_mixed=True)


def test_chains_may_follow_each_other_where_that_is_said() -> None:
    both = file_of(chain("begin", "fill")) + file_of(chain("begin", "reject"))
    assert errors(both) == [3]
    assert not errors(both, may_begin_again=True)


def test_records_behind_the_head_that_a_killed_process_has_left_are_a_note() -> None:
    first = chain("begin", "fill", "reject", "reject")
    resumed = chain("resume", "fill", seq=2, prev=json.loads(first[1])["this"])
    (note,) = judge(file_of(first + resumed))
    assert not note.is_error
    assert "2 records" in note.text


Change = Callable[[dict[str, object]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("kind"),
        lambda record: record.update(more=1),
        lambda record: record.update(seq=True),
        lambda record: record.update(latency_ms=0.0),
        lambda record: record.update(this="0" * 64),
    ],
)
def test_what_is_no_record_is_not_read(change: Change) -> None:
    record = json.loads(WHOLE[0])
    change(record)
    assert read(json.dumps(record, separators=(",", ":")).encode()) is None
    assert read(b"[" * 3000) is None
    assert read(WHOLE[0].replace(b":", b": ", 1)) is None


def test_every_kind_of_record_has_a_series() -> None:
    assert AUDIT_KINDS == KINDS
