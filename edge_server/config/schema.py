"""The settings, each declared once: key, kind, default, limits and a sentence for the operator.

One frozen class per section; attribute names are the keys of configuration files.
Validation, the JSON Schema, ``docs/CONFIG.md`` and ``svc-edge config show`` all
derive from here. Sizes are bytes and durations seconds once loaded. Knows no process
and does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from edge_server.config.addresses import Address
from edge_server.config.kinds import (
    Accepts,
    Cidr,
    CorsOrigin,
    CpuPinning,
    Duration,
    EmptyTile,
    FieldValue,
    FilePath,
    Flag,
    HostPattern,
    HttpUrl,
    Listening,
    Number,
    Rate,
    RetryReason,
    Size,
    Token,
    UrlPrefix,
    Verify,
    Whole,
    WorkerCount,
)
from edge_server.config.units import GIB, KIB, MIB

__all__ = ["ALIASES", "DERIVED", "Address", "Config"]

# Other names that are read too, and what they stand for.
ALIASES = {
    "ingress.body_bytes": "ingress.max_body_bytes",
    "ingress.decompress_max_ratio": "ingress.max_decompress_ratio",
}
# Settings that follow another one unless they are set.
DERIVED = {"ingress.rps_burst": "ingress.rps_limit"}

DEFAULT_BIND = Address("127.0.0.1", 8080)
DEFAULT_METRICS = Address("127.0.0.1", 9909)

_STRICT = ConfigDict(extra="forbid")


def about(description: str, **limits: Any) -> Any:
    """Return what a field's annotation carries: a sentence for the operator, and limits."""
    return Field(description=description, **limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackSource:
    """One element of `edge.packs`: a path, or an object with these keys."""

    __pydantic_config__ = _STRICT

    path: Annotated[FilePath, about("path or glob of archives and directories")]
    name: Annotated[
        FilePath | None,
        about("replaces the archive's base name, or gives a directory's files a prefix"),
    ] = None
    verify: Annotated[Verify | None, about("overrides `edge.verify` for this pack")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginMapping:
    """One element of `edge.origins`: paths below `prefix` are filled from below `url`."""

    __pydantic_config__ = _STRICT

    prefix: Annotated[UrlPrefix, about("beginning of the asset's path; the longest one wins")]
    url: Annotated[HttpUrl, about("what replaces the prefix at the origin")]


def _pack_source(value: object) -> object:
    """Read a bare path as ``{path: ...}``."""
    return {"path": value} if isinstance(value, str) else value


Packs = Annotated[
    tuple[Annotated[PackSource, BeforeValidator(_pack_source, json_schema_input_type=str | PackSource)], ...],
    Accepts("a list of paths, globs or objects {path, name, verify}"),
]
Origins = Annotated[tuple[OriginMapping, ...], Accepts("a list of objects {prefix, url}")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What is served, and from where."""

    __pydantic_config__ = _STRICT

    mode: Annotated[
        Literal["offline", "live"],
        about("`offline`: packs only, no egress at all; `live`: misses are filled from allowed origins"),
    ] = "offline"
    packs: Annotated[
        Packs,
        about(
            "what to serve: `*.pmtiles`, directories, globs, or objects `{path, name, verify}`; "
            "relative paths start at the working directory"
        ),
    ] = ()
    watch: Annotated[Flag, about("reload when a pack changes on disk")] = False
    allow: Annotated[
        tuple[HostPattern, ...],
        about("exact host names that fills may contact; `*.example.org` matches subdomains only"),
    ] = ()
    origins: Annotated[
        Origins,
        about("`{prefix, url}`: where misses below a prefix are filled from; the longest prefix wins"),
    ] = ()
    verify: Annotated[
        Verify,
        about("checks at mount: `none`, `index` (structure and sampled entries), `full` (every entry)"),
    ] = "index"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """The processes that serve."""

    __pydantic_config__ = _STRICT

    count: Annotated[WorkerCount, about("`auto` is one a usable CPU (affinity and cgroup quota)")] = "auto"
    pin: Annotated[
        CpuPinning,
        about(
            "`auto` gives each worker one usable CPU, a list names CPUs that slots take in turn, "
            "`none` leaves them to the scheduler"
        ),
    ] = "auto"
    heartbeat_timeout: Annotated[
        Duration, about("a worker that is silent for so long is killed and replaced", gt=0)
    ] = 5.0
    drain_timeout: Annotated[Duration, about("how long a drain may take")] = 10.0
    max_requests: Annotated[
        Whole, about("recycle a worker (drained, jittered) after so many requests; 0 never", ge=0)
    ] = 0
    warm_bytes: Annotated[
        Size,
        about(
            "memory of all workers together for copies of what is asked for most, which are sent without "
            "copying them again; 0 for none"
        ),
    ] = 128 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """Limits on what clients may ask for; per instance, across workers."""

    __pydantic_config__ = _STRICT

    timeout_secs: Annotated[Duration, about("whole-request budget, fill included", gt=0)] = 5.0
    header_timeout: Annotated[Duration, about("how long a request head may take", gt=0)] = 5.0
    idle_timeout: Annotated[Duration, about("how long a connection may stay idle", gt=0)] = 60.0
    min_send_rate: Annotated[Rate, about("a client that reads slower is disconnected")] = KIB
    max_inflight: Annotated[Whole, about("requests at once; more are 429 `busy`", ge=1)] = 512
    rps_limit: Annotated[Whole, about("requests a second; more are 429; 0 is off", ge=0)] = 0
    rps_burst: Annotated[
        Whole,
        about("requests above the rate that are let through at once; `rps_limit` unless set", ge=0),
    ] = 0
    max_body_bytes: Annotated[Size, about("largest request body")] = MIB
    max_header_bytes: Annotated[Size, about("largest request head", ge=KIB)] = 16 * KIB
    max_connections: Annotated[Whole, about("connections at once", ge=1)] = 10_000
    max_decompress_ratio: Annotated[Number, about("how far anything may grow when inflated here", ge=1)] = (
        10.0
    )
    decompress_abs_bytes: Annotated[Size, about("how large anything may become when inflated here", gt=0)] = (
        10 * MIB
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """How misses are fetched from origins, in live mode."""

    __pydantic_config__ = _STRICT

    concurrency: Annotated[Whole, about("fetches at once", ge=1)] = 64
    queue: Annotated[Whole, about("fills that may wait; a full queue is 429 `busy`", ge=0)] = 512
    per_host: Annotated[Whole, about("fetches at once from one host", ge=1)] = 16
    connect_timeout: Annotated[Duration, about("how long connecting may take", gt=0)] = 2.0
    read_timeout: Annotated[Duration, about("how long an origin may stay silent", gt=0)] = 5.0
    max_object_bytes: Annotated[
        Size,
        about("largest object that is fetched whole; of a larger one, what ranges may take at once", gt=0),
    ] = 64 * MIB
    hedge_after: Annotated[
        Duration, about("a second attempt when the first is slower than this; 0 is off")
    ] = 0.0
    forward_headers: Annotated[
        tuple[Token, ...],
        about("request fields passed on to origins, besides those that select content"),
    ] = ()
    negative_ttl: Annotated[Duration, about("how long a 404 of an origin is remembered")] = 10.0
    stale_if_error: Annotated[
        Duration, about("how long a stale object may stand in for a failing origin")
    ] = 3600.0
    stale_while_revalidate: Annotated[
        Duration, about("how long a stale object is served while it is fetched again")
    ] = 30.0
    allow_private: Annotated[
        tuple[Cidr, ...],
        about("networks of on-premise origins; other private addresses are refused"),
    ] = ()
    insecure_http: Annotated[Flag, about("allow origins without TLS")] = False
    ca_bundle: Annotated[
        FilePath, about("certificates that origins are checked against: `system` or a file")
    ] = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFillRetry:
    """Attempt n waits min(max_ms, base_ms * 2^n), plus up to base_ms at random."""

    __pydantic_config__ = _STRICT

    base_ms: Annotated[Whole, about("first wait, in ms", ge=1)] = 50
    max_ms: Annotated[Whole, about("longest wait before jitter, in ms", ge=1)] = 800
    max_retries: Annotated[Whole, about("attempts after the first", ge=0, le=5)] = 3
    jitter: Annotated[Flag, about("spread the waits at random")] = True
    retry_on: Annotated[
        tuple[RetryReason, ...],
        about("what is tried again: statuses and `timeout`"),
    ] = (502, 503, 504, "timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What is tried again, and when."""

    __pydantic_config__ = _STRICT

    live_fill: LiveFillRetry = field(default_factory=LiveFillRetry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cas:
    """The store of filled objects, addressed by content."""

    __pydantic_config__ = _STRICT

    memory_bytes: Annotated[Size, about("size of the shared-memory tier")] = 256 * MIB
    path: Annotated[FilePath | None, about("folder of the disk tier; none keeps everything in memory")] = None
    max_bytes: Annotated[Size, about("size of the disk tier", gt=0)] = 10 * GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """What the server refuses to do."""

    __pydantic_config__ = _STRICT

    amnesia: Annotated[Flag, about("nothing is ever written to a disk")] = False
    hsts: Annotated[Flag, about("send Strict-Transport-Security, over TLS only")] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """A listener with TLS."""

    __pydantic_config__ = _STRICT

    bind_addr: Annotated[Listening | None, about("where to listen with TLS")] = None
    cert: Annotated[FilePath | None, about("certificate chain, PEM")] = None
    key: Annotated[FilePath | None, about("private key of the certificate, PEM")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """Which pages of other origins may read assets; none unless listed."""

    __pydantic_config__ = _STRICT

    allow_origins: Annotated[
        tuple[CorsOrigin, ...],
        about("origins that may read, exactly as browsers send them; `*` is all of them"),
    ] = ()
    allow_methods: Annotated[
        tuple[Token, ...], about("methods named in preflights; none stands for GET and HEAD")
    ] = ()
    allow_headers: Annotated[
        tuple[Token, ...],
        about(
            "request fields that pages may send besides the safelisted ones, `*` for any; "
            "none stands for `Range`, the conditional fields and `X-Corr-ID`"
        ),
    ] = ()
    max_age: Annotated[Duration, about("how long a browser may remember a preflight")] = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """How assets are answered."""

    __pydantic_config__ = _STRICT

    enable_multi_range: Annotated[
        Flag, about("answer several ranges as multipart/byteranges instead of 416")
    ] = False
    strong_etag: Annotated[Flag, about("ETags are strong; false marks them weak")] = True
    cache_control: Annotated[FieldValue, about("Cache-Control of assets")] = (
        "public, max-age=31536000, immutable"
    )
    empty_tile: Annotated[
        EmptyTile,
        about("status of a tile that is in range and absent"),
    ] = 204
    public_url: Annotated[
        HttpUrl | None, about("base of absolute URLs in TileJSON; none takes it from the request")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """The admin plane."""

    __pydantic_config__ = _STRICT

    token_file: Annotated[
        FilePath | None,
        about("file with the bearer token that POSTs need; none: loopback peers only"),
    ] = None
    drain_file: Annotated[FilePath | None, about("while this file exists, readiness fails closed")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Hash-chained records of fills and rejects."""

    __pydantic_config__ = _STRICT

    enabled: Annotated[Flag, about("write audit records")] = False
    path: Annotated[FilePath, about("where they go: `stdout` or a file, which SIGUSR1 has opened again")] = (
        "stdout"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What is logged."""

    __pydantic_config__ = _STRICT

    format: Annotated[Literal["json", "text"], about("`json` lines, or `text` for people")] = "json"
    level: Annotated[Literal["debug", "info", "warning", "error"], about("least level")] = "info"
    file: Annotated[
        FilePath, about("where lines go: `stdout`, or a file, which SIGUSR1 has opened again")
    ] = "stdout"
    access_sample: Annotated[
        Number,
        about(
            "share of good requests and fills that are logged; failures and rejects always are", ge=0, le=1
        ),
    ] = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Otel:
    """Tracing."""

    __pydantic_config__ = _STRICT

    endpoint: Annotated[
        HttpUrl | None,
        about("OTLP over HTTP; none reads `OTEL_EXPORTER_OTLP_ENDPOINT`, else is off"),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One loaded configuration, checked and frozen."""

    __pydantic_config__ = _STRICT

    bind_addr: Annotated[Listening, about("asset plane; port 0 picks one and logs it")] = DEFAULT_BIND
    metrics_addr: Annotated[Listening, about("admin plane: metrics, health, status")] = DEFAULT_METRICS
    edge: Edge = field(default_factory=Edge)
    workers: Workers = field(default_factory=Workers)
    ingress: Ingress = field(default_factory=Ingress)
    fill: Fill = field(default_factory=Fill)
    retry: Retry = field(default_factory=Retry)
    cas: Cas = field(default_factory=Cas)
    security: Security = field(default_factory=Security)
    tls: Tls = field(default_factory=Tls)
    cors: Cors = field(default_factory=Cors)
    http: Http = field(default_factory=Http)
    admin: Admin = field(default_factory=Admin)
    audit: Audit = field(default_factory=Audit)
    log: Log = field(default_factory=Log)
    otel: Otel = field(default_factory=Otel)
