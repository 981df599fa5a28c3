"""What verification does with tiles: counts and zooms against the header, blobs against their coding.

Follows the PMTiles version 3 specification, section 3.2. Checks run in threads of
``verify.py`` and write nothing but the progress.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from edge_server.errors import PackError
from edge_server.http.codings import DecodeCap, DecodeError, decode
from edge_server.packs.entry_checks import Digests
from edge_server.packs.pmtiles import read_header
from edge_server.packs.pmtiles_header import Header
from edge_server.packs.progress import Progress
from edge_server.packs.reader import Pack, TileSet
from edge_server.packs.source import opened, read_exactly
from edge_server.packs.tile_ids import ZOOM_BASES

# Far above any map tile; what is larger is taken for a bomb.
MAX_TILE_BYTES = 64 << 20
_BATCH_BYTES = 4 << 20
_BATCH_TILES = 1024

Blobs = npt.NDArray[np.uint64]  # shape (n, 2): offset and length of stored tiles, absolute in the file


def check_header(pack: Pack, tileset: TileSet) -> None:
    """Compare what the header claims with the directories; a count of 0 claims nothing.

    Raises:
        PackError: a count differs, or a tile lies outside the header's zooms.
    """
    file = pack.files[tileset.file]
    with opened(pack.path, file) as fd:
        header = read_header(pack.path, fd, file.size)
    _check_counts(pack, header, tileset)
    first = int(tileset.first_ids[0])
    last = int(tileset.first_ids[-1]) + int(tileset.run_lengths[-1]) - 1
    if first < ZOOM_BASES[header.min_zoom] or last >= ZOOM_BASES[header.max_zoom + 1]:
        reason = f"has tiles outside the zooms of its header, {header.min_zoom} to {header.max_zoom}"
        raise PackError(pack.path, reason, 100)


def _check_counts(pack: Pack, header: Header, tileset: TileSet) -> None:
    counts = (
        ("addressed tiles", header.addressed_tiles, int(tileset.run_lengths.sum(dtype=np.uint64)), 72),
        ("tile entries", header.tile_entries, len(tileset.first_ids), 80),
        ("tile contents", header.tile_contents, _count_distinct(tileset.offsets), 88),
    )
    for label, claimed, found, position in counts:
        if claimed not in (0, found):
            raise PackError(
                pack.path, f"its header claims {claimed} {label}, its directories have {found}", position
            )


def _count_distinct(values: npt.NDArray[np.uint64]) -> int:
    # np.unique hashes and takes half a second for 1,000,000 values; sorting takes 10 ms.
    ordered = np.sort(values)
    return 1 + int(np.count_nonzero(ordered[1:] != ordered[:-1]))


def sampled_tiles(tileset: TileSet, sample: int) -> Blobs:
    """Return up to `sample` stored tiles, evenly spread, the last one always among them."""
    count = len(tileset.offsets)
    rows = np.unique(np.linspace(count - 1, 0, min(sample, count)).astype(np.intp))
    return np.stack((tileset.offsets[rows], tileset.lengths[rows].astype(np.uint64)), axis=1)


def stored_tiles(tileset: TileSet) -> Iterator[Blobs]:
    """Yield each stored tile once, in the order of the file and in handy batches.

    Tiles without a coding are left out: hashing the archive reads them already.
    """
    if not tileset.coding:
        return
    order = np.lexsort((tileset.lengths, tileset.offsets))
    offsets, lengths = tileset.offsets[order], tileset.lengths[order].astype(np.uint64)
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = (offsets[1:] != offsets[:-1]) | (lengths[1:] != lengths[:-1])
    blobs = np.stack((offsets[is_new], lengths[is_new]), axis=1)
    cuts = np.cumsum(blobs[:, 1]) // np.uint64(_BATCH_BYTES)
    starts = np.flatnonzero(np.diff(cuts)) + 1
    for part in np.split(blobs, starts):
        for start in range(0, len(part), _BATCH_TILES):
            yield part[start : start + _BATCH_TILES]


def check_tiles(pack: Pack, tileset: TileSet, blobs: Blobs, progress: Progress) -> Digests:
    """Read stored tiles and decode them.

    Raises:
        PackError: a tile cannot be read, or not decoded within `MAX_TILE_BYTES`.
    """
    with opened(pack.path, pack.files[tileset.file]) as fd:
        for offset, length in blobs.tolist():
            if progress.is_stopped:
                break
            _check_tile(pack, tileset, fd, offset, length)
            progress.add(1, length)
    return []


def _check_tile(pack: Pack, tileset: TileSet, fd: int, offset: int, length: int) -> None:
    if length > MAX_TILE_BYTES:
        raise PackError(
            pack.path, f"a tile of {length} bytes is beyond the limit of {MAX_TILE_BYTES}", offset
        )
    data = read_exactly(pack.path, fd, offset, length)
    try:
        decode(tileset.coding, data, max_bytes=MAX_TILE_BYTES)
    except (DecodeCap, DecodeError) as error:
        raise PackError(pack.path, f"a tile is not {tileset.coding}: {error}", offset) from error
