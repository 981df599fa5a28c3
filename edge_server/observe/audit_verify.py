"""Verifying: an audit chain held against itself, line by line.

Knows no process and does no I/O; what a record is stands in audit.py. Memory: the hashes of the last records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from edge_server.observe.audit import NO_HASH, TORN, Record, is_audit, read, torn_facts

_SEEN_KEPT = 8192


class Line(NamedTuple):
    """A line of a file, without its newline; `number` counts from 1."""

    file: str
    number: int
    data: bytes
    is_ended: bool = True


class Finding(NamedTuple):
    """What is to be said of a line. An error makes the chain a broken one."""

    file: str
    number: int
    text: str
    is_error: bool


class Verifier:
    """Goes over the lines of a chain, oldest first.

    Args:
        is_mixed: other lines may stand between records, as on standard output.
        may_begin_again: a chain may end and another begin, as whenever an instance starts that writes to
            standard output.
        expected: hash of a record that must be there.

    Attributes:
        has_expected: whether it was.
        records: how many were seen.
        head: `this` of the last one.
        seq: its number.
    """

    def __init__(
        self, *, is_mixed: bool = False, may_begin_again: bool = False, expected: str | None = None
    ) -> None:
        self._is_mixed = is_mixed
        self._may_begin_again = may_begin_again
        self._torn: list[Line] = []
        self._seen: dict[str, int] = {}  # of this chain, the last ones: hash -> number
        self._file = ""
        self._expected = expected
        self.has_expected = expected is None
        self.records = 0
        self.head = ""
        self.seq = 0

    def findings(self, lines: Iterable[Line]) -> Iterator[Finding]:
        """Yield what is wrong, and what is worth a note."""
        for line in lines:
            record = read(line.data)
            if record is not None:
                yield from self._take(line, record)
            elif not self._is_mixed or is_audit(line.data):
                self._torn.append(line)
                if len(self._torn) > 64:
                    yield from self._give_up_torn()
        if self._torn and not self._torn[-1].is_ended:
            last = self._torn.pop()
            yield from self._give_up_torn()
            yield _note(last, "ends here without a newline: a write was cut off; the next start tells of it")
        yield from self._give_up_torn()

    def _take(self, line: Line, record: Record) -> Iterator[Finding]:
        kind, reason = record.fields["kind"], record.fields["reason"]
        is_first_of_file, self._file = line.file != self._file, line.file
        if kind in ("begin", "resume") and reason == TORN:
            yield from self._healed(line, record)
        else:
            yield from self._give_up_torn()
        if not self.head:
            yield from self._first(line, record, is_first_of_file)
        elif kind == "begin":
            yield from self._begun_again(line, record)
        elif record.fields["prev"] != self.head or record.seq != self.seq + 1:
            yield from self._unlinked(line, record)
        if kind == "dropped":
            yield _note(
                line, f"{record.fields['count']} records were dropped here, as there was no room for them"
            )
        self._go_on(record)

    def _go_on(self, record: Record) -> None:
        self.records += 1
        self.head, self.seq = record.this, record.seq
        self.has_expected |= record.this == self._expected
        self._seen[record.this] = record.seq
        if len(self._seen) > _SEEN_KEPT:
            del self._seen[next(iter(self._seen))]

    def _first(self, line: Line, record: Record, is_first_of_file: bool) -> Iterator[Finding]:
        kind = record.fields["kind"]
        if kind == "begin" and record.seq == 1 and record.fields["prev"] == NO_HASH:
            return
        if kind == "resume" and is_first_of_file:
            yield _note(
                line, f"goes on after record {record.seq - 1}, {record.fields['prev']}: give its file too"
            )
        else:
            yield _error(line, f"the records before number {record.seq} are missing")

    def _begun_again(self, line: Line, record: Record) -> Iterator[Finding]:
        if record.seq != 1 or record.fields["prev"] != NO_HASH:
            yield _error(line, "a chain begins with a number or a link")
        elif self._may_begin_again:
            yield _note(
                line, f"another chain begins; the one before ended with record {self.seq}, {self.head}"
            )
        else:
            yield _error(line, f"another chain begins after record {self.seq}")
        self._seen.clear()

    def _unlinked(self, line: Line, record: Record) -> Iterator[Finding]:
        prev, seq = record.fields["prev"], record.seq
        was = self._seen.get(prev)
        if record.this in self._seen:
            yield _error(line, f"record {seq} stands here a second time")
        elif record.fields["kind"] == "resume" and was is not None and seq == was + 1:
            count = self.seq - was
            yield _note(
                line, f"{count} records before it were written by a process that was killed just then"
            )
        elif seq > self.seq + 1:
            yield _error(line, f"records {self.seq + 1} to {seq - 1} are missing before record {seq}")
        elif seq <= self.seq:
            yield _error(line, f"record {seq} stands behind record {self.seq}")
        else:
            yield _error(line, f"record {seq} does not follow from the one before it")

    def _healed(self, line: Line, record: Record) -> Iterator[Finding]:
        """Hold what is no record against what the process that found it has told of it."""
        torn = b"".join(each.data + b"\n" * each.is_ended for each in self._torn)
        size = record.fields["size"]
        if torn and torn_facts(torn) == (size, record.fields["hash"]):
            self._torn.clear()
            yield _note(line, f"{size} bytes before it were torn, as by a power cut")
        else:
            yield from self._give_up_torn()
            yield _error(line, f"tells of {size} torn bytes that do not stand before it")

    def _give_up_torn(self) -> Iterator[Finding]:
        for line in self._torn:
            yield _error(line, "no record, or one that was changed")
        self._torn.clear()


def _note(line: Line, text: str) -> Finding:
    return Finding(line.file, line.number, text, False)


def _error(line: Line, text: str) -> Finding:
    return Finding(line.file, line.number, text, True)
