"""The path table: an open-addressing hash of paths, laid out in numpy.

Built once by the supervisor, read by every process; it owns no memory, its columns
stand in the catalog's segment. Entries are placed by linear probing in the order of
their home slots, which makes the layout one running maximum instead of a loop; the
table ends in as many spare slots as the last chain needs, so a search never wraps.

The hash is Python's own of ``bytes``: keyed per supervisor, so nobody outside can
aim at one chain, and inherited by fork, so every process computes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

_EMPTY = 0
_SLOTS_PER_PATH = 2


def layout(paths: Sequence[bytes]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32], int]:
    """Place `paths`, all distinct.

    Returns:
        ``(hashes, entries, mask)``: u64 hashes with 0 for an empty slot, u32 indices
        into `paths` beside them, and the mask that gives a hash its home slot.
    """
    count = len(paths)
    capacity = 1 << max(3, (count * _SLOTS_PER_PATH - 1).bit_length())
    mask = capacity - 1
    signed = np.fromiter(map(hash, paths), dtype=np.int64, count=count)
    hashes = signed.view(np.uint64)
    hashes[hashes == _EMPTY] = 1
    homes = (hashes & np.uint64(mask)).astype(np.int64)
    order = np.argsort(homes, kind="stable")
    rank = np.arange(count, dtype=np.int64)
    slots = np.maximum.accumulate(homes[order] - rank) + rank
    size = max(capacity, int(slots[-1]) + 1 if count else 0) + 1
    table = np.zeros(size, dtype=np.uint64)
    entries = np.zeros(size, dtype=np.uint32)
    table[slots] = hashes[order]
    entries[slots] = order
    return table, entries, mask


def bind_find(
    hashes: memoryview,
    entries: memoryview,
    mask: int,
    path_of: Callable[[int], bytes],
) -> Callable[[bytes], int]:
    """Return a search for a path giving its entry or -1. PERF: tests/perf/bench_catalog.py.

    Args:
        hashes: the table's u64 column.
        entries: its u32 column.
        mask: as `layout` returned it.
        path_of: the path of an entry, compared only where the 64-bit hash agrees.
    """

    def find(path: bytes) -> int:
        wanted = (hash(path) & 0xFFFFFFFFFFFFFFFF) or 1
        slot = wanted & mask
        while (seen := hashes[slot]) != _EMPTY:
            if seen == wanted and path_of(entries[slot]) == path:
                return int(entries[slot])
            slot += 1
        return -1

    return find
