"""Every metric of this version, declared once: name, labels, buckets, a sentence for the operator.

Process      any; counters and histograms live in one file a process and kind, gauges are
             read from the scoreboard when the sidecar is scraped, so none outlives its process.
Memory       the files of prometheus_client's multiprocess mode in PROMETHEUS_MULTIPROC_DIR,
             64 KiB each and sparse, named by identity (``3a``), never by pid.
Consistency  one writer a file: a value is read back when its identity is taken again, so a
             total never goes backwards. A reader may see values of different ticks.
Lifetime     the folder is the supervisor's; files stay until it goes.

prometheus_client is imported by the first call that needs it: it reads the environment then.
``python -m edge_server.observe.metrics`` prints docs/METRICS.md.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram

COUNTER, HISTOGRAM, GAUGE = "counter", "histogram", "gauge"

ASSETS, HEALTHZ, READYZ, OTHER = "/edge/assets", "/healthz", "/readyz", "other"
ROUTES = (ASSETS, HEALTHZ, READYZ, OTHER)
METHODS = ("GET", "HEAD", "OPTIONS", OTHER)
COMPONENTS = ("worker", "sidecar")
ACCEPT = "accept"  # the queue of connections that nobody has taken yet
FILL = "fill"  # the queue of fetches
MISS_CAUSES = ("cold", "stale", "bypass")
PARK_RESULTS = (
    *("stored", "revalidated", "stale", "passed", "refused"),
    *("timeout", "fill_unavailable", "gone", "read", "direct"),
)

# Doubling steps around the objectives (p95 40 ms, p99 80 ms); finer below, where hits are.
LATENCY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)


class Declared(NamedTuple):
    """One metric. `labels` are pairs of a label and what its values can be."""

    name: str
    kind: str
    help: str
    labels: tuple[tuple[str, str], ...] = ()
    buckets: tuple[float, ...] = ()


_ROUTE = ("route", ", ".join(f"`{route}`" for route in ROUTES))
_METHOD = ("method", ", ".join(f"`{method}`" for method in METHODS))
_SLOT = ("slot", "number of the worker slot, from 0")
_ORIGIN = ("host", "the entry of `edge.allow` that allows it, else `other`")

DECLARED = (
    Declared(
        "http_requests_total",
        COUNTER,
        "Requests answered on the asset plane; refused ones are among them.",
        (_ROUTE, _METHOD, ("status", "HTTP status code")),
    ),
    Declared(
        "request_latency_seconds",
        HISTOGRAM,
        "Time from taking up a request until its answer was handed over for sending.",
        (_ROUTE, _METHOD),
        LATENCY_BUCKETS_S,
    ),
    Declared(
        "inflight_requests",
        GAUGE,
        "Requests in hand of all workers together: being answered, or parked.",
        (("route", f"`{ASSETS}`"),),
    ),
    Declared(
        "edge_inflight",
        GAUGE,
        "Requests in hand at an endpoint; compare `assets` with ingress.max_inflight to scale.",
        (("endpoint", "`assets`, `admin`"),),
    ),
    Declared(
        "rejected_total",
        COUNTER,
        "Requests refused, by the reason that X-Reason told the client.",
        (("reason", "a reason of the HTTP contract, e.g. `not_found`, `invalid_range`, `pack_io`"),),
    ),
    Declared(
        "busy_rejections_total",
        COUNTER,
        "Requests refused as `busy`: too many in hand, or waiting too long for their turn.",
        (("endpoint", "`assets`"),),
    ),
    Declared(
        "edge_queue_depth",
        GAUGE,
        "What waits in a queue: connections that no worker has taken yet, or fetches of fills.",
        (("queue", "`accept`, `fill`"),),
    ),
    Declared(
        "edge_queue_dropped_total",
        COUNTER,
        "What a full queue had no room for; of `accept`, also what is turned away while stopping.",
        (("queue", "`accept`, `fill`"),),
    ),
    Declared(
        "edge_cache_hits_total",
        COUNTER,
        "Requests answered from what is held locally.",
        (
            ("kind", "`pack`, or `cas` of a filled object"),
            ("range", "`true` for a partial answer (206), else `false`"),
        ),
    ),
    Declared(
        "edge_cache_misses_total",
        COUNTER,
        "Requests for which the origin had to be asked first.",
        (("cause", "`cold`, `stale`, or `bypass` where only the request forbade what is held"),),
    ),
    Declared(
        "edge_range_requests_total",
        COUNTER,
        "Range requests that were answered in part (206) or could not be satisfied (416).",
        (("result", "`206`, `416`"),),
    ),
    Declared(
        "edge_cas_writes_total",
        COUNTER,
        "Bodies given to the store of filled objects; `dedup` were there already, `error` found no room.",
        (("status", "`ok`, `dedup`, `error`"),),
    ),
    Declared(
        "edge_cas_bytes",
        GAUGE,
        "Bytes of bodies in the store of filled objects; a body can be in both tiers.",
        (("tier", "`memory`, `disk`"),),
    ),
    Declared(
        "edge_cas_evictions_total",
        COUNTER,
        "Bodies that a tier gave up for others.",
        (("tier", "`memory`, `disk`"),),
    ),
    Declared("edge_bytes_out_total", COUNTER, "Bytes of answer bodies, without headers.", (_ROUTE,)),
    Declared("edge_bytes_in_total", COUNTER, "Bytes of request bodies, without headers.", (_ROUTE,)),
    Declared(
        "edge_connections",
        GAUGE,
        "Client connections of the asset plane, by what they are doing.",
        (("state", "`reading` (a request arrives), `busy` (it is answered), `parked`, `idle`, `closing`"),),
    ),
    Declared(
        "edge_parked", GAUGE, "Requests of the slot's worker that wait for a fill or for a disk.", (_SLOT,)
    ),
    Declared(
        "edge_parks_total",
        COUNTER,
        "Requests that waited for a fill or for a disk, by what came of it.",
        (
            (
                "result",
                "`stored`, `revalidated`, `stale`, `passed` (not to be stored), `refused`, `timeout`, "
                "`fill_unavailable` (no sidecar in time), `gone` (the client left), `read` (the sidecar has "
                "read the bytes ahead, or hashed them), `direct` (no sidecar was there: the worker read them "
                "itself; also a body on its way)",
            ),
        ),
    ),
    Declared(
        "edge_slow_clients_total",
        COUNTER,
        "Connections ended because their client was slower than the limits.",
        (("kind", "`header`, `body` (of a request), `send` (reading its answer), `idle`"),),
    ),
    Declared(
        "io_timeouts_total",
        COUNTER,
        "Reads from clients and writes to them that took too long; and attempts to connect to an origin, "
        "or to get its answer.",
        (("op", "`read`, `write`, `connect`, `fill`"),),
    ),
    Declared(
        "edge_live_fill_attempts_total",
        COUNTER,
        "Attempts to fetch from origins, retries and hedges among them.",
        (_ORIGIN,),
    ),
    Declared(
        "edge_live_fill_success_total",
        COUNTER,
        "Fills that brought a usable answer; a 304 and a 404 are such.",
        (_ORIGIN,),
    ),
    Declared(
        "fill_latency_seconds",
        HISTOGRAM,
        "Time from the begin of a fill to its usable answer, retries among it, waiting in the queue not.",
        (_ORIGIN,),
        LATENCY_BUCKETS_S,
    ),
    Declared("edge_fill_coalesced_total", COUNTER, "Requests that joined a fill that was under way."),
    Declared(
        "backoff_retries_total",
        COUNTER,
        "Attempts that were made again after a failure and a wait.",
        (("op", "`live_fill`"),),
    ),
    Declared(
        "service_restarts_total",
        COUNTER,
        "Processes that ended without being told to, or were killed as they were stuck.",
        (("component", ", ".join(f"`{component}`" for component in COMPONENTS)),),
    ),
    Declared("edge_worker_up", GAUGE, "1 while a worker of the slot takes requests, else 0.", (_SLOT,)),
    Declared(
        "edge_worker_loop_lag_seconds",
        GAUGE,
        "How late the last tick of the slot's worker came, or the next one is by now.",
        (_SLOT,),
    ),
    Declared("edge_generation", GAUGE, "Number of the configuration, with its packs, that is being served."),
    Declared(
        "edge_config_last_reload_successful",
        GAUGE,
        "0 if the last reload failed and the generation before it is served on, else 1.",
    ),
    Declared(
        "edge_config_last_reload_success_timestamp_seconds",
        GAUGE,
        "When a configuration was last taken over, by the start or a reload; Unix time.",
    ),
    Declared("edge_ready", GAUGE, "1 while every readiness gate holds, else 0; /readyz names the missing."),
    Declared(
        "edge_build_info",
        GAUGE,
        "Always 1; the labels tell what is running.",
        (("version", "of svc-edge"), ("python", "version of the interpreter"), ("mode", "`offline`, `live`")),
    ),
)


class Metrics:
    """The counters and histograms of this process, each under the name it is declared with."""

    http_requests_total: Counter
    request_latency_seconds: Histogram
    rejected_total: Counter
    busy_rejections_total: Counter
    edge_queue_dropped_total: Counter
    edge_cache_hits_total: Counter
    edge_cache_misses_total: Counter
    edge_parks_total: Counter
    edge_range_requests_total: Counter
    edge_live_fill_attempts_total: Counter
    edge_live_fill_success_total: Counter
    fill_latency_seconds: Histogram
    edge_fill_coalesced_total: Counter
    backoff_retries_total: Counter
    edge_cas_writes_total: Counter
    edge_cas_evictions_total: Counter
    edge_bytes_out_total: Counter
    edge_bytes_in_total: Counter
    edge_slow_clients_total: Counter
    io_timeouts_total: Counter
    service_restarts_total: Counter

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        registry = CollectorRegistry()
        for name, kind, text, labels, buckets in DECLARED:
            names = [label for label, _ in labels]
            if kind == COUNTER:
                setattr(self, name, Counter(name, text, names, registry=registry))
            elif kind == HISTOGRAM:
                setattr(self, name, Histogram(name, text, names, registry=registry, buckets=buckets))


class _Process:
    """Which process this is; the one thing that changes after a fork."""

    identity = ""


def name_process(identity: str) -> None:
    """Let this process write the metrics files of `identity`.

    Called by the supervisor before it makes metrics and by each child right after the
    fork. What was inherited is reopened under the new name by the next write.

    Args:
        identity: distinct among live processes; no underscore, which separates the
            parts of a file's name.
    """
    assert identity
    assert "_" not in identity
    from prometheus_client import values

    is_first = not _Process.identity
    _Process.identity = identity
    if is_first:
        values.ValueClass = values.MultiProcessValue(lambda: _Process.identity)  # type: ignore[no-untyped-call]


@cache
def metrics() -> Metrics:
    """Return this process's metrics; `name_process` and PROMETHEUS_MULTIPROC_DIR come first."""
    assert _Process.identity, "name_process comes first"
    return Metrics()


def document() -> str:
    """Return docs/METRICS.md."""
    rows = [
        "# Metrics",
        "",
        "Scraped from `/metrics` on the admin plane (`metrics_addr`), summed over all processes. Times are",
        "in seconds, sizes in bytes. Label sets are bounded: no path, no client, no free text.",
        "",
        "Generated by `python -m edge_server.observe.metrics > docs/METRICS.md`.",
        "",
        "| Metric | Kind | Labels | Meaning |",
        "| --- | --- | --- | --- |",
    ]
    for name, kind, text, labels, _ in DECLARED:
        told = "; ".join(f"`{label}`: {values}" for label, values in labels) or "none"
        rows.append(f"| `{name}` | {kind} | {told} | {text} |")
    bounds = ", ".join(f"{bound:g}" for bound in LATENCY_BUCKETS_S)
    rows += ["", f"Upper bounds of the latency buckets, in seconds: {bounds}, +Inf.", ""]
    return "\n".join(rows)


if __name__ == "__main__":
    print(document(), end="")
