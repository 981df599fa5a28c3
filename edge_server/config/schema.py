"""The settings, each declared once: key, type, default, limits and a sentence for the operator.

One frozen class per section; attribute names are the keys of configuration files.
Validation, the JSON Schema, ``docs/CONFIG.md`` and ``svc-edge config show`` all
derive from here. Sizes are bytes and durations seconds once loaded. The classes are
built in the supervisor and inherited by its children; they do no I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic.dataclasses import dataclass

from edge_server.config import addresses, units
from edge_server.config.addresses import Address
from edge_server.config.units import GIB, KIB, MIB

__all__ = ["ALIASES", "Accepts", "Address", "Config"]

# Former names, still read; what they stand for.
ALIASES = {
    "ingress.body_bytes": "ingress.max_body_bytes",
    "ingress.decompress_max_ratio": "ingress.max_decompress_ratio",
}

_STRICT = ConfigDict(extra="forbid", defer_build=True)


@plain_dataclass(frozen=True, slots=True)
class Accepts:
    """Part of a setting's type: what it accepts, in words, and how a value is written back."""

    words: str
    write: Callable[[Any], str] = str


def _whole(value: object) -> object:
    """Let only whole numbers through: not true, which Python counts as 1."""
    if isinstance(value, bool) or (isinstance(value, str) and not value.strip().isdecimal()):
        raise ValueError("that is not a whole number")
    return value


def _whole_or_word(value: object) -> object:
    """Read digits as a number and leave words to the type."""
    if isinstance(value, bool):
        raise ValueError("that is neither a number nor a word")
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def _cpu_list(value: object) -> object:
    """Read ``0,2`` as two CPUs and leave words to the type."""
    if isinstance(value, str) and value.replace(",", "").replace(" ", "").isdecimal():
        return [part for part in value.split(",") if part.strip()]
    return value


def _one_line(value: str) -> str:
    # A line end in a field value would split the response (RFC 9110 section 5.5).
    if not value or not all(" " <= char <= "~" for char in value):
        raise ValueError("it must be one line of printable ASCII")
    return value


def _file_path(value: str) -> str:
    if not value or "\x00" in value:
        raise ValueError("that is not a path")
    return value


def _url_prefix(value: str) -> str:
    prefix = value.removeprefix("/")
    if any(char < " " or char in "?#\\" for char in prefix) or ".." in prefix.split("/"):
        raise ValueError("that is not the beginning of a path")
    return prefix


def _write_words(value: str | tuple[int, ...]) -> str:
    return value if isinstance(value, str) else ", ".join(map(str, value))


def _pack_source(value: object) -> object:
    """Read a bare path as ``{path: ...}``."""
    return {"path": value} if isinstance(value, str) else value


_QUANTITY_SCHEMA = {"type": ["string", "number"], "minimum": 0}
_SIZE_SCHEMA = _QUANTITY_SCHEMA | {"pattern": r"^[0-9]+(\.[0-9]+)?\s*([KkMmGg]?[Ii]?[Bb])?$"}
_RATE_SCHEMA = _QUANTITY_SCHEMA | {"pattern": r"^[0-9]+(\.[0-9]+)?\s*([KkMmGg]?[Ii]?[Bb])?(/s)?$"}
_DURATION_SCHEMA = _QUANTITY_SCHEMA | {"pattern": r"^[0-9]+(\.[0-9]+)?\s*([Mm]?[Ss]|[MmHh])?$"}

Size = Annotated[
    int,
    BeforeValidator(units.parse_size),
    Accepts(units.SIZE_WORDS, units.format_size),
    WithJsonSchema(_SIZE_SCHEMA),
]
Rate = Annotated[
    int,
    BeforeValidator(units.parse_rate),
    Accepts(units.RATE_WORDS, units.format_size),
    WithJsonSchema(_RATE_SCHEMA),
]
Duration = Annotated[
    float,
    BeforeValidator(units.parse_duration),
    Accepts(units.DURATION_WORDS, units.format_duration),
    WithJsonSchema(_DURATION_SCHEMA),
]
Listening = Annotated[
    Address,
    PlainValidator(addresses.parse_address),
    Accepts(addresses.ADDRESS_WORDS),
    WithJsonSchema({"type": "string", "pattern": r"^.+:[0-9]{1,5}$"}),
]
Whole = Annotated[int, BeforeValidator(_whole), Accepts("a whole number")]
Ratio = Annotated[float, Accepts("a number", lambda value: f"{value:g}")]
Flag = Annotated[bool, Accepts("true or false", lambda value: "true" if value else "false")]
FilePath = Annotated[str, AfterValidator(_file_path), Accepts("a path")]
FieldValue = Annotated[str, AfterValidator(_one_line), Accepts("one line of printable ASCII")]
HostPattern = Annotated[str, AfterValidator(addresses.normalize_host_pattern), Accepts(addresses.HOST_WORDS)]
Cidr = Annotated[str, AfterValidator(addresses.normalize_cidr), Accepts(addresses.CIDR_WORDS)]
CorsOrigin = Annotated[
    str, AfterValidator(addresses.normalize_cors_origin), Accepts(addresses.CORS_ORIGIN_WORDS)
]
HttpUrl = Annotated[str, AfterValidator(addresses.normalize_http_url), Accepts(addresses.HTTP_URL_WORDS)]
Token = Annotated[str, AfterValidator(addresses.check_token), Accepts(addresses.TOKEN_WORDS)]
UrlPrefix = Annotated[str, AfterValidator(_url_prefix), Accepts("the beginning of a path, such as fonts/")]
Status = Annotated[int, BeforeValidator(_whole), Field(ge=400, le=599)]
Verify = Literal["none", "index", "full"]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class PackSource:
    """One element of `edge.packs`: a path, or an object with these keys."""

    path: FilePath = Field(description="path or glob of archives and directories")
    name: FilePath | None = Field(
        default=None, description="replaces the archive's base name, or gives a directory's files a prefix"
    )
    verify: Verify | None = Field(default=None, description="overrides `edge.verify` for this pack")


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class OriginMapping:
    """One element of `edge.origins`: paths below `prefix` are filled from below `url`."""

    prefix: UrlPrefix = Field(description="beginning of the asset's path; the longest one wins")
    url: HttpUrl = Field(description="what replaces the prefix at the origin")


Packs = Annotated[
    tuple[Annotated[PackSource, BeforeValidator(_pack_source)], ...],
    Accepts("a list of paths, globs or objects {path, name, verify}"),
]
Origins = Annotated[tuple[OriginMapping, ...], Accepts("a list of objects {prefix, url}")]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Edge:
    """What is served, and from where."""

    mode: Literal["offline", "live"] = Field(
        default="offline",
        description="`offline`: packs only, no egress at all; `live`: misses are filled from allowed origins",
    )
    packs: Packs = Field(
        default=(),
        description="what to serve: `*.pmtiles`, directories, globs, or objects `{path, name, verify}`; "
        "relative paths start at the working directory",
    )
    watch: Flag = Field(default=False, description="reload when a pack changes on disk")
    allow: tuple[HostPattern, ...] = Field(
        default=(),
        description="exact host names that fills may contact; `*.example.org` matches subdomains only",
    )
    origins: Origins = Field(
        default=(),
        description="`{prefix, url}`: where misses below a prefix are filled from; the longest prefix wins",
    )
    verify: Verify = Field(
        default="index",
        description="checks at mount: `none`, `index` (structure and sampled entries), `full` (every entry)",
    )


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Workers:
    """The processes that serve."""

    count: Annotated[
        int | Literal["auto"],
        BeforeValidator(_whole_or_word),
        Accepts("auto, or a whole number from 1 to 1024"),
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 1024}]}),
    ] = Field(
        default="auto", ge=1, le=1024, description="`auto` is one a usable CPU (affinity and cgroup quota)"
    )
    pin: Annotated[
        Literal["auto", "none"] | tuple[Whole, ...],
        BeforeValidator(_cpu_list),
        Accepts("auto, none, or a list of CPU numbers", _write_words),
    ] = Field(
        default="auto",
        description="`auto` gives each worker one usable CPU, a list names the CPUs in the order of slots, "
        "`none` leaves them to the scheduler",
    )
    heartbeat_timeout: Duration = Field(
        default=5.0, gt=0, description="a worker that is silent for so long is killed and replaced"
    )
    drain_timeout: Duration = Field(default=10.0, description="how long a drain may take")
    max_requests: Whole = Field(
        default=0, ge=0, description="recycle a worker (drained, jittered) after so many requests; 0 never"
    )


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Ingress:
    """Limits on what clients may ask for; per instance, across workers."""

    timeout_secs: Duration = Field(default=5.0, gt=0, description="whole-request budget, fill included")
    header_timeout: Duration = Field(default=5.0, gt=0, description="how long a request head may take")
    idle_timeout: Duration = Field(default=60.0, gt=0, description="how long a connection may stay idle")
    min_send_rate: Rate = Field(default=KIB, description="a client that reads slower is disconnected")
    max_inflight: Whole = Field(default=512, ge=1, description="requests at once; more are 429 `busy`")
    rps_limit: Whole = Field(default=0, ge=0, description="requests a second; more are 429; 0 is off")
    rps_burst: Whole = Field(
        default_factory=lambda data: data.get("rps_limit", 0),
        ge=0,
        description="requests above the rate that are let through at once; `rps_limit` unless set",
    )
    max_body_bytes: Size = Field(default=MIB, description="largest request body")
    max_header_bytes: Size = Field(default=16 * KIB, ge=KIB, description="largest request head")
    max_connections: Whole = Field(default=10_000, ge=1, description="connections at once")
    max_decompress_ratio: Ratio = Field(
        default=10.0, ge=1, allow_inf_nan=False, description="how far anything may grow when inflated here"
    )
    decompress_abs_bytes: Size = Field(
        default=10 * MIB, ge=1, description="how large anything may become when inflated here"
    )


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Fill:
    """How misses are fetched from origins, in live mode."""

    concurrency: Whole = Field(default=64, ge=1, description="fetches at once")
    queue: Whole = Field(default=512, ge=0, description="fills that may wait; a full queue is 429 `busy`")
    per_host: Whole = Field(default=16, ge=1, description="fetches at once from one host")
    connect_timeout: Duration = Field(default=2.0, gt=0, description="how long connecting may take")
    read_timeout: Duration = Field(default=5.0, gt=0, description="how long an origin may stay silent")
    max_object_bytes: Size = Field(default=64 * MIB, ge=1, description="largest object that is fetched")
    hedge_after: Duration = Field(
        default=0.0, description="a second attempt when the first is slower than this; 0 is off"
    )
    forward_headers: tuple[Token, ...] = Field(
        default=(), description="request fields passed on to origins, besides those that select content"
    )
    negative_ttl: Duration = Field(default=10.0, description="how long a 404 of an origin is remembered")
    stale_if_error: Duration = Field(
        default=3600.0, description="how long a stale object may stand in for a failing origin"
    )
    stale_while_revalidate: Duration = Field(
        default=30.0, description="how long a stale object is served while it is fetched again"
    )
    allow_private: tuple[Cidr, ...] = Field(
        default=(), description="networks of on-premise origins; other private addresses are refused"
    )
    insecure_http: Flag = Field(default=False, description="allow origins without TLS")
    ca_bundle: FilePath = Field(
        default="system", description="certificates that origins are checked against: `system` or a file"
    )


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class LiveFillRetry:
    """Attempt n waits min(max_ms, base_ms * 2^n), plus up to base_ms at random."""

    base_ms: Whole = Field(default=50, ge=1, description="first wait, in ms")
    max_ms: Whole = Field(default=800, ge=1, description="longest wait before jitter, in ms")
    max_retries: Whole = Field(default=3, ge=0, le=5, description="attempts after the first")
    jitter: Flag = Field(default=True, description="spread the waits at random")
    retry_on: tuple[
        Annotated[
            Status | Literal["timeout"],
            BeforeValidator(_whole_or_word),
            Accepts("a status from 400 to 599, or timeout"),
        ],
        ...,
    ] = Field(default=(502, 503, 504, "timeout"), description="what is tried again: statuses and `timeout`")


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Retry:
    """What is tried again, and when."""

    live_fill: LiveFillRetry = Field(default_factory=LiveFillRetry)


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Cas:
    """The store of filled objects, addressed by content."""

    memory_bytes: Size = Field(default=256 * MIB, description="size of the shared-memory tier")
    path: FilePath | None = Field(
        default=None, description="folder of the disk tier; none keeps everything in memory"
    )
    max_bytes: Size = Field(default=10 * GIB, ge=1, description="size of the disk tier")


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Security:
    """What the server refuses to do."""

    amnesia: Flag = Field(default=False, description="nothing is ever written to a disk")
    hsts: Flag = Field(default=True, description="send Strict-Transport-Security, over TLS only")


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Tls:
    """A listener with TLS."""

    bind_addr: Listening | None = Field(default=None, description="where to listen with TLS")
    cert: FilePath | None = Field(default=None, description="certificate chain, PEM")
    key: FilePath | None = Field(default=None, description="private key of the certificate, PEM")


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Cors:
    """Which pages of other origins may read assets; none unless listed."""

    allow_origins: tuple[CorsOrigin, ...] = Field(
        default=(), description="origins that may read, exactly as browsers send them; `*` is all of them"
    )
    allow_methods: tuple[Token, ...] = Field(
        default=(), description="methods named in preflights; none stands for GET and HEAD"
    )
    allow_headers: tuple[Token, ...] = Field(
        default=(), description="request fields that pages may send besides the safelisted ones"
    )
    max_age: Duration = Field(default=600.0, description="how long a browser may remember a preflight")


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Http:
    """How assets are answered."""

    enable_multi_range: Flag = Field(
        default=False, description="answer several ranges as multipart/byteranges instead of 416"
    )
    strong_etag: Flag = Field(default=True, description="ETags are strong; false marks them weak")
    cache_control: FieldValue = Field(
        default="public, max-age=31536000, immutable", description="Cache-Control of assets"
    )
    empty_tile: Annotated[Literal[204, 404], BeforeValidator(_whole_or_word), Accepts("204 or 404")] = Field(
        default=204, description="status of a tile that is in range and absent"
    )
    public_url: HttpUrl | None = Field(
        default=None, description="base of absolute URLs in TileJSON; none takes it from the request"
    )


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Admin:
    """The admin plane."""

    token_file: FilePath | None = Field(
        default=None, description="file with the bearer token that POSTs need; none: loopback peers only"
    )
    drain_file: FilePath | None = Field(
        default=None, description="while this file exists, readiness fails closed"
    )


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Audit:
    """Hash-chained records of fills and rejects."""

    enabled: Flag = Field(default=False, description="write audit records")
    path: FilePath = Field(default="stdout", description="where they go: `stdout` or a file")


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Log:
    """What is logged."""

    format: Literal["json", "text"] = Field(default="json", description="`json` lines, or `text` for people")
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least level")
    access_sample: Annotated[float, Accepts("a number from 0 to 1", lambda value: f"{value:g}")] = Field(
        default=0.01,
        ge=0,
        le=1,
        description="share of good requests that are logged; failures and rejects always are",
    )


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Otel:
    """Tracing."""

    endpoint: HttpUrl | None = Field(
        default=None, description="OTLP over HTTP; none reads `OTEL_EXPORTER_OTLP_ENDPOINT`, else is off"
    )


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Config:
    """One loaded configuration, checked and frozen."""

    bind_addr: Listening = Field(
        default=Address("127.0.0.1", 8080), description="asset plane; port 0 picks one and logs it"
    )
    metrics_addr: Listening = Field(
        default=Address("127.0.0.1", 9909), description="admin plane: metrics, health, status"
    )
    edge: Edge = Field(default_factory=Edge)
    workers: Workers = Field(default_factory=Workers)
    ingress: Ingress = Field(default_factory=Ingress)
    fill: Fill = Field(default_factory=Fill)
    retry: Retry = Field(default_factory=Retry)
    cas: Cas = Field(default_factory=Cas)
    security: Security = Field(default_factory=Security)
    tls: Tls = Field(default_factory=Tls)
    cors: Cors = Field(default_factory=Cors)
    http: Http = Field(default_factory=Http)
    admin: Admin = Field(default_factory=Admin)
    audit: Audit = Field(default_factory=Audit)
    log: Log = Field(default_factory=Log)
    otel: Otel = Field(default_factory=Otel)
