"""Integrity: what an origin says of its own bytes, held against them.

Specification: RFC 9530 (Repr-Digest, Content-Digest), RFC 3230 (Digest), RFC 9651 for the dictionaries;
the ``b3:`` entity tags are this service's own (contract section 1). In an answer with status 200
representation and content are the same bytes; in a 206 only Content-Digest is of what came.
Does no I/O and knows no process.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Sequence

from edge_server.errors import EtagInvalid, IntegrityError
from edge_server.fill.fields import Field, single, value_of

# RFC 9530 section 7.2: the active algorithms; all others are ignored, as it says.
_ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512"}
# RFC 9651: member = key "=" ":" base64 ":"
_BYTE_SEQUENCE = re.compile(r"[ \t]*([a-z*][a-z0-9_.*-]*)[ \t]*=[ \t]*:([A-Za-z0-9+/=]*):[^,]*")
# RFC 3230 section 4.1.1: instance-digest = digest-algorithm "=" <encoded digest output>
_INSTANCE_DIGEST = re.compile(r"[ \t]*([A-Za-z0-9-]+)=([A-Za-z0-9+/=]+)[ \t]*")
_B3_TAG = re.compile(r'"b3:([0-9a-f]{64})"', re.ASCII)


class Claims:
    """The digests that the fields of an answer name, and the bytes as they come.

    Args:
        fields: of an answer with status 200 or 206.
        is_part: it is a 206.
    """

    def __init__(self, fields: Sequence[Field], *, is_part: bool = False) -> None:
        told = _digests(fields, is_part)
        self._claims = [(hashlib.new(_ALGORITHMS[name]), digest) for name, digest in told]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to hold the bytes against."""
        return not self._claims

    def update(self, piece: bytes) -> None:
        """Take the next bytes of the representation, with its content coding."""
        for hasher, _ in self._claims:
            hasher.update(piece)

    def verify(self) -> None:
        """Compare, when all bytes have come.

        Raises:
            IntegrityError: a digest differs.
        """
        if any(hasher.digest() != digest for hasher, digest in self._claims):
            raise IntegrityError("a digest field is not that of the bytes")


def claimed_hash(fields: Sequence[Field]) -> bytes | None:
    """Return the BLAKE3 that an entity tag of this service's form names, or None for other tags.

    Raises:
        EtagInvalid: it begins like one and is none.
    """
    etag = single(fields, "etag")
    if etag is None or not etag.lower().startswith('"b3:'):
        return None
    match = _B3_TAG.fullmatch(etag)
    if match is None:
        raise EtagInvalid("a b3 tag that is no hash")
    return bytes.fromhex(match[1])


def _digests(fields: Sequence[Field], is_part: bool) -> Iterator[tuple[str, bytes]]:
    """Yield each digest of a known algorithm; one that is no base64 yields bytes that match nothing."""
    for name in ("content-digest",) if is_part else ("repr-digest", "content-digest"):
        value = value_of(fields, name)
        if value is None:
            continue
        for member in value.split(","):
            match = _BYTE_SEQUENCE.fullmatch(member)
            if match is not None and match[1] in _ALGORITHMS:
                yield match[1], _decoded(match[2])
    value = None if is_part else value_of(fields, "digest")
    for member in () if value is None else value.split(","):
        match = _INSTANCE_DIGEST.fullmatch(member)
        if match is not None and match[1].lower() in _ALGORITHMS:
            yield match[1].lower(), _decoded(match[2])


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
