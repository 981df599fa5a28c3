"""Aggregation: one exposition of all processes' metrics for each scrape.

Process      the sidecar. Reads every process's metrics files and the scoreboard; counts from
             files, gauges from the scoreboard, so a gauge tells of processes that live now.
Consistency  the files are written while they are read: values may be of different ticks.

Specification: the Prometheus text format 0.0.4 and 1.0.0, OpenMetrics 1.0, as prometheus_client writes them.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from edge_server import __version__
from edge_server.cas.telemetry import WRITE_STATUSES
from edge_server.config.schema import Config
from edge_server.http.reasons import REASONS
from edge_server.observe.metrics import (
    ACCEPT,
    ASSETS,
    AUDIT_KINDS,
    COMPONENTS,
    DECLARED,
    FILL,
    GAUGE,
    MISS_CAUSES,
    OTHER,
    PARK_RESULTS,
    metrics,
)
from edge_server.observe.readiness import holding
from edge_server.shm.fill_index import TIERS, FillIndex, Word
from edge_server.shm.reload_record import Result
from edge_server.shm.scoreboard import SIDECAR_SLOT, Field, Row, Scoreboard, WorkerState
from edge_server.sidecar.metric_files import MetricFiles

_TICK_NS = 100_000_000  # of the guard; a loop that has not turned for longer is late
_LIVE = (WorkerState.STARTING, WorkerState.SERVING, WorkerState.DRAINING)
_HELP = {declared.name: declared.help for declared in DECLARED if declared.kind == GAUGE}
_LABELS = {declared.name: [label for label, _ in declared.labels] for declared in DECLARED}


# state -> the scoreboard's words that count it
_CONNECTIONS = {
    "reading": (Field.READING,),
    "busy": (Field.INFLIGHT,),
    "parked": (Field.PARKED,),
    "idle": (Field.IDLE,),
    "closing": (Field.CLOSING,),
}


class Exposition:
    """What ``/metrics`` answers.

    Args:
        metrics_dir: folder of the multiprocess files.
        scoreboard: of this instance.
        config: of this generation; its mode and its limits are shown.
        fill_index: of this instance; None where nothing is filled.
    """

    def __init__(
        self, metrics_dir: str, scoreboard: Scoreboard, config: Config, fill_index: FillIndex | None = None
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(MetricFiles(metrics_dir))
        self._registry.register(_Gauges(scoreboard, config, fill_index))

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition and its media type, in the format that `accept` asks for."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


def show_zeros(origins: Sequence[str] = (OTHER,)) -> None:
    """Create the series whose labels are known, so that a first increase is one that rate() sees.

    Args:
        origins: the values of the label `host`.
    """
    declared = metrics()
    for kind in AUDIT_KINDS:
        declared.audit_records_total.labels(kind)
    for reason in REASONS:
        declared.rejected_total.labels(reason)
    for component in COMPONENTS:
        declared.service_restarts_total.labels(component)
    declared.busy_rejections_total.labels("assets")
    for queue in (ACCEPT, FILL):
        declared.edge_queue_dropped_total.labels(queue)
    for status in WRITE_STATUSES:
        declared.edge_cas_writes_total.labels(status)
    for tier in TIERS:
        declared.edge_cas_evictions_total.labels(tier)
    for status in ("206", "416"):
        declared.edge_range_requests_total.labels(status)
    for kind in ("header", "body", "send", "idle"):
        declared.edge_slow_clients_total.labels(kind)
    for op in ("read", "write", "connect", "fill"):
        declared.io_timeouts_total.labels(op)
    declared.backoff_retries_total.labels("live_fill")
    for host in origins:
        declared.edge_live_fill_attempts_total.labels(host)
        declared.edge_live_fill_success_total.labels(host)
        declared.fill_latency_seconds.labels(host)
    for is_partial in ("true", "false"):
        declared.edge_cache_hits_total.labels("pack", is_partial)
        declared.edge_cache_hits_total.labels("cas", is_partial)
    for cause in MISS_CAUSES:
        declared.edge_cache_misses_total.labels(cause)
    for result in PARK_RESULTS:
        declared.edge_parks_total.labels(result)


class _Gauges(Collector):
    """Gauges, as scoreboard and fill index have them at this moment."""

    def __init__(self, scoreboard: Scoreboard, config: Config, fill_index: FillIndex | None) -> None:
        self._scoreboard = scoreboard
        self._fill_index = fill_index
        self._build = (__version__, platform.python_version(), config.edge.mode)
        self._max_inflight = config.ingress.max_inflight

    def collect(self) -> Iterator[Metric]:
        for name, samples in self._samples().items():
            family = GaugeMetricFamily(name, _HELP[name], labels=_LABELS[name])
            for labels, value in samples:
                family.add_metric([str(label) for label in labels], value)
            yield family

    def _samples(self) -> dict[str, list[tuple[tuple[Any, ...], float]]]:
        board = self._scoreboard
        reloads = board.reloads.read()
        live = [row for row in board.rows() if row.state in _LIVE]
        workers = [row for row in live if row.slot != SIDECAR_SLOT]
        assets = _inflight(workers)
        admin = _inflight(row for row in live if row.slot == SIDECAR_SLOT)
        by_slot = [(slot, [row for row in workers if row.slot == slot]) for slot in range(board.slots)]
        return {
            "inflight_requests": [((ASSETS,), assets)],
            "edge_inflight": [(("assets",), assets), (("admin",), admin)],
            "edge_inflight_limit": [(("assets",), self._max_inflight)],
            "edge_queue_depth": [
                ((ACCEPT,), sum(_queued(rows) for _, rows in by_slot)),
                ((FILL,), max(row.get(Field.FILL_QUEUE) for row in board.rows())),
            ],
            "edge_worker_up": [((slot,), _is_up(rows)) for slot, rows in by_slot],
            "edge_worker_loop_lag_seconds": [((slot,), _lag_s(rows)) for slot, rows in by_slot if rows],
            "edge_connections": [
                ((state,), sum(row.get(field) for row in workers for field in fields))
                for state, fields in _CONNECTIONS.items()
            ],
            "edge_parked": [
                ((slot,), sum(row.get(Field.PARKED) for row in rows)) for slot, rows in by_slot if rows
            ],
            "edge_cas_bytes": _stored(self._fill_index),
            "edge_generation": [((), board.generation)],
            "edge_config_last_reload_successful": [((), reloads.result is not Result.FAILED)],
            "edge_config_last_reload_success_timestamp_seconds": [((), reloads.success_unix_ns / 1e9)],
            "edge_ready": [((), not board.missing_gates)],
            "edge_readiness_gate": [((name,), holds) for name, holds in holding(board).items()],
            "edge_build_info": [(self._build, 1)],
        }


def _stored(index: FillIndex | None) -> list[tuple[tuple[Any, ...], float]]:
    """Return the bytes that each tier of the store holds."""
    words = (Word.MEMORY_BYTES, Word.DISK_BYTES)
    return [
        ((tier,), 0 if index is None else index.get(word)) for tier, word in zip(TIERS, words, strict=True)
    ]


def _inflight(rows: Iterable[Row]) -> int:
    """Return the requests in hand, as ingress.max_inflight counts them."""
    return sum(row.get(Field.INFLIGHT) + row.get(Field.PARKED) for row in rows)


def _queued(rows: list[Row]) -> int:
    """Return the depth of a slot's queue; while one worker drains and another comes, both see the same."""
    return max((row.get(Field.QUEUED) for row in rows), default=0)


def _is_up(rows: list[Row]) -> bool:
    return any(row.state is WorkerState.SERVING for row in rows)


def _lag_s(rows: list[Row]) -> float:
    """Return how late the last tick of the slot's processes came, or the next one is by now."""
    return max(max(row.get(Field.LOOP_LAG_NS), _late_ns(row)) for row in rows) / 1e9


def _late_ns(row: Row) -> int:
    """Return how late a process is that does not tick: it cannot say so itself."""
    beat_ns = row.get(Field.BEAT_NS)
    if not beat_ns or row.state is WorkerState.STARTING:
        return 0
    return max(0, time.monotonic_ns() - beat_ns - _TICK_NS)
