"""Mounting: from the elements of ``edge.packs`` to packs that are read, named and verified.

Runs in the supervisor before it forks. Everything here is sequential but the hashing of
``verify.py``, whose threads have ended when `mount` returns. Knows no process.
"""

from __future__ import annotations

import glob
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from edge_server.errors import PackError
from edge_server.packs.addresses import is_address
from edge_server.packs.directory import FoundArchive, LeftOut, read_directory
from edge_server.packs.pmtiles import SUFFIX, read_pmtiles
from edge_server.packs.reader import Pack, PackSpec
from edge_server.packs.verify import verify as verify_pack

KINDS = "This version mounts directories and .pmtiles archives"
_LATER_SUFFIXES = (".mbtiles", ".zip")
# Left-out files told one by one; the rest of a pack are only counted.
_TOLD_ONE_BY_ONE = 20

OnEvent = Callable[[str, Mapping[str, object]], None]


class _Source(NamedTuple):
    """One pack to be read. `name` is None where its element gives none."""

    path: str
    real_path: str
    name: str | None
    verify: str | None
    is_directory: bool


def mount(
    specs: Sequence[PackSpec], *, verify: str, on_event: OnEvent, threads: int = 4, sample: int = 64
) -> list[Pack]:
    """Return all packs that `specs` ask for, read, named without conflict, and verified.

    Args:
        specs: elements of ``edge.packs``, in the order of the configuration.
        verify: ``none``, ``index`` or ``full``, where an element does not say.
        on_event: told ``pack_mount`` for each pack and each left-out file (those with
            ``level: warning``) and ``pack_verify`` as it goes on; called from this thread.
        threads: threads to hash with; none is left when this returns.
        sample: objects per pack that ``index`` reads and decodes.

    Returns:
        Explicit packs in the order of `specs`; behind a directory, the archives found in it.

    Raises:
        PackError: a pattern matches nothing, a pack is unreadable, damaged or hostile,
            or two packs want the same name or path.
    """
    sources = _unique(source for spec in specs for source in _expand(spec))
    mounted: list[tuple[Pack, str]] = []
    explicit = {source.real_path for source in sources}
    for source in sources:
        mode = source.verify or verify
        mounted.extend((pack, mode) for pack in _read(source, explicit, on_event))
    packs = [pack for pack, _ in mounted]
    _check_names(packs)
    _check_paths(packs)
    for pack, mode in mounted:
        verify_pack(pack, mode, threads=threads, sample=sample, on_event=on_event)
        pack.verified = mode
    return packs


def _expand(spec: PackSpec) -> Iterator[_Source]:
    """Yield what one element names: itself if it exists, else what matches it as a pattern."""
    if os.path.lexists(spec.path):
        paths = [spec.path]
    elif glob.has_magic(spec.path):
        paths = sorted(glob.glob(spec.path, recursive=True))
    else:
        raise PackError(spec.path, "no such file or directory")
    if not paths:
        raise PackError(spec.path, "no file or directory matches this pattern")
    if spec.name is not None and len(paths) > 1:
        raise PackError(spec.path, f"{len(paths)} packs match and cannot share the name {spec.name!r}")
    for path in paths:
        yield _source(path, spec)


def _source(path: str, spec: PackSpec) -> _Source:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise PackError(path, f"cannot be opened: {error.strerror}") from error
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _LATER_SUFFIXES and not stat.S_ISDIR(mode):
        raise PackError(path, f"{KINDS}; {suffix} files in a mounted directory are served whole")
    if not stat.S_ISDIR(mode) and not (stat.S_ISREG(mode) and suffix == SUFFIX):
        raise PackError(path, f"is neither. {KINDS}")
    return _Source(path, os.path.realpath(path), spec.name or None, spec.verify, stat.S_ISDIR(mode))


def _unique(sources: Iterator[_Source]) -> list[_Source]:
    """Return each real file once, in order of first mention; the mention that names it wins."""
    found: dict[str, _Source] = {}
    for source in sources:
        before = found.get(source.real_path)
        if before is None or (before.name is None and source.name is not None):
            found[source.real_path] = source
        elif source.name is not None and source.name != before.name:
            raise PackError(source.path, f"is listed twice, as {before.name!r} and as {source.name!r}")
    return list(found.values())


def _read(source: _Source, explicit: set[str], on_event: OnEvent) -> Iterator[Pack]:
    """Yield the pack of one source and those found in it that are not listed themselves."""
    started = time.monotonic()
    if not source.is_directory:
        stem = os.path.basename(source.path)[: -len(SUFFIX)]
        pack = read_pmtiles(source.path, _checked_name(source, source.name or stem))
        _tell_mounted(pack, started, on_event)
        yield pack
        return
    listing = read_directory(source.path, source.name and _checked_name(source, source.name))
    _tell_left_out(listing.pack, listing.left_out, on_event)
    _tell_mounted(listing.pack, started, on_event)
    yield listing.pack
    for archive in listing.archives:
        if os.path.realpath(archive.path) not in explicit:
            yield _read_found(archive, on_event)


def _read_found(archive: FoundArchive, on_event: OnEvent) -> Pack:
    started = time.monotonic()
    pack = read_pmtiles(archive.path, archive.name)
    _tell_mounted(pack, started, on_event)
    return pack


def _checked_name(source: _Source, name: str) -> str:
    if not is_address(name):
        raise PackError(
            source.path, f"{name!r} cannot be a name: it must be a path without empty or dot segments"
        )
    return name


def _check_names(packs: Sequence[Pack]) -> None:
    """Refuse two packs of one name; directories without a name share the top."""
    owners: dict[str, Pack] = {}
    for pack in packs:
        if pack.name and owners.setdefault(pack.name, pack) is not pack:
            raise PackError(pack.path, f"has the name {pack.name!r}, as has {owners[pack.name].path}")


def _check_paths(packs: Sequence[Pack]) -> None:
    """Refuse two packs with an object at one path, the documents that are made per request included."""
    owners: dict[str, Pack] = {}
    for pack in packs:
        paths = [entry.path for entry in pack.entries]
        paths += [f"{tileset.name}.json" for tileset in pack.tilesets]
        for path in paths:
            if path in owners:
                raise PackError(
                    pack.path, f"holds {path!r}, as does {owners[path].path}; give one of them a name"
                )
            owners[path] = pack


def _tell_mounted(pack: Pack, started: float, on_event: OnEvent) -> None:
    fields: dict[str, object] = {
        "pack": pack.path,
        "name": pack.name,
        "kind": pack.kind,
        "entries": len(pack.entries),
        "tiles": sum(int(tileset.run_lengths.sum(dtype="u8")) for tileset in pack.tilesets),
        "bytes": sum(file.size for file in pack.files),
        "duration_ms": round((time.monotonic() - started) * 1000, 1),
    }
    on_event("pack_mount", fields)


def _tell_left_out(pack: Pack, left_out: Sequence[LeftOut], on_event: OnEvent) -> None:
    for path, reason in left_out[:_TOLD_ONE_BY_ONE]:
        on_event("pack_mount", {"level": "warning", "pack": pack.path, "path": path, "reason": reason})
    more = len(left_out) - _TOLD_ONE_BY_ONE
    if more > 0:
        on_event("pack_mount", {"level": "warning", "pack": pack.path, "reason": f"{more} more left out"})
