"""What fills need to be shared: the fill index, the folder of the memory tier, the channels.

Process      made by the supervisor before the first fork, in live mode; it uses none of it.
Lifetime     the supervisor's: a sidecar that dies leaves all of it to its successor. `remove_own`
             takes index and folder away at the end, `remove_stale` those of a supervisor that was killed.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from edge_server.config.schema import Config
from edge_server.config.units import spoken_size
from edge_server.errors import ResourceError
from edge_server.roles import FillBrief
from edge_server.shm.fill_index import FillIndex, bytes_for, records_for
from edge_server.shm.scoreboard import SIDECAR_SLOT, identity_of
from edge_server.shm.segment import SHM_DIR, segment_name
from edge_server.supervisor.channels import Channels

# Beside index and memory tier: metrics files, whose pages are taken as they are written to.
SPARE_BYTES = 8 << 20


def needed_bytes(config: Config) -> int:
    """Return what /dev/shm must have room for, beside the catalog, in live mode."""
    return bytes_for(_records(config)) + config.cas.memory_bytes + SPARE_BYTES


def require_room(config: Config, folder: Path = SHM_DIR) -> None:
    """Return if a tmpfs has room for all that fills will need of it.

    Whoever writes to a page that a full tmpfs does not have is killed by SIGBUS; so this is an
    error at the start and not an accident of a busy hour.

    Raises:
        ResourceError: it has not; the text says how much is missing and what helps.
    """
    free = shutil.disk_usage(folder).free
    if free >= needed_bytes(config):
        return
    index, tier = bytes_for(_records(config)), config.cas.memory_bytes
    raise ResourceError(
        f"{folder} has {spoken_size(free)} free, and live mode needs {spoken_size(needed_bytes(config))}: "
        f"{spoken_size(index)} for the fill index, {spoken_size(tier)} for cas.memory_bytes, "
        f"{spoken_size(SPARE_BYTES)} for metrics; set a smaller cas.memory_bytes, or give it more: "
        "docker run --shm-size, an emptyDir with medium: Memory and a sizeLimit, "
        f"mount -o remount,size=SIZE {folder}"
    )


def _records(config: Config) -> int:
    cas = config.cas
    return records_for(cas.memory_bytes, cas.max_bytes if cas.path is not None else 0)


@dataclass(frozen=True, slots=True)
class Fills:
    """What every generation of one instance fills with."""

    index: FillIndex
    memory_folder: Path
    channels: Channels

    @classmethod
    def make(cls, config: Config, slots: int) -> Fills:
        """Return all of it, empty.

        Raises:
            ResourceError: there is no room for it.
        """
        require_room(config)
        index = FillIndex.create(segment_name("fills"), _records(config))
        folder = SHM_DIR / segment_name("cas")
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise ResourceError(f"cannot make {folder}: {error.strerror}") from error
        return cls(index, folder, Channels(slots))

    def brief(self, slot: int, letter: str) -> FillBrief:
        """Return what a process of a slot is told."""
        if slot == SIDECAR_SLOT:
            return FillBrief(self.index, self.memory_folder, self.channels.sidecar_ends())
        identity = identity_of(slot, letter)
        return FillBrief(self.index, self.memory_folder, {identity: self.channels.worker_end(identity)})

    def leave(self, slot: int | None, letter: str) -> None:
        """Right after a fork, in the child: close the channels that are not its own.

        Args:
            slot: of the child; None for one that serves nobody.
        """
        identity = None if slot is None or slot == SIDECAR_SLOT else identity_of(slot, letter)
        self.channels.leave(identity, is_sidecar=slot == SIDECAR_SLOT)
