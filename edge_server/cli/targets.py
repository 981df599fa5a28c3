"""Targets of POSTs to the admin plane: keys stand in the query, as many as a target may hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import urlencode

_MOST = 32
_MOST_BYTES = 6000  # of a target, which may have 8 KiB


def batches(keys: Iterable[str]) -> Iterator[list[str]]:
    """Yield all keys in order, as many at a time as one request takes."""
    batch: list[str] = []
    size = 0
    for key in keys:
        more = len(query("path", [key])) + 1
        if batch and (len(batch) >= _MOST or size + more > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(key)
        size += more
    if batch:
        yield batch


def query(name: str, values: Iterable[str]) -> str:
    """Return a query that has a field for each value."""
    return urlencode([(name, value) for value in values])
