"""The status of an instance as one JSON-able value: what the page shows and programs read.

Process      the sidecar. Reads scoreboard, catalog, totals and /proc; names no file of this machine.
Consistency  each process's row is read once; rows are of different ticks.

docs/STATUS.md says what each field means.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from edge_server import __version__
from edge_server.config.checks import WITHOUT_EFFECT
from edge_server.config.schema import Config
from edge_server.observe.readiness import missing
from edge_server.roles import Brief, FillBrief
from edge_server.shm.catalog import Catalog
from edge_server.shm.fill_index import DISK, MEMORY, TIERS, DiskState, Word
from edge_server.shm.scoreboard import SIDECAR_SLOT, Field, Gate, Row, WorkerState
from edge_server.sidecar.hashing import Hashing
from edge_server.sidecar.reloading import last_reload
from edge_server.sidecar.tiles import PREVIEW_PATH, TILES_PATH
from edge_server.sidecar.traffic import Now, Traffic

Status = dict[str, Any]

_MEMORY_AGE_S = 2.0  # the kernel walks all pages of a process to tell its share


class StatusReader:
    """Makes the status of the instance that a brief belongs to.

    Args:
        brief: of the sidecar.
        hashing: tells how many digests are still to be computed.
        traffic: what goes through the instance.
    """

    def __init__(self, brief: Brief, hashing: Hashing, traffic: Traffic) -> None:
        self._brief = brief
        self._hashing = hashing
        self._traffic = traffic
        self._memory = _MemoryReader()

    def read(self, history_after: int | None = None) -> Status:
        """Return what ``/api/status`` answers. Sizes are bytes, times seconds or as named.

        Args:
            history_after: number of the last point of the history that the reader has; None leaves
                the history out.
        """
        board = self._brief.scoreboard
        assets, admin = self._brief.addresses
        absent = missing(board)
        now = self._traffic.now()
        rows = [row for row in board.rows() if row.state is not WorkerState.EMPTY]
        processes = [self._process(row, now) for row in rows]
        status = {
            "service": "svc-edge",
            "version": __version__,
            "mode": self._brief.config.edge.mode,
            "generation": board.generation,
            "last_reload": last_reload(board.reloads),
            "uptime_s": round((time.monotonic_ns() - board.started_ns) / 1e9, 3),
            "ready": not absent,
            "degraded": bool(absent) or board.is_degraded,
            "gates": {name: name not in absent for name in (str(gate.name).lower() for gate in Gate)},
            "draining": board.is_operator_drain,
            "stopping": board.is_stopping,
            "addresses": {"assets": assets, "admin": admin},
            "slots": board.slots,
            "heartbeat_timeout_s": _heartbeat_timeout_s(self._brief.config),
            "traffic": now.traffic(),
            "connections": _connections(rows),
            "fills": self._fills(now, rows),
            "cas": self._cas(now),
            "workers": [each for each in processes if each["slot"] != SIDECAR_SLOT],
            "sidecars": [each for each in processes if each["slot"] == SIDECAR_SLOT],
            "packs": packs(self._brief.catalog),
            "digests_pending": self._hashing.pending,
        }
        if history_after is not None:
            status["history"] = self._traffic.history(history_after)
        return status

    def _process(self, row: Row, now: Now) -> Status:
        pid = row.pid
        rss, pss = self._memory.read(pid)
        cpu = row.get(Field.CPU)
        return {
            "slot": row.slot,
            "identity": row.identity,
            "pid": pid,
            "state": row.state.name.lower(),
            "cpu": cpu - 1 if cpu else None,
            "generation": row.get(Field.GENERATION),
            "beat_age_ms": max(0, time.monotonic_ns() - row.get(Field.BEAT_NS)) // 1_000_000,
            "loop_lag_ms": round(row.get(Field.LOOP_LAG_NS) / 1e6, 3),
            "requests": row.get(Field.REQUESTS),
            "requests_per_s": now.process_rate(pid),
            "inflight": row.get(Field.INFLIGHT),
            "parked": row.get(Field.PARKED),
            "connections": row.get(Field.CONNECTIONS),
            "shed": row.get(Field.SHED),
            "bytes_out": row.get(Field.BYTES_OUT),
            "rss_bytes": rss,
            "pss_bytes": pss,
        }

    def _fills(self, now: Now, rows: Sequence[Row]) -> Status | None:
        if self._brief.fills is None:
            return None
        return {
            **now.fills(),
            "queue": max((row.get(Field.FILL_QUEUE) for row in rows), default=0),
            "parked": sum(row.get(Field.PARKED) for row in rows if row.slot != SIDECAR_SLOT),
        }

    def _cas(self, now: Now) -> Status | None:
        fills = self._brief.fills
        if fills is None:
            return None
        evictions = now.evictions()
        tiers = [
            {**tier, "evictions": evictions.get(tier["tier"], 0)}
            for tier in _tiers(fills, self._brief.config)
        ]
        return {"tiers": tiers, "writes": now.writes()}


def _tiers(fills: FillBrief, config: Config) -> list[Status]:
    """Return the tiers of the store: what each holds and may hold; `state` is ``usable`` or ``unusable``."""
    index, cas = fills.index, config.cas
    memory: Status = {
        "tier": TIERS[MEMORY],
        "state": "usable",
        "bytes": index.get(Word.MEMORY_BYTES),
        "max_bytes": cas.memory_bytes,
    }
    if cas.path is None or config.security.amnesia:
        return [memory]
    disk = {
        "tier": TIERS[DISK],
        "state": "unusable" if index.get(Word.DISK_STATE) == DiskState.UNUSABLE else "usable",
        "bytes": index.get(Word.DISK_BYTES),
        "max_bytes": cas.max_bytes,
    }
    return [memory, disk]


def _connections(rows: Sequence[Row]) -> dict[str, int]:
    """Return how many clients of the asset plane are in each state."""
    words = {
        "reading": Field.READING,
        "busy": Field.INFLIGHT,
        "parked": Field.PARKED,
        "idle": Field.IDLE,
        "closing": Field.CLOSING,
    }
    workers = [row for row in rows if row.slot != SIDECAR_SLOT]
    return {state: sum(row.get(field) for row in workers) for state, field in words.items()}


def _heartbeat_timeout_s(config: Config) -> float | None:
    """Return after how long a worker that does not beat is killed; None where nothing kills it."""
    return None if "workers.heartbeat_timeout" in WITHOUT_EFFECT else config.workers.heartbeat_timeout


def packs(catalog: Catalog) -> list[Status]:
    """Return what ``/api/packs`` answers.

    `bytes` is what a pack's files measure, `verified` how it was verified when it was mounted; `tilejson`
    and `preview` are paths of the admin plane, None for what is no tile set.
    """
    return [
        {
            "name": pack.name,
            "kind": pack.kind,
            "entries": pack.entries,
            "tiles": pack.tiles,
            "bytes": pack.bytes,
            "min_zoom": pack.min_zoom,
            "max_zoom": pack.max_zoom,
            "verified": pack.verified,
            "tilejson": f"{TILES_PATH}{quote(pack.name)}.json" if pack.name in catalog.tilesets else None,
            "preview": f"{PREVIEW_PATH}{quote(pack.name)}" if pack.name in catalog.tilesets else None,
        }
        for pack in catalog.packs
    ]


class _MemoryReader:
    """Resident and proportional set sizes by pid, read again when they are old."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[float, int | None, int | None]] = {}

    def read(self, pid: int) -> tuple[int | None, int | None]:
        """Return ``(rss, pss)`` in bytes, None where the kernel does not tell."""
        now = time.monotonic()
        self._known = {key: known for key, known in self._known.items() if now - known[0] < _MEMORY_AGE_S}
        if pid not in self._known:
            self._known[pid] = (now, *_read_memory(pid))
        return self._known[pid][1:]


def _read_memory(pid: int) -> tuple[int | None, int | None]:
    """Source: proc_pid_smaps(5), the sums of ``/proc/PID/smaps_rollup`` in KiB."""
    sizes: dict[bytes, int] = {}
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                name, *rest = line.split()
                if name in (b"Rss:", b"Pss:"):
                    sizes[name] = int(rest[0]) << 10
    except OSError:
        return None, None
    return sizes.get(b"Rss:"), sizes.get(b"Pss:")
