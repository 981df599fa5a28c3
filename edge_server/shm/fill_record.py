"""The record of a filled response: what it says, and its bytes in the fill index.

Memory       a fixed head, the metadata, and the key as far as it fits; RECORD_BYTES at most.
Consistency  a CRC over all of it: what is torn is not taken for a record.

The same bytes stand in the database of the disk tier. Knows no process and does no I/O.
"""

from __future__ import annotations

import zlib
from enum import IntFlag
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from blake3 import blake3

from edge_server.errors import NoRoom

RECORD_BYTES = 2304
META_MAX = 1900  # bytes of metadata; the key has at least what is left
KEY_ID_BYTES = 16
MEMORY, DISK = 0, 1
TIERS = ("memory", "disk")
NO_DIGEST = bytes(32)  # of a response without a body

# crc32 of what follows, flags, key id, digest, size, stored, age, fresh, swr, sie, order, status, bytes of
# metadata, bytes of key, tier, whether the key is cut
_HEAD = Struct("<II16s32s7q3HBB8x")
assert _HEAD.size == 128
_CRC = Struct("<I")
_LENGTHS = Struct("<2H")
_ID_START, _LENGTHS_START, _TEXT_START = 8, 114, _HEAD.size


class Flag(IntFlag):
    """What a record says besides its times."""

    VARIES = 1  # no response: its metadata names the request fields that choose one
    NEGATIVE = 2  # the origin does not have it
    MUST_REVALIDATE = 4
    NO_CACHE = 8
    PASSED = 16  # may not be stored, and is kept for those who wait for it only
    UNVERIFIED = 32  # its body was written by an earlier instance, and nobody has hashed it since
    LARGE = 64  # no body: an object that is held in blocks, which have records of their own


class FillRecord(NamedTuple):
    """One stored response. Times are wall clock, Unix milliseconds."""

    digest: bytes  # BLAKE3-256 of the stored representation; NO_DIGEST where there is no body
    size: int  # bytes
    tier: int  # MEMORY or DISK
    flags: int  # of Flag
    stored_ms: int  # when the response was received
    age_s: int  # corrected initial age at stored_ms (RFC 9111 section 4.2.3)
    fresh_ms: int  # until when it is fresh
    swr_ms: int  # until when it may be served stale while it is revalidated
    sie_ms: int  # until when it may be served stale if the origin fails
    status: int  # of the stored response
    meta: bytes  # UTF-8 JSON, at most META_MAX bytes


class Stored(NamedTuple):
    """A record with all that the index knows of it; `key` is cut where it did not fit."""

    key_id: bytes
    key: str
    is_cut: bool
    order: int  # wall clock, ns, when the key was first put
    place: int
    record: FillRecord

    def is_of(self, key: str, is_prefix: bool) -> bool:
        """Whether this is of `key`, or of one that begins so; of a cut key: whether it may be."""
        if self.is_cut and key.startswith(self.key):
            return True
        return self.key.startswith(key) if is_prefix else self.key == key


@lru_cache(maxsize=1024)
def key_id(key: str, variant: str = "") -> bytes:
    """Return the 16 bytes under which a response is found: BLAKE3 of key and variant."""
    return blake3(key.encode(errors="surrogatepass") + b"\0" + variant.encode()).digest(KEY_ID_BYTES)


def pack(key_id: bytes, record: FillRecord, key: str, order: int, is_cut: bool = False) -> bytes:
    """Return the bytes of a record; see `Stored` for the arguments.

    Raises:
        NoRoom: the metadata is longer than META_MAX.
    """
    assert len(key_id) == KEY_ID_BYTES
    assert len(record.digest) == len(NO_DIGEST)
    if len(record.meta) > META_MAX:
        raise NoRoom(f"{len(record.meta)} bytes of metadata, more than {META_MAX}")
    whole = key.encode(errors="surrogatepass")
    kept = whole[: RECORD_BYTES - _TEXT_START - len(record.meta)]
    head = _HEAD.pack(
        0,
        record.flags,
        key_id,
        record.digest,
        record.size,
        *(record.stored_ms, record.age_s, record.fresh_ms, record.swr_ms, record.sie_ms),
        order,
        record.status,
        len(record.meta),
        len(kept),
        record.tier,
        is_cut or len(kept) < len(whole),
    )
    body = head[4:] + record.meta + kept
    return _CRC.pack(zlib.crc32(body)) + body


def is_of(data: memoryview, key_id: bytes) -> bool:
    """Whether the bytes of a record, torn or not, say that it is this key's."""
    return data[_ID_START : _ID_START + KEY_ID_BYTES] == key_id


def unpack(data: bytes) -> Stored | None:
    """Return the record at the beginning of `data`, of no place; None if it is not whole."""
    if len(data) < _TEXT_START:
        return None
    stop = _TEXT_START + sum(_LENGTHS.unpack_from(data, _LENGTHS_START))
    if stop > len(data) or zlib.crc32(data[4:stop]) != _CRC.unpack_from(data)[0]:
        return None
    (_, flags, key_id, digest, size, stored, age, fresh, swr, sie, order, *small) = _HEAD.unpack_from(data)
    status, meta_bytes, key_bytes, tier, is_cut = small
    key_start = _TEXT_START + meta_bytes
    meta, key = data[_TEXT_START:key_start], data[key_start : key_start + key_bytes]
    record = FillRecord(digest, size, tier, flags, stored, age, fresh, swr, sie, status, meta)
    return Stored(key_id, key.decode(errors="ignore"), bool(is_cut), order, -1, record)
