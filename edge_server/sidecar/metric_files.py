"""Metric files: counters and histograms of all processes, summed for each scrape.

Process      the sidecar's main thread; nothing is written.
Reads        every file of PROMETHEUS_MULTIPROC_DIR, mapped once; none goes while the instance lives.
Consistency  a value is one aligned 8-byte load; those of one scrape may be of different ticks. No sum
             falls from one scrape to the next: files keep their order, and adding more gives no less.

PERF: tests/perf/bench_scrape.py. The library decodes every key of every file at every scrape; a key
never moves within its file, so here each is decoded once.

Specification: the files of prometheus_client's multiprocess mode (mmap_dict.py): i32 bytes used, 4 bytes
of padding, then entries: i32 length, that many bytes of key and spaces to a boundary of 8, f64 value, f64
timestamp. A key is JSON: ``[family, sample, {label: value}, help]``. Native byte order.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from edge_server.errors import ResourceError

_LENGTH = struct.Struct("=i")
_BEGIN = 8  # of the first entry
_WORD = 8
_HISTOGRAM = "histogram"


class MetricFiles(Collector):
    """Collects what the files of a folder say together.

    Args:
        folder: of the files, ``<kind>_<identity>.db``.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._files: dict[str, _File] = {}
        self._numbers: dict[tuple[str, bytes], int] = {}  # kind and key -> place in the sums
        self._families: list[_Family] = []
        self._shown = 0  # how many keys the families have

    def collect(self) -> Iterable[Metric]:
        """Return one family for each metric that any process has.

        Raises:
            ResourceError: a file is not one of this format.
        """
        sums = self.read()
        if len(self._numbers) != self._shown:
            self._families = _families(self._numbers)
            self._shown = len(self._numbers)
        return [family.metric(sums) for family in self._families]

    def read(self) -> list[float]:
        """Return the sum of each series, buckets without those below, in the order of `keys`.

        Raises:
            ResourceError: a file is not one of this format.
        """
        self._find_files()
        for file in self._files.values():
            file.find_entries(self._numbers)
        sums = [0.0] * len(self._numbers)
        for file in self._files.values():
            file.add_to(sums)
        return sums

    def keys(self, known: int) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield sample and labels of the series that were found after the first `known` ones."""
        for _, key in islice(self._numbers, known, None):
            _, sample, labels, _ = json.loads(key)
            yield sample, labels

    def _find_files(self) -> None:
        names = (name for name in os.listdir(self._folder) if name.endswith(".db"))
        for name in sorted(name for name in names if name not in self._files):
            path = os.path.join(self._folder, name)
            if os.path.getsize(path):  # else its process has opened and not yet sized it
                self._files[name] = _File(path, name.partition("_")[0])


class _File:
    """One file, mapped, and where its values are."""

    def __init__(self, path: str, kind: str) -> None:
        self._path = path
        self._kind = kind
        self._used = _BEGIN
        self._cells: list[tuple[int, int]] = []  # index among the 8-byte words, place in the sums
        self._map()

    def find_entries(self, numbers: dict[tuple[str, bytes], int]) -> None:
        """Read the entries that were added since the last call; number keys that no file had."""
        (used,) = _LENGTH.unpack_from(self._data)
        if used <= self._used:
            return
        if used > len(self._data):  # it has been made longer
            self._map()
        for key, position in self._entries(used):
            number = numbers.setdefault((self._kind, key), len(numbers))
            self._cells.append((position // _WORD, number))
        self._used = used

    def add_to(self, sums: list[float]) -> None:
        """Add each value to the sum of its key."""
        words = self._words
        for word, number in self._cells:
            sums[number] += words[word]

    def _entries(self, used: int) -> Iterator[tuple[bytes, int]]:
        start = self._used
        while start < used:
            (length,) = _LENGTH.unpack_from(self._data, start)
            key_start = start + _LENGTH.size
            value_start = key_start + length + _WORD - (length + _LENGTH.size) % _WORD
            start = value_start + 2 * _WORD
            if length <= 0 or start > used or used > len(self._data):
                raise ResourceError(f"{self._path} is no metrics file, or damaged, at byte {key_start}")
            yield self._data[key_start : key_start + length], value_start

    def _map(self) -> None:
        with open(self._path, "rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._words = memoryview(self._data)[: len(self._data) // _WORD * _WORD].cast("d")


class _Family:
    """One metric: its samples, and where in the sums each has its value."""

    def __init__(self, name: str, text: str, kind: str) -> None:
        self._name, self._text, self._kind = name, text, kind
        self._points: dict[tuple[tuple[str, str], ...], _Point] = {}

    def add(self, sample: str, labels: dict[str, str], number: int) -> None:
        """Take a sample of this family."""
        bound = labels.pop("le", None) if self._kind == _HISTOGRAM else None
        point = self._points.setdefault(tuple(labels.items()), _Point(labels, [], []))
        if bound is None:
            point.plain.append((sample, number))
        else:
            point.buckets.append((float(bound), bound, number))
            point.buckets.sort()

    def metric(self, sums: list[float]) -> Metric:
        """Return the family with its values; buckets include those below, as the formats want it."""
        metric = Metric(self._name, self._text, self._kind)
        samples = metric.samples
        for labels, buckets, plain in self._points.values():
            count = 0.0
            for _, bound, number in buckets:
                count += sums[number]
                samples.append(Sample(f"{self._name}_bucket", {**labels, "le": bound}, count))
            if buckets:
                samples.append(Sample(f"{self._name}_count", labels, count))
            samples += [Sample(name, labels, sums[number]) for name, number in plain]
        return metric


class _Point(NamedTuple):
    """What has the same labels; OpenMetrics wants it in one place."""

    labels: dict[str, str]
    buckets: list[tuple[float, str, int]]  # upper bound, the same as text, place in the sums
    plain: list[tuple[str, int]]  # name of the sample, place


def _families(numbers: dict[tuple[str, bytes], int]) -> list[_Family]:
    families: dict[str, _Family] = {}
    for (kind, key), number in numbers.items():
        name, sample, labels, text = json.loads(key)
        family = families.get(name)
        if family is None:
            family = families[name] = _Family(name, text, kind)
        family.add(sample, labels, number)
    return list(families.values())
