from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from edge_server.config.units import spoken_size
from edge_server.shm.scoreboard import Gate
from edge_server.sidecar import status_page

VOID = {"meta"}


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
        **changes,
    }


class Balance(HTMLParser):
    """Checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_one_well_formed_document_without_outside_parts() -> None:
    page = status_page.render(status()).decode()
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert not re.search(r"https?://|src=|url\(", page)


def test_the_page_shows_numbers_for_people() -> None:
    page = status_page.render(status()).decode()
    for shown in ("1,234,567", "5.0 GiB", "5,461", "0 to 6", "3.0 MiB", "1 h 2 min", "1.2.3"):
        assert shown in page


def test_what_is_missing_is_named() -> None:
    gates = {str(gate.name).lower(): gate is not Gate.WORKERS_UP for gate in Gate}
    page = status_page.render(status(gates=gates, draining=True)).decode()
    assert "not ready" in page
    assert "workers_up" in page
    assert "draining" in page


@pytest.mark.parametrize("field", ["name", "kind"])
def test_a_hostile_pack_name_stays_text(field: str) -> None:
    (pack,) = status()["packs"]
    page = status_page.render(status(packs=[{**pack, field: "<script>alert(1)</script>"}])).decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@pytest.mark.parametrize("kind", ["script", "style"])
def test_the_policy_names_the_inline_parts_by_their_hash(kind: str) -> None:
    page = status_page.render(status()).decode()
    (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"{kind}-src 'sha256-{digest}'" in status_page.CONTENT_SECURITY_POLICY


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536 << 10, "1.5 MiB"), (2**50, "1024.0 TiB")],
)
def test_sizes_are_shown_in_binary_units(count: int, shown: str) -> None:
    assert spoken_size(count) == shown
