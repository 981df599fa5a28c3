"""Verification: is what a pack promises really in its files?

Modes: ``none`` trusts what parsing proved; ``index`` checks structure and a sample that
is the same every time; ``full`` hashes every entry (BLAKE3-256, the digest of its ETag)
and decodes every tile and every precompressed sibling.

Threads      tasks run in a pool that has ended when `verify` returns: the supervisor
             forks afterwards. Each BLAKE3 runs in its own thread alone.
Memory       a thread holds one block, small file or tile, and what decoding it may give.
Events       are sent from the calling thread only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial

from edge_server.packs.entry_checks import (
    MAX_VARIANT_BYTES,
    Digests,
    check_variants,
    hash_entries,
    open_entries,
    sample_entries,
)
from edge_server.packs.progress import Progress
from edge_server.packs.reader import Pack
from edge_server.packs.tile_checks import check_header, check_tiles, sampled_tiles, stored_tiles

MODES = ("none", "index", "full")

_POLL_S = 0.1
_REPORT_EVERY_S = 0.5
_OBJECTS_A_TASK = 64

OnEvent = Callable[[str, Mapping[str, object]], None]
_Task = Callable[[Progress], Digests]


def verify(pack: Pack, mode: str, *, threads: int = 4, sample: int = 64, on_event: OnEvent) -> None:
    """Check a mounted pack; ``full`` also sets the digest of each of its entries.

    Args:
        mode: ``none``, ``index`` or ``full``.
        threads: how many tasks run at a time.
        sample: entries, and tiles of each tile set, that ``index`` reads.
        on_event: told ``pack_verify`` with `done` of `total` objects and `bytes` read,
            now and then and at the end; and ``pack_mount`` with ``level: warning`` for
            a sibling that is too large to be checked and so is not used.

    Raises:
        PackError: something is missing, changed, damaged, or not what it is said to be.
        ValueError: there is no such mode.
    """
    if mode not in MODES:
        raise ValueError(f"verification is one of {', '.join(MODES)}, not {mode!r}")
    if mode == "none":
        return
    for tileset in pack.tilesets:
        check_header(pack, tileset)
    if mode == "full":
        _drop_large_variants(pack, on_event)
    progress = Progress()
    report = _Report(pack, mode, progress, on_event)
    phases = _full_phases(pack) if mode == "full" else [_sample_tasks(pack, sample)]
    progress.total = sum(count for tasks in phases for count, _ in tasks)
    for tasks in phases:
        for place, digest in _run([task for _, task in tasks], threads, progress, report):
            pack.entries[place] = pack.entries[place]._replace(digest=digest)
    report.tell()


def _full_phases(pack: Pack) -> list[list[tuple[int, _Task]]]:
    """Return the tasks of ``full``, each with its number of objects; a phase needs the one before."""
    hashing: list[tuple[int, _Task]] = [
        (len(part), partial(hash_entries, pack, part))
        for part in _parts(range(len(pack.entries)))
    ]  # fmt: skip
    tiles: list[tuple[int, _Task]] = [
        (len(blobs), partial(check_tiles, pack, tileset, blobs))
        for tileset in pack.tilesets
        for blobs in stored_tiles(tileset)
    ]
    with_variants = [place for place, entry in enumerate(pack.entries) if entry.variants]
    siblings: list[tuple[int, _Task]] = [
        (len(part), partial(check_variants, pack, part)) for part in _parts(with_variants)
    ]
    return [[*hashing, *tiles], siblings]


def _sample_tasks(pack: Pack, sample: int) -> list[tuple[int, _Task]]:
    count = len(pack.entries)
    chosen = sorted({place * count // sample for place in range(sample)}) if count and sample else []
    tasks: list[tuple[int, _Task]] = [
        (len(part), partial(open_entries, pack, part)) for part in _parts(range(count))
    ]
    tasks += [(len(part), partial(sample_entries, pack, part)) for part in _parts(chosen)]
    for tileset in pack.tilesets:
        blobs = sampled_tiles(tileset, sample)
        tasks.append((len(blobs), partial(check_tiles, pack, tileset, blobs)))
    return tasks


def _parts(places: Sequence[int]) -> list[Sequence[int]]:
    return [places[start : start + _OBJECTS_A_TASK] for start in range(0, len(places), _OBJECTS_A_TASK)]


def _drop_large_variants(pack: Pack, on_event: OnEvent) -> None:
    """Take away the variants of entries whose siblings would not decode in bounded memory."""
    for place, entry in enumerate(pack.entries):
        if entry.variants and entry.length > MAX_VARIANT_BYTES:
            pack.entries[place] = entry._replace(variants=())
            reason = "its precompressed siblings are not used: too large to verify"
            fields = {"level": "warning", "pack": pack.path, "path": entry.path, "reason": reason}
            on_event("pack_mount", fields)


def _run(tasks: Sequence[_Task], threads: int, progress: Progress, report: _Report) -> Digests:
    """Run all tasks and return what they found; the first failure stops the rest and is raised."""
    found: Digests = []
    if not tasks:
        return found
    with ThreadPoolExecutor(max(1, min(threads, len(tasks))), thread_name_prefix="verify") as pool:
        pending: set[Future[Digests]] = {pool.submit(task, progress) for task in tasks}
        try:
            while pending:
                done, pending = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                for future in done:
                    found += future.result()
                report.tell_now_and_then()
        except BaseException:
            progress.is_stopped = True
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


class _Report:
    """Sends ``pack_verify``, at most one each `_REPORT_EVERY_S` until the last."""

    def __init__(self, pack: Pack, mode: str, progress: Progress, on_event: OnEvent) -> None:
        self._pack, self._mode, self._progress, self._on_event = pack, mode, progress, on_event
        self._started = self._told = time.monotonic()

    def tell_now_and_then(self) -> None:
        if time.monotonic() - self._told >= _REPORT_EVERY_S:
            self.tell()

    def tell(self) -> None:
        self._told = time.monotonic()
        fields: dict[str, object] = {
            "pack": self._pack.path,
            "verify": self._mode,
            "done": self._progress.done,
            "total": self._progress.total,
            "bytes": self._progress.bytes,
            "duration_ms": round((self._told - self._started) * 1000, 1),
        }
        self._on_event("pack_verify", fields)
