"""What verification does with entries: open, sample, hash, and compare with siblings.

Each check takes places in ``pack.entries`` and runs in a thread of ``verify.py``; it
writes nothing but the progress. Files are read with pread(2) and must be the mounted
ones before and after.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter

from blake3 import blake3

from edge_server.errors import PackError
from edge_server.http.codings import DecodeCap, DecodeError, decode
from edge_server.packs.progress import Progress
from edge_server.packs.reader import NO_FILE, Entry, Pack
from edge_server.packs.source import is_unchanged, opened, read_exactly

Digests = list[tuple[int, bytes]]  # (place in pack.entries, BLAKE3-256)

# Originals above this are not compared with their siblings: decoding keeps a whole one in memory.
MAX_VARIANT_BYTES = 64 << 20

_BLOCK_BYTES = 1 << 20
_MAX_SAMPLED_VARIANT_BYTES = 1 << 20


def open_entries(pack: Pack, places: Sequence[int], progress: Progress) -> Digests:
    """Open the file of each entry and see that it is the mounted one.

    Raises:
        PackError: it is not.
    """
    for place in places:
        if progress.is_stopped:
            break
        entry = pack.entries[place]
        if entry.file != NO_FILE:
            with opened(pack.path, pack.files[entry.file]):
                pass
    progress.add(len(places), 0)
    return []


def sample_entries(pack: Pack, places: Sequence[int], progress: Progress) -> Digests:
    """Read both ends of each entry, and compare small entries with their siblings.

    Raises:
        PackError: an entry cannot be read, or a sibling does not decode to it.
    """
    for place in places:
        if progress.is_stopped:
            break
        entry = pack.entries[place]
        if entry.file != NO_FILE and entry.length:
            head = min(entry.length, _BLOCK_BYTES)
            with _steady(pack, entry) as fd:
                read_exactly(pack.path, fd, entry.offset, head)
                read_exactly(pack.path, fd, entry.offset + entry.length - 1, 1)
            progress.add(0, head)
        if entry.variants and entry.length <= _MAX_SAMPLED_VARIANT_BYTES:
            _compare_siblings(pack, entry, _digest(pack, entry, progress), progress)
        progress.add(1, 0)
    return []


def hash_entries(pack: Pack, places: Sequence[int], progress: Progress) -> Digests:
    """Return the digest of each entry, less where the rest is no longer wanted.

    Raises:
        PackError: an entry cannot be read, or its file changed.
    """
    found = []
    for place in places:
        if progress.is_stopped:
            break
        found.append((place, _digest(pack, pack.entries[place], progress)))
        progress.add(1, 0)
    return found


def check_variants(pack: Pack, places: Sequence[int], progress: Progress) -> Digests:
    """Decode the siblings of entries whose digests are known, and compare.

    Raises:
        PackError: a sibling does not decode to the bytes of its entry.
    """
    for place in places:
        if progress.is_stopped:
            break
        entry = pack.entries[place]
        assert entry.digest is not None
        _compare_siblings(pack, entry, entry.digest, progress)
        progress.add(1, 0)
    return []


def _digest(pack: Pack, entry: Entry, progress: Progress) -> bytes:
    if entry.file == NO_FILE:
        return blake3(entry.inline or b"").digest()
    hasher = blake3()
    with _steady(pack, entry) as fd:
        if entry.length > _BLOCK_BYTES:
            os.posix_fadvise(fd, entry.offset, entry.length, os.POSIX_FADV_SEQUENTIAL)
        stop = entry.offset + entry.length
        for start in range(entry.offset, stop, _BLOCK_BYTES):
            if progress.is_stopped:
                break
            block = read_exactly(pack.path, fd, start, min(_BLOCK_BYTES, stop - start))
            hasher.update(block)
            progress.add(0, len(block))
    return hasher.digest()


def _compare_siblings(pack: Pack, entry: Entry, digest: bytes, progress: Progress) -> None:
    for coding, path in entry.variants:
        sibling = _entry_at(pack, path)
        with _steady(pack, sibling) as fd:
            data = read_exactly(pack.path, fd, sibling.offset, sibling.length)
        progress.add(0, len(data))
        try:
            decoded = decode(coding, data, max_bytes=entry.length)
        except (DecodeCap, DecodeError) as error:
            raise PackError(pack.path, f"{path} is not {entry.path} in {coding}: {error}") from error
        if blake3(decoded).digest() != digest:
            raise PackError(pack.path, f"{path} decodes to something else than {entry.path}")


def _entry_at(pack: Pack, path: str) -> Entry:
    entries = pack.entries  # a directory's are sorted by path
    entry = entries[bisect_left(entries, path, key=attrgetter("path"))]
    assert entry.path == path
    return entry


@contextmanager
def _steady(pack: Pack, entry: Entry) -> Iterator[int]:
    """Open an entry's file, and refuse it if it was written to meanwhile."""
    file = pack.files[entry.file]
    with opened(pack.path, file) as fd:
        yield fd
        if not is_unchanged(os.fstat(fd), file):
            raise PackError(pack.path, f"{file.path} changed while it was read")
