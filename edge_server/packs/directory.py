"""Directories as packs: every file below a folder that a request can name.

Hidden files and folders stay out, and so does what is no regular file or lies outside
the root once its symbolic links are resolved. Precompressed siblings (RFC 9110 section
8.4 codings beside the file) become variants. Runs at mount time only; knows no process.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from edge_server.errors import PackError
from edge_server.http.media_types import coding_of_suffix, media_type
from edge_server.packs.addresses import is_address, printable
from edge_server.packs.reader import Entry, Pack
from edge_server.packs.source import source_file

ARCHIVE_SUFFIX = ".pmtiles"  # mounted as packs of their own
RAW_ARCHIVE_SUFFIXES = (".mbtiles", ".zip")  # served as whole files
# Links may multiply folders without end; a tree of real files this large would not fit the catalog.
MAX_OBJECTS = 4_000_000

_VARIANT_ORDER = ("br", "zstd", "gzip")


class FoundArchive(NamedTuple):
    """A PMTiles archive below a mounted directory, to be mounted under `name`."""

    path: str
    name: str


class LeftOut(NamedTuple):
    """A file or folder that is not served, or not used as a variant, and why."""

    path: str
    reason: str


class Listing(NamedTuple):
    """What reading a directory gives: its own pack, the archives in it, and what was left out."""

    pack: Pack
    archives: list[FoundArchive]
    left_out: list[LeftOut]


class _Folder(NamedTuple):
    """A folder still to be read; `above` is the chain of folders that led to it."""

    real_path: str
    prefix: str
    above: _Folder | None


def read_directory(path: str, name: str | None = None) -> Listing:
    """Return everything that is served from a directory.

    Args:
        path: the directory, as configured; symbolic links are followed.
        name: prefix of its entries; None puts them at the top.

    Raises:
        PackError: a folder cannot be read, or the tree has no end.
    """
    scan = _Scan(path, os.path.realpath(path))
    scan.run(f"{name}/" if name else "")
    scan.pack.name = name or ""
    scan.finish()
    return Listing(scan.pack, scan.archives, scan.left_out)


class _Scan:
    """One walk over a directory tree."""

    def __init__(self, path: str, root: str) -> None:
        self.pack = Pack("", "directory", path)
        self.archives: list[FoundArchive] = []
        self.left_out: list[LeftOut] = []
        self._root = root
        self._inside = root.rstrip("/") + "/"
        self._objects = 0

    def run(self, prefix: str) -> None:
        folders = [_Folder(self._root, prefix, None)]
        while folders:
            folder = folders.pop()
            folders.extend(self._read(folder))

    def finish(self) -> None:
        """Put everything in order and attach variants to the entries they stand beside."""
        self.archives.sort()
        self.pack.entries.sort()
        self._attach_variants()

    def _read(self, folder: _Folder) -> Iterator[_Folder]:
        """Take the files of one folder and yield the folders in it."""
        try:
            with os.scandir(folder.real_path) as found:
                children = [child for child in found if not child.name.startswith(".")]
        except OSError as error:
            place = printable(folder.real_path)
            raise PackError(self.pack.path, f"folder {place} cannot be read: {error.strerror}") from error
        self._objects += len(children)
        if self._objects > MAX_OBJECTS:
            raise PackError(self.pack.path, f"holds more than {MAX_OBJECTS} files and folders; is it a loop?")
        for child in children:
            below = self._take(folder, child)
            if below is not None:
                yield below

    def _take(self, folder: _Folder, child: os.DirEntry[str]) -> _Folder | None:
        """Add one file; return a folder to descend into."""
        path = folder.prefix + child.name
        if not is_address(path):
            self._leave_out(child.path, "its name cannot stand in a request")
            return None
        try:
            real_path, status = self._resolve(child)
        except FileNotFoundError:
            self._leave_out(child.path, "it leads nowhere, or vanished while the directory was read")
            return None
        except OSError as error:
            if not child.is_symlink():
                raise PackError(self.pack.path, f"{printable(child.path)}: {error.strerror}") from error
            self._leave_out(child.path, f"its link cannot be followed: {error.strerror}")
            return None
        if child.is_symlink() and not (real_path + "/").startswith(self._inside):
            self._leave_out(child.path, "its link leads out of the directory")
        elif stat.S_ISDIR(status.st_mode):
            return self._descend(folder, child, real_path, path)
        elif stat.S_ISREG(status.st_mode):
            self._add_file(real_path, path, status)
        else:
            self._leave_out(child.path, "it is no regular file")
        return None

    @staticmethod
    def _resolve(child: os.DirEntry[str]) -> tuple[str, os.stat_result]:
        if not child.is_symlink():
            return child.path, child.stat(follow_symlinks=False)
        real_path = os.path.realpath(child.path, strict=True)
        return real_path, os.stat(real_path)

    def _descend(self, folder: _Folder, child: os.DirEntry[str], real_path: str, path: str) -> _Folder | None:
        above: _Folder | None = folder
        while child.is_symlink() and above is not None:
            if above.real_path == real_path:
                self._leave_out(child.path, "its link leads back to a folder above it")
                return None
            above = above.above
        return _Folder(real_path, path + "/", folder)

    def _add_file(self, real_path: str, path: str, status: os.stat_result) -> None:
        suffix = os.path.splitext(path)[1].lower()
        if suffix == ARCHIVE_SUFFIX:
            self.archives.append(FoundArchive(real_path, path[: -len(suffix)]))
            return
        files = self.pack.files
        is_archive = suffix in RAW_ARCHIVE_SUFFIXES
        self.pack.entries.append(Entry(path, len(files), 0, status.st_size, media_type(path), is_archive))
        files.append(source_file(real_path, status))

    def _attach_variants(self) -> None:
        entries, files = self.pack.entries, self.pack.files
        places = {entry.path: place for place, entry in enumerate(entries)}
        variants: dict[int, list[tuple[str, str]]] = {}
        for entry in entries:
            stem, suffix = os.path.splitext(entry.path)
            coding = coding_of_suffix.get(suffix)
            place = places.get(stem) if coding else None
            if coding is None or place is None or entries[place].is_archive:
                continue
            if files[entry.file].mtime_ns < files[entries[place].file].mtime_ns:
                self._leave_out(files[entry.file].path, "it is older than the file it was made from")
                continue
            variants.setdefault(place, []).append((coding, entry.path))
        for place, found in variants.items():
            found.sort(key=lambda variant: _VARIANT_ORDER.index(variant[0]))
            entries[place] = entries[place]._replace(variants=tuple(found))

    def _leave_out(self, path: str, reason: str) -> None:
        self.left_out.append(LeftOut(printable(path), reason))
