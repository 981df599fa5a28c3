from __future__ import annotations

import re
from typing import Any

import pytest

from edge_server.config.units import spoken_size
from edge_server.shm.scoreboard import Gate
from edge_server.sidecar import formats, page_files, status_page
from tests.markup import Balance


def status(**changes: Any) -> dict[str, Any]:
    worker = {
        "slot": 0,
        "identity": "0a",
        "pid": 41,
        "state": "serving",
        "cpu": 0,
        "generation": 1,
        "beat_age_ms": 12,
        "loop_lag_ms": 0.25,
        "requests": 1234567,
        "requests_per_s": 12.5,
        "parked": 0,
        "connections": 5,
        "shed": 0,
        "inflight": 3,
        "bytes_out": 5 << 30,
        "rss_bytes": 1 << 20,
        "pss_bytes": None,
    }
    pack = {
        "name": "world",
        "kind": "pmtiles",
        "entries": 1,
        "tiles": 5461,
        "bytes": 3 << 20,
        "min_zoom": 0,
        "max_zoom": 6,
        "verified": "index",
        "tilejson": "/api/tiles/world.json",
        "preview": "/preview/world",
    }
    return {
        "version": "1.2.3",
        "mode": "offline",
        "generation": 4,
        "last_reload": {"result": "none", "reason": "", "at": None, "running": False},
        "uptime_s": 3725.5,
        "ready": True,
        "degraded": False,
        "gates": {str(gate.name).lower(): True for gate in Gate},
        "draining": False,
        "stopping": False,
        "addresses": {"assets": "127.0.0.1:8080", "admin": "127.0.0.1:9909"},
        "slots": 1,
        "workers": [worker],
        "sidecars": [{**worker, "slot": -1, "identity": "sidecar-a"}],
        "packs": [pack],
        "digests_pending": None,
        "traffic": {
            "window_s": 10.0,
            "requests": 1234567,
            "requests_per_s": 812.4,
            "bytes_out": 5 << 30,
            "bytes_out_per_s": 3 << 20,
            "latency_ms": {"p50": 0.25, "p95": 1.5, "p99": 12.0},
            "hit_ratio": 0.99989,
            "hit_ratio_total": 1.0,
            "rejected_per_s": 0.2,
            "rejected": [{"reason": "not_found", "total": 3, "per_s": 0.2}],
        },
        "connections": {"reading": 0, "busy": 3, "parked": 0, "idle": 2, "closing": 0},
        "fills": None,
        "cas": None,
        **changes,
    }


LIVE = {
    "mode": "live",
    "fills": {
        "attempts": 12,
        "succeeded": 10,
        "per_s": 1.5,
        "success_ratio": 0.9,
        "success_ratio_total": 0.8333,
        "coalesced": 4,
        "retries": 2,
        "latency_ms": {"p50": 20.0, "p95": 80.0, "p99": None},
        "queue": 1,
        "parked": 2,
    },
    "cas": {
        "tiers": [
            {"tier": "memory", "state": "usable", "bytes": 65536, "max_bytes": 1 << 28, "evictions": 0}
        ],
        "writes": {"ok": 10, "dedup": 1, "error": 0},
    },
}


@pytest.mark.parametrize("changes", [{}, LIVE], ids=["offline", "live"])
def test_the_page_is_one_well_formed_document_of_this_origin_without_inline_code(
    changes: dict[str, Any],
) -> None:
    page = status_page.render(status(**changes)).decode()
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert balance.addresses
    assert all(address.startswith("/") for address in balance.addresses)
    assert not balance.has_inline
    assert "unsafe" not in status_page.CONTENT_SECURITY_POLICY


def test_the_page_shows_numbers_for_people() -> None:
    page = status_page.render(status()).decode()
    for shown in ("1,234,567", "5.0 GiB", "5,461", "0 to 6", "3.0 MiB", "1 h 2 min", "1.2.3", "99.98 %"):
        assert shown in page


def test_what_belongs_to_live_mode_is_hidden_offline() -> None:
    offline, live = (status_page.render(status(**changes)).decode() for changes in ({}, LIVE))
    for marked in ('data-if="fills"', 'data-if="cas"'):
        assert f"{marked} hidden" in offline
        assert marked in live
        assert f"{marked} hidden" not in live
    assert "64.0 KiB" in live


def test_what_is_missing_is_named() -> None:
    gates = {str(gate.name).lower(): gate is not Gate.WORKERS_UP for gate in Gate}
    page = status_page.render(status(gates=gates, ready=False)).decode()
    assert "Not ready: workers_up" in page
    assert 'data-state="bad">missing' in page


@pytest.mark.parametrize("field", ["name", "kind", "preview"])
def test_a_hostile_pack_name_stays_text(field: str) -> None:
    (pack,) = status()["packs"]
    hostile = '"><script>alert(1)</script>'
    page = status_page.render(status(packs=[{**pack, field: hostile}])).decode()
    assert "<script>alert" not in page
    assert "&quot;&gt;&lt;script&gt;alert" in page


def test_every_value_of_the_page_has_a_format_in_the_browser_too() -> None:
    page = status_page.render(status(**LIVE)).decode()
    script = (page_files.FOLDER / "formats.js").read_text()
    listed = script[script.index("export const FORMATS") : script.index("export const STATES")]
    for name in set(re.findall(r'data-as="([a-z_]+)"', page)) | set(formats.FORMATS):
        assert re.search(rf"^  {name}[:,]", listed, re.MULTILINE), name


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536 << 10, "1.5 MiB"), (2**50, "1024.0 TiB")],
)
def test_sizes_are_shown_in_binary_units(count: int, shown: str) -> None:
    assert spoken_size(count) == shown
