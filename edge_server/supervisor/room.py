"""Room at /dev/shm: whether it has what an instance will need beside what is reserved already.

Whoever writes to a page that a full tmpfs does not have is killed by SIGBUS. Segments reserve theirs when
they are made (shm/segment.py); files of metrics and the memory tier of filled objects grow as they are
written to. So it is an error at the start and not an accident of a busy hour. The supervisor asks before it
reads packs, and again when the catalog has its part; `svc-edge doctor` asks too. Reads only.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edge_server.config.schema import Config
from edge_server.config.units import spoken_size
from edge_server.errors import ResourceError
from edge_server.shm.fill_index import bytes_for, records_for
from edge_server.shm.segment import SHM_DIR

SPARE_BYTES = 8 << 20  # for metrics: a file of a few pages for each kind of metric and each identity


def index_records(config: Config) -> int:
    """Return how many records the fill index of an instance has."""
    cas = config.cas
    return records_for(cas.memory_bytes, cas.max_bytes if cas.path is not None else 0)


def needed_bytes(config: Config) -> int:
    """Return what must be free beside the catalog."""
    return sum(size for size, _ in _parts(config))


def require_room(config: Config, folder: Path = SHM_DIR) -> None:
    """Return if a tmpfs has room for what will be needed of it.

    Raises:
        ResourceError: it has not; the text says how much is missing and what helps.
    """
    free = shutil.disk_usage(folder).free
    if free >= needed_bytes(config):
        return
    parts = ", ".join(f"{spoken_size(size)} for {purpose}" for size, purpose in _parts(config))
    smaller = "set a smaller cas.memory_bytes, or " if config.edge.mode == "live" else ""
    raise ResourceError(
        f"{folder} has {spoken_size(free)} free, and {config.edge.mode} mode needs "
        f"{spoken_size(needed_bytes(config))} beside the catalog: {parts}; {smaller}give it more: docker run "
        f"--shm-size, an emptyDir with medium: Memory and a sizeLimit, mount -o remount,size=SIZE {folder}"
    )


def _parts(config: Config) -> list[tuple[int, str]]:
    """Return bytes and purpose of what is needed."""
    metrics = (SPARE_BYTES, "metrics")
    if config.edge.mode != "live":
        return [metrics]
    index = (bytes_for(index_records(config)), "the fill index")
    return [index, (config.cas.memory_bytes, "cas.memory_bytes"), metrics]
