"""The audit chain: what a record is, and how a chain of them is held against itself.

Specification: a record is one line, a JSON object with the fields of FIELDS in that order, without spaces, in
ASCII. ``this`` is the BLAKE3-256 of the line without its last field, ``prev`` is ``this`` of the record
before; numbers rise by one. Knows no process and does no I/O.

A chain shows a record that was changed, dropped, inserted or moved. It cannot show that records at its end
are missing, nor that all of it was made anew: for that, its head must be known from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from blake3 import blake3

KINDS = ("begin", "resume", "fill", "fill_failed", "reject", "dropped")
NO_HASH = "0" * 64
TORN = "torn"  # reason of a begin or resume that follows bytes which are no record
RESTARTED, ROTATED = "restarted", "rotated"  # reasons of a resume

# Of the log line that a record is, then its own; with what stands there when there is nothing to say.
FIELDS: dict[str, str | int] = {
    "ts": "",
    "level": "info",
    "service": "svc-edge",
    "event": "audit",
    "mode": "",
    "latency_ms": 0,
    "seq": 0,
    "kind": "",
    "origin_host": "",
    "hash": "",
    "size": 0,
    "status": 0,
    "reason": "",
    "corr_id": "",
    "count": 1,
    "prev": NO_HASH,
}
MAX_LINE = 2048

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


class Record(NamedTuple):
    """One record as it stands in a chain."""

    fields: Mapping[str, Any]
    this: str

    @property
    def seq(self) -> int:
        """Its number."""
        return int(self.fields["seq"])

    @property
    def line(self) -> bytes:
        """The line, with its newline."""
        return _encode({**self.fields, "this": self.this}).encode("ascii") + b"\n"


def make(seq: int, prev: str, fields: Mapping[str, object]) -> Record:
    """Return the record that comes after `prev`."""
    record = {name: fields.get(name, empty) for name, empty in FIELDS.items()}
    record["seq"], record["prev"] = seq, prev
    return Record(record, _hash(record))


def read(line: bytes) -> Record | None:
    """Return the record that a line is, without its newline; None if it is none, or was changed."""
    if len(line) > MAX_LINE:
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or list(found) != [*FIELDS, "this"]:
        return None
    this = found.pop("this")
    has_types = all(type(found[name]) is type(empty) for name, empty in FIELDS.items())
    if not has_types or this != _hash(found):
        return None
    record = Record(found, this)
    return record if record.line == line + b"\n" else None


def is_audit(line: bytes) -> bool:
    """Whether a line of a log wants to be a record."""
    return b'"event":"audit"' in line and b'"this":' in line


def torn_facts(torn: bytes) -> tuple[int, str]:
    """Return size and hash by which a record tells of what is torn: without the newline that ends it."""
    bare = torn.removesuffix(b"\n")
    return len(bare), blake3(bare).hexdigest()


def _hash(fields: Mapping[str, Any]) -> str:
    return blake3(_encode(fields).encode("ascii")).hexdigest()
