"""Formats: how the status page words a value, here for the page as it is sent.

``pages/formats.js`` does the same in the browser, for the values that come after it; a test of both in
a browser holds them together. A format gets a JSON value and returns text; None is NOTHING.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import floor
from typing import Any

from edge_server.config.units import spoken_duration, spoken_size
from edge_server.observe.metrics import LATENCY_BUCKETS_S

NOTHING = "\N{EN DASH}"
_LEAST_MS, _MOST_MS = LATENCY_BUCKETS_S[0] * 1000, LATENCY_BUCKETS_S[-1] * 1000


def _count(value: float) -> str:
    return f"{int(value):,}"


def _rate(value: float) -> str:
    """Return a number a second, with a decimal where it is small."""
    if value <= 0:
        return "0"
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _ms(value: float) -> str:
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def _latency(value: float) -> str:
    """Return a quantile of a histogram, which knows nothing below its first bound and above its last."""
    if value <= _LEAST_MS:
        return f"≤ {_LEAST_MS:.1f} ms"
    return f"≥ {_MOST_MS / 1000:.2f} s" if value >= _MOST_MS else _ms(value)


def _percent(value: float) -> str:
    """Return a share; never rounded up, so that 100 % is all of it."""
    return "100 %" if value >= 1 else f"{floor(value * 10_000 + 1e-9) / 100:.2f} %"


def _readiness(status: Mapping[str, Any]) -> str:
    missing = [name for name, holds in status["gates"].items() if not holds]
    if missing:
        return "Not ready: " + ", ".join(missing)
    return "Ready, degraded" if status["degraded"] else "Ready"


def _reload(told: Mapping[str, Any]) -> str:
    if told["running"]:
        return "running"
    if told["result"] == "none":
        return "none since the start"
    return " ".join(filter(None, (told["result"], told["at"], told["reason"])))


def _zooms(pack: Mapping[str, Any]) -> str:
    low, high = pack["min_zoom"], pack["max_zoom"]
    return NOTHING if low is None else f"{low} to {high}"


FORMATS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "name": lambda value: str(value) or "/",
    "count": _count,
    "rate": _rate,
    "rate_bytes": lambda value: f"{spoken_size(value)}/s",
    "bytes": spoken_size,
    "ms": _ms,
    "latency": _latency,
    "percent": _percent,
    "duration": spoken_duration,
    "seconds": lambda value: f"{value:.0f} s",
    "holds": lambda value: "holds" if value else "missing",
    "readiness": _readiness,
    "reload": _reload,
    "zooms": _zooms,
    "link": str,
}

# Formats whose value also decides how it looks: a word for the style sheet.
STATES: dict[str, Callable[[Any], str]] = {
    "holds": lambda value: "good" if value else "bad",
    "readiness": lambda status: "bad" if not status["ready"] else "warn" if status["degraded"] else "good",
    "reload": lambda told: "bad" if told["result"] == "failed" else "good",
}


def spoken(name: str, value: Any) -> str:
    """Return a value in words; None is NOTHING."""
    return NOTHING if value is None else FORMATS[name](value)


def state(name: str, value: Any) -> str | None:
    """Return how a value looks; None for a format that looks the same always."""
    return STATES[name](value) if name in STATES and value is not None else None
