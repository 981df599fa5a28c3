"""What fills need to be shared: the fill index, the folder of the memory tier, the channels.

Process      made by the supervisor before the first fork, in live mode; it uses none of it.
Lifetime     the supervisor's: a sidecar that dies leaves all of it to its successor. `remove_own`
             takes index and folder away at the end, `remove_stale` those of a supervisor that was killed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_server.config.schema import Config
from edge_server.errors import ResourceError
from edge_server.roles import FillBrief
from edge_server.shm.fill_index import FillIndex
from edge_server.shm.segment import SHM_DIR, segment_name
from edge_server.supervisor.channels import Channels
from edge_server.supervisor.room import index_records


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
        index = FillIndex.create(segment_name("fills"), index_records(config))
        folder = SHM_DIR / segment_name("cas")
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise ResourceError(f"cannot make {folder}: {error.strerror}") from error
        return cls(index, folder, Channels(slots))

    def brief(self, slot: int, letter: str) -> FillBrief:
        """Return what a process of a slot is told."""
        return FillBrief(self.index, self.memory_folder, self.channels.ends_of(slot, letter))
