"""The status page: what a person sees at ``/`` of the admin plane.

The page is whole as it is sent and needs no script to be read. With one, ``pages/status.js`` asks
``/api/status`` every second, brings every value up to date and draws the charts; when nobody answers it says
so and since when. Style and scripts are files of the admin plane itself, and the Content-Security-Policy
allows nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from edge_server.sidecar.bindings import Column, look, table, value
from edge_server.sidecar.status import Status

MEDIA_TYPE = "text/html; charset=utf-8"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# Title, unit, and the series of the history that it shows with their names in the legend.
Chart = tuple[str, str, Sequence[tuple[str, str]]]

CHARTS: tuple[Chart, ...] = (
    ("Requests", "rate", (("requests_per_s", "answered"), ("rejected_per_s", "rejected"))),
    ("Latency", "latency", (("p50_ms", "p50"), ("p95_ms", "p95"), ("p99_ms", "p99"))),
    ("Sent", "rate_bytes", (("bytes_out_per_s", "bytes"),)),
    ("Loop lag", "ms", (("loop_lag_ms", "slowest worker"),)),
)
LIVE_CHARTS: tuple[Chart, ...] = (
    ("Fills", "rate", (("fills_per_s", "filled"), ("coalesced_per_s", "coalesced"))),
    ("In flight", "count", (("inflight", "in flight"), ("parked", "parked"))),
)

_WORKERS = (
    Column("Identity", "identity", "text"),
    Column("PID", "pid", "text"),
    Column("State", "state", "text"),
    Column("CPU", "cpu", "text"),
    Column("Req/s", "requests_per_s", "rate"),
    Column("Requests", "requests"),
    Column("In flight", "inflight"),
    Column("Parked", "parked"),
    Column("Connections", "connections"),
    Column("Sent", "bytes_out", "bytes"),
    Column("Loop lag", "loop_lag_ms", "ms"),
    Column("Last beat", "beat_age_ms", "ms"),
    Column("Memory (PSS)", "pss_bytes", "bytes"),
)
_PACKS = (
    Column("Pack", "name", "name"),
    Column("Kind", "kind", "text"),
    Column("Entries", "entries"),
    Column("Tiles", "tiles"),
    Column("Zooms", "", "zooms"),
    Column("Size", "bytes", "bytes"),
    Column("Verified", "verified", "text"),
    Column("Map", "preview", "link", "Preview"),
    Column("Document", "tilejson", "link", "TileJSON"),
)
_GATES = (Column("Gate", "key", "text"), Column("Now", "value", "holds"))
_REJECTED = (
    Column("Reason", "reason", "text"),
    Column("Per second", "per_s", "rate"),
    Column("Total", "total"),
)
_COUNTS = (Column("State", "key", "text"), Column("Clients", "value"))
_TIERS = (
    Column("Tier", "tier", "text"),
    Column("State", "state", "text"),
    Column("Stored", "bytes", "bytes"),
    Column("Limit", "max_bytes", "bytes"),
    Column("Evicted", "evictions"),
)
_WRITES = (Column("Bodies written", "key", "text"), Column("Count", "value"))

MARK = (
    '<svg class="mark" viewBox="0 0 32 32" aria-hidden="true"><circle cx="16" cy="16" r="14"/>'
    '<path d="M2 16h28M16 2c9 8 9 20 0 28M16 2c-9 8-9 20 0 28"/></svg>'
)


def render(status: Status) -> bytes:
    """Return the page for what `StatusReader.read` returned."""
    return (
        f"{head('svc-edge status', 'status')}<body>"
        f"{_header(status)}<main>{_tiles(status)}{_charts(status)}{_tables(status)}</main>{_footer(status)}"
        "</body></html>\n"
    ).encode()


def head(title: str, page: str, more: str = "", *, has_script: bool = True) -> str:
    """Return the start of a document up to its body.

    Args:
        title: text.
        page: name of its style sheet and of its script.
        more: trusted markup for the head.
        has_script: whether the page runs its script.
    """
    script = f'<script type="module" src="/pages/{page}.js"></script>' if has_script else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title>"
        '<link rel="icon" href="/pages/mark.svg" type="image/svg+xml">'
        f'<link rel="stylesheet" href="/pages/page.css"><link rel="stylesheet" href="/pages/{page}.css">'
        f"{more}{script}</head>"
    )


def _header(status: Status) -> str:
    facts = "".join(
        f"<li>{label} {value(status, path, form, 'b')}</li>"
        for label, path, form in (
            ("mode", "mode", "text"),
            ("version", "version", "text"),
            ("generation", "generation", "count"),
            ("up", "uptime_s", "duration"),
        )
    )
    return (
        f'<header class="top">{MARK}<h1>svc-edge</h1>'
        + value(status, "", "readiness", "p", 'id="readiness" class="pill" role="status" aria-live="polite"')
        + f'<ul class="facts">{facts}</ul><p id="freshness" class="freshness">as sent</p></header>'
        '<p id="stale" class="stale" role="alert" hidden></p>'
        '<noscript><p class="stale">Without JavaScript this page stays as it was sent. '
        "Reload it for newer numbers; the charts need a script.</p></noscript>"
    )


def _tile(title: str, main: str, note: str, condition: str = "", is_shown: bool = True) -> str:
    bound = f' data-if="{condition}"' if condition else ""
    hidden = "" if is_shown else " hidden"
    return (
        f'<li class="tile"{bound}{hidden}><h3>{title}</h3>'
        f'<p class="big">{main}</p><p class="note">{note}</p></li>'
    )


def _tiles(status: Status) -> str:
    def say(path: str, form: str) -> str:
        return value(status, path, form)

    latency = "traffic.latency_ms"
    tiles = (
        _tile(
            "Requests",
            f"{say('traffic.requests_per_s', 'rate')} <small>req/s</small>",
            f"{say('traffic.requests', 'count')} in all",
        ),
        _tile(
            "Latency p99",
            say(f"{latency}.p99", "latency"),
            f"<span>p95 {say(f'{latency}.p95', 'latency')},</span> "
            f"<span>p50 {say(f'{latency}.p50', 'latency')}</span>",
        ),
        _tile(
            "Hit ratio",
            say("traffic.hit_ratio", "percent"),
            f"{say('traffic.hit_ratio_total', 'percent')} since the start",
        ),
        _tile(
            "Sent",
            say("traffic.bytes_out_per_s", "rate_bytes"),
            f"{say('traffic.bytes_out', 'bytes')} in all",
        ),
        _tile(
            "Rejected",
            f"{say('traffic.rejected_per_s', 'rate')} <small>/s</small>",
            "by reason below",
        ),
        _tile(
            "Fills",
            f"{say('fills.per_s', 'rate')} <small>/s</small>",
            f"{say('fills.succeeded', 'count')} in all, {say('fills.queue', 'count')} queued",
            "fills",
            status["fills"] is not None,
        ),
    )
    window = say("traffic.window_s", "seconds")
    return (
        f'<section aria-labelledby="now"><h2 id="now">Now <small>last {window}</small></h2>'
        f'<ul class="tiles">{"".join(tiles)}</ul></section>'
    )


def _charts(status: Status) -> str:
    figures = [_chart(chart, "", True) for chart in CHARTS]
    figures += [_chart(chart, "fills", status["fills"] is not None) for chart in LIVE_CHARTS]
    return (
        '<section class="charts" aria-labelledby="charts" id="charts-section" hidden>'
        '<h2 id="charts">Last 5 minutes</h2>'
        f'<div class="figures">{"".join(figures)}</div></section>'
    )


def _chart(chart: Chart, condition: str, is_shown: bool) -> str:
    title, form, series = chart
    names = ",".join(f"{key}:{name}" for key, name in series)
    bound = f' data-if="{condition}"' if condition else ""
    hidden = "" if is_shown else " hidden"
    shows = f'data-title="{title}" data-as="{form}" data-series="{names}"'
    return f'<figure class="chart" {shows}{bound}{hidden}></figure>'


def _tables(status: Status) -> str:
    hidden = "" if status["fills"] is not None else " hidden"
    return (
        '<section aria-labelledby="processes"><h2 id="processes">Workers and sidecar</h2>'
        + table(
            status,
            "Workers and sidecar, one row a process",
            ("workers", "sidecars"),
            _WORKERS,
            name="workers",
        )
        + "</section>"
        '<section aria-labelledby="packs"><h2 id="packs">Packs</h2>'
        + table(
            status, "Packs that are mounted", ("packs",), _PACKS, name="packs", empty="No pack is mounted."
        )
        + '</section><div class="columns">'
        '<section aria-labelledby="gates"><h2 id="gates">Readiness</h2>'
        + table(status, "Readiness gates", ("gates",), _GATES, name="gates")
        + "</section>"
        '<section aria-labelledby="rejected"><h2 id="rejected">Rejected requests</h2>'
        + table(
            status,
            "Rejected requests by reason",
            ("traffic.rejected",),
            _REJECTED,
            name="rejected",
            empty="No request has been rejected.",
        )
        + "</section>"
        '<section aria-labelledby="clients"><h2 id="clients">Connections</h2>'
        + table(status, "Clients of the asset plane", ("connections",), _COUNTS, name="clients")
        + "</section>"
        f'<section aria-labelledby="fills" data-if="fills"{hidden}><h2 id="fills">Fills</h2>'
        f"{_fills(status)}</section>"
        f'<section aria-labelledby="store" data-if="cas"{hidden}><h2 id="store">Store of filled objects</h2>'
        + table(status, "Tiers", ("cas.tiers",), _TIERS, name="tiers", is_titled=True)
        + table(status, "Bodies", ("cas.writes",), _WRITES, name="writes", is_titled=True)
        + "</section></div>"
    )


_FILL_FACTS = (
    ("Succeeded", "fills.succeeded", "count"),
    ("Attempts", "fills.attempts", "count"),
    ("Success, last seconds", "fills.success_ratio", "percent"),
    ("Coalesced", "fills.coalesced", "count"),
    ("Retries", "fills.retries", "count"),
    ("Queued", "fills.queue", "count"),
    ("Requests parked", "fills.parked", "count"),
    ("Time p50", "fills.latency_ms.p50", "latency"),
    ("Time p95", "fills.latency_ms.p95", "latency"),
    ("Time p99", "fills.latency_ms.p99", "latency"),
)


def _fills(status: Status) -> str:
    pairs = "".join(
        f"<div><dt>{label}</dt>{value(status, path, form, 'dd')}</div>" for label, path, form in _FILL_FACTS
    )
    return f'<dl class="pairs">{pairs}</dl>'


def _footer(status: Status) -> str:
    reload = value(status, "last_reload", "reload", "b")
    assets, admin = (escape(str(look(status, f"addresses.{plane}"))) for plane in ("assets", "admin"))
    return (
        f"<footer><p>Last reload: {reload}. Assets on {assets}, admin on {admin}. "
        f"Digests still to compute: {value(status, 'digests_pending', 'count')}.</p>"
        '<p><a href="/metrics">Metrics</a> <a href="/api/status">Status as JSON</a> '
        '<a href="/api/packs">Packs as JSON</a> <a href="/readyz">Readiness</a></p></footer>'
    )
