"""What there is to count and to show: every metric, declared once, in the order of the manual.

Process      none; plain values. `metrics.py` makes counters and histograms of them,
             `sidecar/aggregate.py` fills the gauges, and docs/METRICS.md is printed from them.
"""

from __future__ import annotations

from typing import NamedTuple

COUNTER, HISTOGRAM, GAUGE = "counter", "histogram", "gauge"

ASSETS, HEALTHZ, READYZ, OTHER = "/edge/assets", "/healthz", "/readyz", "other"
ROUTES = (ASSETS, HEALTHZ, READYZ, OTHER)
METHODS = ("GET", "HEAD", "OPTIONS", OTHER)
COMPONENTS = ("worker", "sidecar")
ACCEPT = "accept"  # the queue of connections that nobody has taken yet
FILL = "fill"  # the queue of fetches
MISS_CAUSES = ("cold", "stale", "bypass")
AUDIT_KINDS = ("begin", "resume", "fill", "fill_failed", "reject", "dropped")
SPAN_RESULTS = ("exported", "failed", "dropped")
PARK_RESULTS = (
    *("stored", "revalidated", "stale", "passed", "refused"),
    *("timeout", "fill_unavailable", "gone", "read", "direct"),
)

MAX_HOSTS = 64  # of `edge.allow` that have series of their own

# Doubling steps around the objectives (p95 40 ms, p99 80 ms); finer below, where hits are.
LATENCY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)


class Declared(NamedTuple):
    """One metric.

    Attributes:
        help: what it is, told with every scrape.
        use: what an operator reads from it.
        labels: pairs of a label and what its values can be.
    """

    name: str
    kind: str
    help: str
    use: str
    labels: tuple[tuple[str, str], ...] = ()
    buckets: tuple[float, ...] = ()


_ROUTE = ("route", ", ".join(f"`{route}`" for route in ROUTES))
_METHOD = ("method", ", ".join(f"`{method}`" for method in METHODS))
_SLOT = ("slot", "number of the worker slot, from 0")
_ORIGIN = ("host", f"the entry of `edge.allow` that allows it, of the first {MAX_HOSTS}; else `other`")

GROUPS: tuple[tuple[str, tuple[Declared, ...]], ...] = (
    (
        "Requests",
        (
            Declared(
                "http_requests_total",
                COUNTER,
                "Requests answered on the asset plane; refused ones are among them.",
                "Traffic and errors: a rate by `status`. Errors of the service are 5xx with "
                '`route="/edge/assets"`; `other` is what the guard refused before it was a request.',
                (_ROUTE, _METHOD, ("status", "HTTP status code")),
            ),
            Declared(
                "request_latency_seconds",
                HISTOGRAM,
                "Time from taking up a request until its answer was handed over for sending.",
                "Whether it is slow: p95 below 0.04 s and p99 below 0.08 s where most requests are hits. A "
                "parked request counts with its wait.",
                (_ROUTE, _METHOD),
                LATENCY_BUCKETS_S,
            ),
            Declared(
                "inflight_requests",
                GAUGE,
                "Requests in hand of all workers together: being answered, or parked.",
                "Requests at this moment; steady growth at a steady rate means that something waits.",
                (("route", f"`{ASSETS}`"),),
            ),
            Declared(
                "edge_inflight",
                GAUGE,
                "Requests in hand at an endpoint; compare `assets` with ingress.max_inflight to scale.",
                "How full the instance is: `assets` at 80 % of `edge_inflight_limit` for minutes asks for "
                "another replica.",
                (("endpoint", "`assets`, `admin`"),),
            ),
            Declared(
                "edge_inflight_limit",
                GAUGE,
                "Requests in hand at which others are refused: ingress.max_inflight.",
                "The other side of `edge_inflight`: at the limit requests are refused as `busy`.",
                (("endpoint", "`assets`"),),
            ),
            Declared(
                "edge_bytes_out_total",
                COUNTER,
                "Bytes of answer bodies, without headers.",
                "Bandwidth. Divided by requests, the size of an answer.",
                (_ROUTE,),
            ),
            Declared(
                "edge_bytes_in_total",
                COUNTER,
                "Bytes of request bodies, without headers.",
                "Should be nearly nothing: bodies of requests are discarded.",
                (_ROUTE,),
            ),
            Declared(
                "edge_range_requests_total",
                COUNTER,
                "Range requests that were answered in part (206) or could not be satisfied (416).",
                "Readers of archives give many 206; 416 means clients with a wrong idea of an object's size.",
                (("result", "`206`, `416`"),),
            ),
        ),
    ),
    (
        "Refusals and queues",
        (
            Declared(
                "rejected_total",
                COUNTER,
                "Requests refused, by the reason that X-Reason told the client.",
                "Why clients are refused. `rate_limit`, `busy`, `draining` are shedding; `upstream_*`, "
                "`integrity`, `etag_invalid`, `timeout` point at origins; `pack_io` at disks; "
                "`not_allowed`, `bad_request` at clients.",
                (("reason", "a reason of the HTTP contract, e.g. `not_found`, `invalid_range`, `pack_io`"),),
            ),
            Declared(
                "busy_rejections_total",
                COUNTER,
                "Requests refused as `busy`: too many in hand, or waiting too long for their turn.",
                "Overload, apart from clients that exceed their rate.",
                (("endpoint", "`assets`"),),
            ),
            Declared(
                "edge_queue_depth",
                GAUGE,
                "What waits in a queue: connections that no worker has taken yet, or fetches of fills.",
                "Waiting work: `accept` above 0 for long means that workers do not keep up, `fill` near "
                "`fill.queue` that origins do not.",
                (("queue", "`accept`, `fill`"),),
            ),
            Declared(
                "edge_queue_dropped_total",
                COUNTER,
                "What a full queue had no room for; of `accept`, also what is turned away while stopping.",
                "Lost work: connections that the kernel dropped, or misses refused as `busy`. Should stand "
                "still.",
                (("queue", "`accept`, `fill`"),),
            ),
        ),
    ),
    (
        "Hits and misses",
        (
            Declared(
                "edge_cache_hits_total",
                COUNTER,
                "Requests answered from what is held locally.",
                "With the misses, the hit ratio; `cas` is what fills have saved.",
                (
                    ("kind", "`pack`, or `cas` of a filled object"),
                    ("range", "`true` for a partial answer (206), else `false`"),
                ),
            ),
            Declared(
                "edge_cache_misses_total",
                COUNTER,
                "Requests for which the origin had to be asked first.",
                "What went to origins. Much `cold` after a restart without `cas.path` is normal; `stale` "
                "asks for longer lifetimes at the origin.",
                (("cause", "`cold`, `stale`, or `bypass` where only the request forbade what is held"),),
            ),
            Declared(
                "edge_parked",
                GAUGE,
                "Requests of the slot's worker that wait for a fill or for a disk.",
                "Misses and cold pages that wait now; one slot far above the others hints at a stuck worker.",
                (_SLOT,),
            ),
            Declared(
                "edge_parks_total",
                COUNTER,
                "Requests that waited for a fill or for a disk, by what came of it.",
                "What misses end with. `timeout` is a slow origin or disk, `fill_unavailable` a sidecar that "
                "is gone, `gone` clients without patience. Much `read`: more is asked for than memory holds; "
                "`direct`: workers wait for disks themselves.",
                (
                    (
                        "result",
                        "`stored`, `revalidated`, `stale`, `passed` (not to be stored), `refused`, "
                        "`timeout`, `fill_unavailable` (no sidecar in time), `gone` (the client left), "
                        "`read` (the sidecar has read the bytes ahead, or hashed them), `direct` (no sidecar "
                        "was there: the worker read them itself; also a body on its way)",
                    ),
                ),
            ),
        ),
    ),
    (
        "Fills",
        (
            Declared(
                "edge_live_fill_attempts_total",
                COUNTER,
                "Attempts to fetch from origins, retries and hedges among them.",
                "Load on origins. Far above successes: retries, so failing.",
                (_ORIGIN,),
            ),
            Declared(
                "edge_live_fill_success_total",
                COUNTER,
                "Fills that brought a usable answer; a 304 and a 404 are such.",
                "With the attempts, the success ratio of each origin.",
                (_ORIGIN,),
            ),
            Declared(
                "fill_latency_seconds",
                HISTOGRAM,
                "Time from the begin of a fill to its usable answer, retries among it, waiting in the queue "
                "not.",
                "How slow an origin is; compare with `ingress.timeout_secs`.",
                (_ORIGIN,),
                LATENCY_BUCKETS_S,
            ),
            Declared(
                "edge_fill_coalesced_total",
                COUNTER,
                "Requests that joined a fill that was under way.",
                "Requests that origins were spared.",
            ),
            Declared(
                "backoff_retries_total",
                COUNTER,
                "Attempts that were made again after a failure and a wait.",
                "A rising rate is an origin that is failing, before clients notice.",
                (("op", "`live_fill`"),),
            ),
            Declared(
                "tls_handshake_failures_total",
                COUNTER,
                "TLS handshakes with origins that failed: a certificate that does not hold, or no agreement.",
                "An expired or exchanged certificate, a missing `fill.ca_bundle`, or somebody in between.",
            ),
            Declared(
                "audit_records_total",
                COUNTER,
                "Records written to the audit chain.",
                "Stands still while fills go on: nothing is audited; see `audit.enabled`.",
                (("kind", ", ".join(f"`{kind}`" for kind in AUDIT_KINDS)),),
            ),
            Declared(
                "edge_spans_total",
                COUNTER,
                "Spans of traces, by what became of them.",
                "`failed`: the collector at `otel.endpoint` did not take them; `dropped`: it is too slow.",
                (("result", ", ".join(f"`{result}`" for result in SPAN_RESULTS)),),
            ),
        ),
    ),
    (
        "The store of filled objects",
        (
            Declared(
                "edge_cas_writes_total",
                COUNTER,
                "Bodies given to the store of filled objects; `dedup` were there already, `error` found no "
                "room.",
                "`error` means that a tier takes nothing more: full, read-only or broken. Objects are "
                "served, not kept.",
                (("status", "`ok`, `dedup`, `error`"),),
            ),
            Declared(
                "edge_cas_bytes",
                GAUGE,
                "Bytes of bodies in the store of filled objects; a body can be in both tiers.",
                "How full the tiers are, against `cas.memory_bytes` and `cas.max_bytes`.",
                (("tier", "`memory`, `disk`"),),
            ),
            Declared(
                "edge_cas_evictions_total",
                COUNTER,
                "Bodies that a tier gave up for others.",
                "A high rate beside many `cold` misses: the tier is too small for what is asked for.",
                (("tier", "`memory`, `disk`"),),
            ),
        ),
    ),
    (
        "Clients and time",
        (
            Declared(
                "edge_connections",
                GAUGE,
                "Client connections of the asset plane, by what they are doing.",
                "Where clients are. Many `reading` or `closing` and few `busy` is what an attack by slow "
                "clients looks like.",
                (
                    (
                        "state",
                        "`reading` (a request arrives), `busy` (it is answered), `parked`, `idle`, `closing`",
                    ),
                ),
            ),
            Declared(
                "edge_slow_clients_total",
                COUNTER,
                "Connections ended because their client was slower than the limits.",
                "Bad networks, or an attack that holds connections. `idle` is ordinary housekeeping.",
                (("kind", "`header`, `body` (of a request), `send` (reading its answer), `idle`"),),
            ),
            Declared(
                "io_timeouts_total",
                COUNTER,
                "Reads from clients and writes to them that took too long; and attempts to connect to an "
                "origin, or to get its answer.",
                "Which side is slow: `read` and `write` are clients, `connect` and `fill` origins.",
                (("op", "`read`, `write`, `connect`, `fill`"),),
            ),
        ),
    ),
    (
        "Processes",
        (
            Declared(
                "edge_worker_up",
                GAUGE,
                "1 while a worker of the slot takes requests, else 0.",
                "0 for more than a moment: the slot's clients wait in its queue.",
                (_SLOT,),
            ),
            Declared(
                "edge_worker_loop_lag_seconds",
                GAUGE,
                "How late the last tick of the slot's worker came, or the next one is by now.",
                "Above 0.1 the worker does not get its CPU, or waits for a disk; above "
                "`workers.heartbeat_timeout` it is killed.",
                (_SLOT,),
            ),
            Declared(
                "service_restarts_total",
                COUNTER,
                "Processes that ended without being told to, or were killed as they were stuck.",
                "Should stand still. Several in minutes: a crash loop, told by `worker_exit` in the log.",
                (("component", ", ".join(f"`{component}`" for component in COMPONENTS)),),
            ),
        ),
    ),
    (
        "The instance",
        (
            Declared(
                "edge_ready",
                GAUGE,
                "1 while every readiness gate holds, else 0; /readyz names the missing.",
                "What a balancer sees. 0: `edge_readiness_gate` says why.",
            ),
            Declared(
                "edge_readiness_gate",
                GAUGE,
                "1 while a gate of readiness holds, else 0.",
                "The gate at 0 is what is wrong: `not_draining` an operator, `shedder_stable` overload, "
                "`amnesia_ok` a disk in the configuration, `cas_reachable` the disk tier.",
                (("gate", "the names that /readyz lists as `missing`, e.g. `packs_verified`, `workers_up`"),),
            ),
            Declared(
                "edge_generation",
                GAUGE,
                "Number of the configuration, with its packs, that is being served.",
                "Differs between replicas: a reload that one of them has not taken.",
            ),
            Declared(
                "edge_config_last_reload_successful",
                GAUGE,
                "0 if the last reload failed and the generation before it is served on, else 1.",
                "0: the last reload failed and the instance runs what it ran before; the log says why.",
            ),
            Declared(
                "edge_config_last_reload_success_timestamp_seconds",
                GAUGE,
                "When a configuration was last taken over, by the start or a reload; Unix time.",
                "When what runs was loaded; `time() -` it is its age.",
            ),
            Declared(
                "edge_build_info",
                GAUGE,
                "Always 1; the labels tell what is running.",
                "Which versions run where, in a roll-out.",
                (
                    ("version", "of svc-edge"),
                    ("python", "version of the interpreter"),
                    ("mode", "`offline`, `live`"),
                ),
            ),
        ),
    ),
)

DECLARED = tuple(declared for _, group in GROUPS for declared in group)
