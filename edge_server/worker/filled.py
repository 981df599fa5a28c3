"""Filled objects: from a record of the fill index to a prepared answer, and how long that holds.

Process      a worker. An answer is made when a path is first asked for and kept by the cache in
             ``hitpath.py``, like those of packs.
Memory       headers and an open file a variant; no body.
Consistency  what was made of a record stands while the record's sequence does, one word in shared memory that
             each request compares. A body is an open file that is never written again, so an answer
             that has begun ends right, whatever is evicted meanwhile.

Specification: RFC 9111 sections 4 and 5.1 (Age), RFC 9211 (Cache-Status), RFC 9110 section 13.1.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from edge_server.cas.bodies import BodyFolder
from edge_server.config.schema import Http
from edge_server.errors import BodyGone, Miss, PackUnreadable
from edge_server.fill.freshness import current_age_s
from edge_server.fill.metadata import Metadata
from edge_server.guard import File, header_lines
from edge_server.http.dates import parse_http_date
from edge_server.http.headers import ACCEPT_RANGES, SECURITY_FIELDS, Field
from edge_server.http.preconditions import parse_entity_tags
from edge_server.packs.reader import SourceFile
from edge_server.shm.fill_index import FillIndex, FillRecord, Flag
from edge_server.worker.bodies import FileSpan, Source
from edge_server.worker.files import OpenFile
from edge_server.worker.prepared import Prepared

# Where a response says nothing of how long it holds, its clients ask again, with our strong tag.
_ASK_AGAIN: Field = ("Cache-Control", "no-cache")
_COMMON = (*SECURITY_FIELDS,)
_LOOKS = 3  # a body may be evicted or change tiers between record and file


class FilledSpan(FileSpan):
    """A filled body. One that cannot be sent is a miss, as its origin has it still."""

    __slots__ = ("_key",)

    def __init__(self, file: OpenFile, key: str) -> None:
        super().__init__(file, 0)
        self._key = key

    def send(self, start: int, stop: int) -> bytes:
        """See Source.

        Raises:
            Miss: instead of PackUnreadable.
        """
        try:
            return super().send(start, stop)
        except PackUnreadable as error:
            raise Miss(self._key, "cold") from error


class Held:
    """What was made of one record.

    Attributes:
        place, sequence: of the record; it stands while the index has that sequence there.
        record: as it was read.
        metadata: of it.
    """

    __slots__ = ("_etags", "_lines", "_not_modified", "metadata", "place", "prepared", "record", "sequence")

    def __init__(
        self, place: int, sequence: int, record: FillRecord, metadata: Metadata, prepared: Prepared
    ) -> None:
        self.place = place
        self.sequence = sequence
        self.record = record
        self.metadata = metadata
        self.prepared = prepared
        self._lines, self._not_modified = prepared.lines, prepared.not_modified
        self._etags = (metadata.known.etag, prepared.etag)

    def told(self, cache_status: str, now_ms: int) -> Prepared:
        """Return the answer with its age and where it came from."""
        age_s = current_age_s(self.record.age_s, self.record.stored_ms, now_ms)
        more = f"\r\nAge: {age_s}\r\nCache-Status: {cache_status}".encode("ascii")
        return self.prepared._replace(lines=self._lines + more, not_modified=self._not_modified + more)

    def translate(self, environ: dict[str, Any]) -> None:
        """Have a request that names the origin's own tag name ours too, which stands for the same bytes.

        Source: RFC 9110 sections 13.1.1, 13.1.2 and 13.1.5.
        """
        theirs, ours = self._etags
        if theirs is None:
            return
        opaque = theirs.removeprefix("W/")
        for name in ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH"):
            value = environ.get(name)
            if value is not None and _names(value, opaque, is_strong=theirs == opaque, name=name):
                environ[name] = f"{value}, {ours}"
        if environ.get("HTTP_IF_RANGE", "").strip(" \t") == theirs == opaque:
            environ["HTTP_IF_RANGE"] = ours


def _names(value: str, opaque: str, *, is_strong: bool, name: str) -> bool:
    """Whether a list names the origin's tag: weakly, or strongly for If-Match."""
    needs_strong = name == "HTTP_IF_MATCH"
    return any(
        tag == opaque and (not needs_strong or (is_strong and not is_weak))
        for is_weak, tag in parse_entity_tags(value)
    )


class Filled:
    """Prepares answers of filled objects.

    Args:
        max_files: how many files may be open at once, beside archives.
        make_room: called before one more is opened; forgets prepared answers.
    """

    def __init__(
        self,
        index: FillIndex,
        bodies: BodyFolder,
        http: Http,
        *,
        max_files: int,
        make_room: Callable[[], None],
    ) -> None:
        self._index = index
        self._bodies = bodies
        self._http = http
        self._max_files = max_files
        self._make_room = make_room

    def hold(self, key: str, key_id: bytes) -> Held | None:
        """Return what can be answered for an id; None where there is nothing.

        Raises:
            Miss: there is something whose body cannot be had here.
        """
        for _ in range(_LOOKS):
            found = self._index.locate(key_id)
            if found is None:
                return None
            place, sequence, record = found
            if record.flags & Flag.UNVERIFIED:
                raise Miss(key, "cold")
            metadata = Metadata.unpack(record.meta)
            if record.flags & (Flag.VARIES | Flag.NEGATIVE):
                return Held(place, sequence, record, metadata, _nothing())
            if record.flags & Flag.LARGE:
                prepared = self._prepared(_Nothing(), metadata.total, "", metadata)
                return Held(place, sequence, record, metadata, prepared)
            try:
                file = self._open(record)
            except BodyGone:
                continue
            tag = f'"b3:{record.digest.hex()}"'
            etag = tag if self._http.strong_etag else f"W/{tag}"
            prepared = self._prepared(FilledSpan(file, key), record.size, etag, metadata)
            return Held(place, sequence, record, metadata, prepared)
        raise Miss(key, "cold")

    def _open(self, record: FillRecord) -> OpenFile:
        for _ in range(2):  # the first may only make the young age old
            if OpenFile.open_now >= self._max_files:
                self._make_room()
        descriptor = self._bodies.open(record)
        status = os.fstat(descriptor)
        source = SourceFile("", status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        return OpenFile(descriptor, source, may_be_unlinked=True)

    def _prepared(self, source: Source, size: int, etag: str, metadata: Metadata) -> Prepared:
        modified_s = None if metadata.known.modified is None else parse_http_date(metadata.known.modified)
        others = list(metadata.fields)
        expires = [field for field in others if field[0].lower() == "expires"]
        if expires:
            others = [field for field in others if field[0].lower() != "expires"]
        shared: list[Field] = [("ETag", etag), *expires] if etag else expires
        if metadata.cache_control is not None:
            shared.append(("Cache-Control", metadata.cache_control))
        elif not expires:
            shared.append(_ASK_AGAIN)
        if metadata.vary:
            shared.append(("Vary", ", ".join(name.title() for name in metadata.vary)))
        if metadata.known.modified is not None and modified_s is not None:
            shared.append(("Last-Modified", metadata.known.modified))
        own: list[Field] = [("Content-Type", metadata.media_type)]
        if metadata.coding:
            own.append(("Content-Encoding", metadata.coding))
        not_modified = _lines([*shared, *_COMMON])
        return Prepared(
            source,
            size,
            etag,
            modified_s,
            metadata.media_type,
            ("Content-Length", str(size)),
            _lines([*own, *others, ACCEPT_RANGES]) + not_modified,
            not_modified,
        )


def _lines(fields: list[Field]) -> bytes:
    """Return fields for guard.send_fields, without those that no answer could have."""
    try:
        return header_lines(fields)
    except ValueError:
        pass
    made = []
    for field in fields:
        try:
            made.append(header_lines([field]))
        except ValueError:
            continue
    return b"".join(made)


class _Nothing:
    """The source of a record that has no body."""

    guarded: File | None = None

    def read(self, start: int, stop: int) -> bytes:
        raise AssertionError("a record without a body is not served")

    send = read

    def need(self, start: int, stop: int) -> None:
        raise AssertionError("a record without a body is not served")

    def check(self) -> None:
        raise AssertionError("a record without a body is not served")


def _nothing() -> Prepared:
    return Prepared(_Nothing(), 0, "", None, "", ("Content-Length", "0"), b"", b"")


def fields_of(environ: Mapping[str, Any], wanted: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Return fields of a request by their names in lower case.

    Args:
        wanted: pairs of such a name and the key in the environment.
    """
    return {name: environ[key] for name, key in wanted if key in environ}
