"""Metadata: what a record of the fill index says of a response besides its numbers, as JSON.

Written by the sidecar when it stores, read by workers when they prepare an answer, and by the sidecar
again when it revalidates. Does no I/O and knows no process.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from edge_server.fill.fields import Field, value_of
from edge_server.fill.storing import Known

DEFAULT_TYPE = "application/octet-stream"

_OWN = frozenset(("content-type", "last-modified", "cache-control", "vary", "content-encoding", "etag"))
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Metadata(NamedTuple):
    """What is told of a response.

    Attributes:
        media_type: its Content-Type.
        known: the origin's own validators.
        cache_control: its Cache-Control; None without one.
        vary: the request fields that select it, in lower case.
        coding: its Content-Encoding; nothing for none.
        fields: its other end-to-end fields.
        total: bytes of an object that is held in blocks; 0 for any other.
    """

    media_type: str
    known: Known
    cache_control: str | None
    vary: tuple[str, ...]
    coding: str
    fields: tuple[Field, ...]
    total: int = 0

    @classmethod
    def of(cls, fields: Sequence[Field], known: Known, vary: Sequence[str]) -> Metadata:
        """Return what to keep of a response.

        Args:
            fields: its end-to-end fields.
        """
        coding = (value_of(fields, "content-encoding") or "").strip(" \t").lower()
        return cls(
            value_of(fields, "content-type") or DEFAULT_TYPE,
            known,
            value_of(fields, "cache-control"),
            tuple(vary),
            "" if coding == "identity" else coding,
            tuple([field for field in fields if field[0].lower() not in _OWN]),
        )

    def pack(self, max_bytes: int) -> bytes:
        """Return it as the bytes of a record, without the longest of its other fields if it is too long.

        What is left over for even so is for the store to refuse.
        """
        fields = list(self.fields)
        while True:
            packed = self._pack(fields)
            if len(packed) <= max_bytes or not fields:
                return packed
            fields.remove(max(fields, key=lambda field: len(field[0]) + len(field[1])))

    def _pack(self, fields: Sequence[Field]) -> bytes:
        told = {
            "type": self.media_type,
            "etag": self.known.etag,
            "modified": self.known.modified,
            "cache_control": self.cache_control,
            "vary": self.vary,
            "coding": self.coding,
            "fields": fields,
            "total": self.total,
        }
        return _encode({name: value for name, value in told.items() if value}).encode()

    @classmethod
    def unpack(cls, packed: bytes) -> Metadata:
        """Return what `pack` made bytes of; a record's CRC has vouched for them."""
        told = json.loads(packed) if packed else {}
        return cls(
            told.get("type", DEFAULT_TYPE),
            Known(told.get("etag"), told.get("modified")),
            told.get("cache_control"),
            tuple(told.get("vary", ())),
            told.get("coding", ""),
            tuple((name, value) for name, value in told.get("fields", ())),
            told.get("total", 0),
        )

    def end_to_end(self) -> list[Field]:
        """Return the fields that it was made of, to be updated by a 304."""
        made: list[Field] = [("Content-Type", self.media_type), *self.fields]
        for name, value in (
            ("Last-Modified", self.known.modified),
            ("Cache-Control", self.cache_control),
            ("Vary", ", ".join(self.vary)),
            ("Content-Encoding", self.coding),
        ):
            if value:
                made.append((name, value))
        return made
