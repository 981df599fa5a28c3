"""Generations: a configuration with its packs, and how long each is kept.

The supervisor owns every catalog. It lets one go when nothing is to be forked with it any
more and no process that was has been left unreaped: its segments are unlinked, its archive
descriptors closed. A child keeps the one that it was forked for and closes the others right
after the fork, or their memory would live as long as it does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from edge_server.config.schema import Config
from edge_server.shm.admission import Ledger
from edge_server.shm.catalog import Catalog
from edge_server.shm.segment import segment_name


@dataclass(frozen=True, slots=True)
class Generation:
    """One loaded configuration with its packs.

    Attributes:
        cpus: the CPU of each worker slot; None is not pinned.
        ledger: of its rate limit; generations with the same limit have the same.
    """

    config: Config
    catalog: Catalog
    cpus: tuple[int | None, ...]
    ledger: Ledger

    @property
    def number(self) -> int:
        """Its number, from 1."""
        return self.catalog.generation


class Generations:
    """Every generation that is still in use, by number."""

    def __init__(self, first: Generation) -> None:
        self._kept = {first.number: first}

    def __getitem__(self, number: int) -> Generation:
        return self._kept[number]

    def add(self, generation: Generation) -> None:
        """Keep one more."""
        assert generation.number not in self._kept
        self._kept[generation.number] = generation

    def numbers(self) -> list[int]:
        """Return the numbers of those that are kept, in order."""
        return sorted(self._kept)

    def release(self, used: Collection[int]) -> None:
        """Let go of every generation that is not among `used`."""
        for number in self._kept.keys() - used:
            gone = self._kept.pop(number)
            gone.catalog.unlink()
            gone.catalog.close()
            if not any(kept.ledger is gone.ledger for kept in self._kept.values()):
                gone.ledger.segment.unlink()
                gone.ledger.close()

    def close_others(self, number: int | None) -> None:
        """Right after a fork, in the child: close every catalog but that of `number`."""
        for other in self._kept.keys() - {number}:
            self._kept[other].catalog.close()


def ledger_for(config: Config, number: int, running: Generation) -> Ledger:
    """Return the ledger for generation `number`: the one in use, unless the rate limit changes.

    Raises:
        ResourceError: there is no room for another.
    """
    if _rate(config) == _rate(running.config):
        return running.ledger
    return running.ledger.successor(segment_name(f"admission-g{number}"))


def _rate(config: Config) -> tuple[int, int]:
    return config.ingress.rps_limit, config.ingress.rps_burst


def keep_fixed(config: Config, running: Config) -> tuple[Config, list[str]]:
    """Return `config` with what only a restart can change as it is, and the keys that would have.

    The listening sockets, the number of their slots, and what fills share outlive every generation.
    """
    keys = []
    for key in ("bind_addr", "metrics_addr"):
        if getattr(config, key) != getattr(running, key):
            keys.append(key)
            config = replace(config, **{key: getattr(running, key)})
    if config.workers.count != running.workers.count:
        keys.append("workers.count")
        config = replace(config, workers=replace(config.workers, count=running.workers.count))
    if config.edge.mode != running.edge.mode:
        keys.append("edge.mode")
        config = replace(config, edge=replace(config.edge, mode=running.edge.mode))
    return config, keys
