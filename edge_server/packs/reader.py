"""What a pack is once it has been read: files, entries, tiles.

Filled by the readers of ``directory.py`` and ``pmtiles.py`` in the supervisor at
mount time, consumed once by ``shm/catalog.py``, then dropped. Knows no process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

NO_FILE = -1


class SourceFile(NamedTuple):
    """A file that bytes are served from, as it was when the pack was read.

    `path` is absolute and free of symbolic links; the other fields are those of
    fstat(2). A file whose identity differs later is not the one that was mounted.
    """

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int


class Entry(NamedTuple):
    """One object with a path of its own.

    `path` has no leading slash and is what follows ``/edge/assets/``, decoded.
    Its bytes are ``[offset, offset + length)`` of ``pack.files[file]``, or `inline`
    where `file` is NO_FILE. `variants` names precompressed siblings as
    ``(coding, path of the sibling's own entry)``.
    """

    path: str
    file: int
    offset: int
    length: int
    media_type: str
    is_archive: bool = False  # sent as identity with no-transform
    digest: bytes | None = None  # BLAKE3-256 of the bytes, 32 bytes, where it is known
    inline: bytes | None = None
    variants: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TileSet:
    """The tiles of one archive in columns, sorted by `first_ids`, one row a directory entry.

    A row covers tile ids ``[first_ids[i], first_ids[i] + run_lengths[i])``, all with the
    same bytes ``[offsets[i], offsets[i] + lengths[i])`` of ``pack.files[file]``.
    """

    name: str  # tiles stand at <name>/{z}/{x}/{y}.<extension>, the document at <name>.json
    file: int
    extensions: tuple[str, ...]  # the first is the one announced; all are accepted
    media_type: str
    coding: str  # how the tiles are stored: "", "gzip", "br" or "zstd"
    min_zoom: int
    max_zoom: int
    tilejson: Mapping[str, Any]  # TileJSON 3.0 without its `tiles`
    first_ids: npt.NDArray[np.uint64]
    run_lengths: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.uint64]  # absolute in the file
    lengths: npt.NDArray[np.uint32]


@dataclass(slots=True)
class Pack:
    """A mounted pack. `name` is its prefix or base name, `kind` a word for logs and status.

    `verified` is the mode in which it has been verified; empty before that.
    """

    name: str
    kind: str  # "directory" or "pmtiles"
    path: str  # as configured, after glob expansion
    files: list[SourceFile] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    tilesets: list[TileSet] = field(default_factory=list)
    verified: str = ""


class PackSpec(NamedTuple):
    """One element of ``edge.packs``: a path or glob, and what overrides the defaults."""

    path: str
    name: str | None = None
    verify: str | None = None  # "none", "index" or "full"
