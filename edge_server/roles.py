"""What the supervisor hands to a process that it forks.

The command line passes the supervisor the entry points of worker and sidecar as
`Roles`, so that no role imports another. A brief is made before the fork and
inherited by it; nothing in it is pickled.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_server.config.schema import Config
from edge_server.shm.admission import Ledger
from edge_server.shm.catalog import Catalog
from edge_server.shm.fill_index import FillIndex
from edge_server.shm.reports import Reports
from edge_server.shm.scoreboard import Scoreboard


@dataclass(frozen=True, slots=True)
class FillBrief:
    """What one child needs to know of fills, in live mode.

    Attributes:
        index: which key has which filled response; the sidecar writes it.
        memory_folder: the memory tier of the store, on tmpfs.
        channels: ends of channels by the worker's identity: a worker has its own one, the
            sidecar the other ends of all.
    """

    index: FillIndex
    memory_folder: Path
    channels: Mapping[str, socket.socket]


@dataclass(frozen=True, slots=True)
class Brief:
    """What one child needs to know.

    Attributes:
        slot: number of the worker slot; -1 for the sidecar.
        identity: names this process among all live ones in metrics files and
            scoreboard rows, e.g. ``3a`` or ``sidecar-b``; never with an underscore.
        row: index of this process's own row in the scoreboard.
        cpu: the one CPU it is pinned to; None leaves the inherited affinity.
        listener: the listening socket of its slot, owned by the supervisor.
        addresses: bound addresses as shown to people, (asset plane, admin plane).
        ledger: what the workers admit; a worker's row has the same index as in the scoreboard.
        metrics_dir: folder of the prometheus multiprocess files, on tmpfs.
        reports: what workers hand to the sidecar.
        fills: None in offline mode.
        errands: ends of the channels of errands, as those of fills.
    """

    slot: int
    identity: str
    row: int
    cpu: int | None
    listener: socket.socket
    addresses: tuple[str, str]
    metrics_dir: str
    config: Config
    catalog: Catalog
    scoreboard: Scoreboard
    ledger: Ledger
    reports: Reports
    fills: FillBrief | None = None
    errands: Mapping[str, socket.socket] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Roles:
    """Entry points of the children; each returns the exit code of its process."""

    worker: Callable[[Brief], int]
    sidecar: Callable[[Brief], int]
