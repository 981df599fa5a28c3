"""The pages of a real instance in headless Chromium: what they show, that it is live, and that it is safe."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from edge_server.demo.vector_tiles import count_features
from edge_server.sidecar.formats import FORMATS, spoken
from edge_server.sidecar.page_files import PageFiles
from tests.browser.chromium import MISSING, Browser, browser, is_installed
from tests.browser.packs import (
    FOREIGN_NAME,
    HOSTILE_MARKUP,
    HOSTILE_NAME,
    write_config,
    write_hostile,
    write_pictures,
    write_world,
)
from tests.live import Authority, flags, https_origin
from tests.meanwhile import meanwhile
from tests.origins import ok
from tests.scrapes import Sample, counts
from tests.servers import Server, eventually
from tests.wire import Connection, ask

Serve = Callable[..., Server]

pytestmark = pytest.mark.skipif(not is_installed(), reason=MISSING)
needs_map = pytest.mark.skipif(not PageFiles().has_map, reason="needs make pages, which needs npm")

PHONE = (375, 812)
DESK = (1280, 900)

# Colours of the map as it is drawn, 16 pixels apart.
PIXELS = """
const done = arguments[arguments.length - 1];
map.once('render', () => {
  const gl = map.painter.context.gl, width = gl.drawingBufferWidth, height = gl.drawingBufferHeight;
  const data = new Uint8Array(width * height * 4), counts = {};
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, data);
  for (let y = 0; y < height; y += 16) for (let x = 0; x < width; x += 16) {
    const at = (y * width + x) * 4, key = data.slice(at, at + 3).join();
    counts[key] = (counts[key] ?? 0) + 1;
  }
  done(counts);
});
map.triggerRepaint();
"""
IS_LIVE = "return document.getElementById('freshness').textContent === 'live'"
DRAWN = "return document.querySelector('main').dataset.state === 'loaded' && map.areTilesLoaded()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("packs")
    write_world(made / "world.pmtiles")
    write_world(made / "foreign.pmtiles", max_zoom=1, names_layers=False)
    write_pictures(made / "pictures.pmtiles")
    write_hostile(made / "hostile.pmtiles")
    write_config(made / "svc-edge.yaml", made)
    return made


@pytest.fixture(scope="module")
def server(module_serve: Serve, folder: Path) -> Server:
    return module_serve("--workers", 2, "--config", folder / "svc-edge.yaml")


@pytest.fixture(scope="module")
def shared_window() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture
def window(shared_window: Browser) -> Iterator[Browser]:
    """A window as large as a desk's screen, whose page has nothing to complain of in the end."""
    shared_window.size(*DESK)
    yield shared_window
    assert shared_window.errors() == []
    shared_window.open("about:blank")


def page(server: Server, path: str = "/") -> str:
    return f"http://{server.admin}{path}"


@contextmanager
def traffic(server: Server, *paths: str) -> Iterator[None]:
    """Ask for assets all the time."""

    def turn() -> None:
        time.sleep(0.005)
        for path in paths:
            connection.ask(f"/edge/assets/{path}")

    with Connection(server.assets) as connection, meanwhile(turn):
        yield


def shown(path: str) -> str:
    """Return a script that returns the text of a value."""
    return f"return document.querySelector('[data-v=\"{path}\"]').textContent"


def number(window: Browser, path: str) -> float:
    return float(window.run(shown(path)).replace(",", ""))


def table(window: Browser, name: str) -> list[list[str]]:
    """Return the cells of a table's rows."""
    script = """return [...document.querySelectorAll(`.${arguments[0]} tbody tr`)]
        .map((row) => [...row.cells].map((cell) => cell.innerText))"""
    rows: list[list[str]] = window.run(script, name)
    return rows


def settled(server: Server) -> dict[str, Any] | None:
    """Return the traffic of a status once it has counted every request that was answered."""
    told: dict[str, Any] = server.status()["traffic"]
    answered = sum(value for key, value in counts(server).items() if is_request(key))
    return told if told["requests"] == answered else None


def is_request(key: Sample) -> bool:
    return key[0] == "http_requests_total" and ("route", "/edge/assets") in key[1]


def overflow(window: Browser) -> int:
    """Return by how many pixels the page is wider than its window."""
    return int(window.run("return document.documentElement.scrollWidth - window.innerWidth"))


def test_the_page_shows_what_the_status_says(window: Browser, server: Server) -> None:
    window.open(page(server))
    window.wait(IS_LIVE)
    told = server.status()
    assert window.text("#readiness") == "Ready"
    assert [row[:2] for row in table(window, "gates")] == [[gate, "holds"] for gate in told["gates"]]
    processes = told["workers"] + told["sidecars"]
    assert [row[:3] for row in table(window, "workers")] == [
        [each["identity"], str(each["pid"]), each["state"]] for each in processes
    ]
    packs = table(window, "packs")
    assert [row[0] for row in packs] == [pack["name"] for pack in told["packs"]]
    assert packs[0][1:7] == [
        *("pmtiles", "2", f"{told['packs'][0]['tiles']:,}", "0 to 3"),
        *(spoken("bytes", told["packs"][0]["bytes"]), "index"),
    ]
    assert window.run(shown("generation")) == "1"
    assert window.run("return document.querySelectorAll('.chart svg').length") == 6


def test_the_page_is_live_under_traffic(window: Browser, server: Server) -> None:
    window.open(page(server))
    before = number(window, "traffic.requests")
    with traffic(server, "world/0/0/0.mvt", "absent.txt"):
        window.wait(f"{shown('traffic.requests')}.replace(/,/g, '') > {before + 100}")
        window.wait(f"{shown('traffic.requests_per_s')}.replace(/,/g, '') > 20")
        window.wait("return document.querySelectorAll('.chart .line[d*=L]').length >= 5")
        window.wait(f"{shown('traffic.latency_ms.p99')}.endsWith('ms')")
        window.wait("return document.querySelectorAll('.rejected tbody tr').length === 1")
    # Nothing more is asked for: page and status come to the same numbers.
    told = eventually(lambda: settled(server), within=10)
    window.wait(f"{shown('traffic.requests')} === arguments[0]", f"{told['requests']:,}")
    assert [row[::2] for row in table(window, "rejected")] == [
        ["not_found", f"{told['rejected'][0]['total']:,}"]
    ]
    assert window.run(shown("traffic.hit_ratio_total")) == spoken("percent", told["hit_ratio_total"])


def test_a_drained_instance_is_told_to_who_listens(window: Browser, server: Server) -> None:
    window.open(page(server))
    assert window.run("return document.getElementById('readiness').getAttribute('aria-live')") == "polite"
    try:
        ask(server.admin, "/api/drain", "POST")
        window.wait("return document.getElementById('readiness').textContent === 'Not ready: not_draining'")
        assert ["not_draining", "missing"] in table(window, "gates")
    finally:
        ask(server.admin, "/api/undrain", "POST")
    window.wait("return document.getElementById('readiness').textContent === 'Ready'")


@pytest.mark.parametrize("path", ["/", "/preview/world"])
@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(
    window: Browser, server: Server, path: str, is_dark: bool
) -> None:
    window.size(*PHONE, is_dark=is_dark)
    window.open(page(server, path))
    window.wait("return document.readyState === 'complete'")
    assert window.run("return window.innerWidth") == PHONE[0]
    assert overflow(window) <= 0
    dark = window.run("return getComputedStyle(document.body).backgroundColor") == "rgb(15, 21, 27)"
    assert dark == is_dark


def test_without_scripts_the_page_is_whole(window: Browser, server: Server) -> None:
    window.without_scripts()
    try:
        window.open(page(server))
        source = window.driver.page_source
    finally:
        window.without_scripts(False)
    told = server.status()
    for text in (
        "Ready",
        "workers_up",
        "world",
        "Without JavaScript",
        *(str(each["pid"]) for each in told["workers"]),
    ):
        assert text in source


def test_the_browser_words_values_as_the_server_does(window: Browser, server: Server) -> None:
    window.open(page(server))
    values: dict[str, list[Any]] = {
        "count": [0, 999, 1000, 1234567, 12345678901],
        "rate": [0, 0.04, 0.25, 2.5, 9.94, 9.99, 10, 12.5, 13.5, 1234.5, 1234567.8],
        "bytes": [0, 1, 1023, 1024, 1280, 1536 << 10, 5 << 30, 2**50],
        "rate_bytes": [0, 2048, 3.3e6],
        "ms": [0, 0.05, 0.25, 12.34, 99.94, 100, 999.4, 999.9, 1000, 1234.5, 65432],
        "latency": [0.1, 0.5, 0.51, 42.4242, 5119, 5120],
        "percent": [0, 0.00009, 0.5, 0.29, 0.57, 0.99989, 0.999999, 1],
        "seconds": [0, 0.5, 1.5, 9.97, 10.04],
        "duration": [0, 0.9, 59, 60, 3600, 3725.5, 90061, 864000],
        "holds": [True, False],
        "text": ["", "a", 7],
        "name": ["", "world"],
        "reload": [
            {"running": True, "result": "ok", "at": "then", "reason": ""},
            {"running": False, "result": "none", "at": None, "reason": ""},
            {"running": False, "result": "failed", "at": "then", "reason": "why"},
        ],
        "zooms": [{"min_zoom": None, "max_zoom": None}, {"min_zoom": 0, "max_zoom": 7}],
        "readiness": [
            {"gates": {"a": True}, "degraded": False},
            {"gates": {"a": True}, "degraded": True},
            {"gates": {"a": False, "b": True, "c": False}, "degraded": True},
        ],
        "link": ["/x"],
    }
    assert values.keys() == FORMATS.keys()
    script = """
    const [values, done] = arguments;
    import('/pages/formats.js').then(({ spoken }) => done(Object.fromEntries(
      Object.entries(values).map(([name, all]) => [name, [...all, null].map((one) => spoken(name, one))]))));
    """
    told = window.driver.execute_async_script(script, values)
    assert told == {name: [spoken(name, each) for each in [*all_, None]] for name, all_ in values.items()}


@needs_map
def test_pages_ask_nobody_else(window: Browser, server: Server) -> None:
    for path, is_done in (("/", IS_LIVE), ("/preview/world", DRAWN), ("/preview/pictures", DRAWN)):
        window.open(page(server, path))
        window.wait(is_done)
    assert window.hosts() == {str(server.admin)}


@pytest.mark.parametrize("path", ["/", "/preview/world"])
def test_pages_allow_this_origin_and_no_frame(server: Server, path: str) -> None:
    answer = ask(server.admin, path)
    policy = dict(part.strip().split(" ", 1) for part in answer["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "no-referrer"


def test_a_page_file_is_kept_until_it_changes(server: Server) -> None:
    first = ask(server.admin, "/pages/status.js")
    assert (first.status, first["Content-Type"]) == (200, "text/javascript; charset=utf-8")
    assert first["Cache-Control"] == "no-cache"
    with Connection(server.admin) as connection:
        again = connection.ask("/pages/status.js", fields={"If-None-Match": first["ETag"]})
        assert (again.status, again.body, again["ETag"]) == (304, b"", first["ETag"])
        for path in ("/pages/../status.py", "/pages/%2e%2e/status.py", "/pages/", "/pages/none.js"):
            assert connection.ask(path).status == 404
        assert connection.unread() == b""


def test_tiles_for_the_preview_are_those_of_the_asset_plane(server: Server) -> None:
    with Connection(server.admin) as connection:
        for accepted in ("gzip", "identity"):
            fields = {"Accept-Encoding": accepted}
            seen = connection.ask("/api/tiles/world/1/0/0.mvt", fields=fields)
            served = ask(server.assets, "/edge/assets/world/1/0/0.mvt", fields=fields)
            assert (seen.status, seen.body) == (200, served.body)
            assert seen.all("Content-Encoding") == served.all("Content-Encoding")
        assert count_features(seen.body)["land"] == 1
        assert connection.ask("/api/tiles/pictures/1/1/1.png").status == 200
        for path in ("world/9/0/0.mvt", "world/1/0/0.png", "none/0/0/0.mvt", "none.json"):
            assert connection.ask(f"/api/tiles/{path}").status == 404
    told = json.loads(server.ask_admin("/api/tiles/world.json"))
    assert told["tiles"] == ["/api/tiles/world/{z}/{x}/{y}.mvt"]


@needs_map
def test_the_preview_draws_a_vector_pack(window: Browser, server: Server) -> None:
    window.open(page(server, "/preview/world"))
    window.wait(DRAWN)
    colours = window.driver.execute_async_script(PIXELS)
    land, sea = sorted(colours.values())[-2:]
    assert land > 100
    assert sea > 100
    names = (
        "return map.querySourceFeatures('pack', {sourceLayer: 'cities'}).map((each) => each.properties.name)"
    )
    assert {"Berlin", "Nairobi"} & set(window.run(names))
    # The land goes when its layer is switched off.
    window.run("document.querySelector('#layers input').click()")
    window.wait("return map.getLayoutProperty('0-fill', 'visibility') === 'none'")
    window.wait("return map.isStyleLoaded() && map.areTilesLoaded()")
    assert max(window.driver.execute_async_script(PIXELS).values()) > sea + land // 2


@needs_map
def test_the_preview_tells_of_tiles_and_features(window: Browser, server: Server) -> None:
    window.open(page(server, "/preview/world#2/46.5/8"))
    window.wait(DRAWN)
    assert window.run("return [map.getZoom(), Math.round(map.getCenter().lng)]") == [2, 8]
    stored = ask(server.assets, "/edge/assets/world/2/2/1.mvt", fields={"Accept-Encoding": "gzip"})
    point = window.run("const {x, y} = map.project([8, 46.5]); return [x, y]")
    # The pointer is in the middle of the map, which is where the land is.
    script = """
    const [x, y] = arguments, canvas = map.getCanvas(), box = canvas.getBoundingClientRect();
    for (const type of ['mousemove', 'mousedown', 'mouseup', 'click'])
      canvas.dispatchEvent(
        new MouseEvent(type, {clientX: box.left + x, clientY: box.top + y, bubbles: true}));
    """
    window.run(script, *point)
    window.wait("return document.getElementById('tile').textContent === '2/2/1'")
    size = f"{spoken('bytes', len(stored.body))}, gzip"
    window.wait("return document.getElementById('size').textContent === arguments[0]", size)
    window.wait("return document.getElementById('feature').textContent.includes('land')")
    window.run("document.getElementById('grid').click()")
    assert window.run("return map.showTileBoundaries") is True


@needs_map
def test_the_preview_draws_a_raster_pack(window: Browser, server: Server) -> None:
    window.open(page(server, "/preview/pictures"))
    window.wait(DRAWN)
    eventually(
        lambda: (
            "200,40,40" in window.driver.execute_async_script(PIXELS)
            or "40,160,60" in window.driver.execute_async_script(PIXELS)
        ),
        within=10,
    )
    assert window.text(".kind") == "raster tiles, zooms 0 to 1"


@needs_map
def test_an_archive_that_names_no_layers_is_drawn_by_those_of_its_tiles(
    window: Browser, server: Server
) -> None:
    window.open(page(server, f"/preview/{quote(FOREIGN_NAME)}"))
    window.wait(DRAWN)
    assert window.text("#layers").split() == ["land", "graticule", "cities"]
    drawn = window.run("return map.queryRenderedFeatures().map((each) => each.sourceLayer)")
    assert set(drawn) == {"land", "graticule", "cities"}


@needs_map
def test_a_name_in_any_script_leads_to_its_map(window: Browser, server: Server) -> None:
    window.open(page(server))
    window.run("[...document.links].find((each) => each.pathname.includes('/maps/')).click()")
    window.wait("return location.pathname.startsWith('/preview/maps/')")
    window.wait(DRAWN)
    assert window.run("return map.querySourceFeatures('pack', {sourceLayer: 'land'}).length") > 0
    assert window.run("return document.title") == f"{FOREIGN_NAME} · svc-edge preview"


@needs_map
def test_what_a_hostile_pack_says_of_itself_is_text(window: Browser, server: Server) -> None:
    window.open(page(server))
    window.wait(IS_LIVE)
    assert HOSTILE_NAME in [row[0] for row in table(window, "packs")]
    window.open(page(server, f"/preview/{quote(HOSTILE_NAME)}"))
    window.wait(DRAWN)
    assert window.text(".panel").count(HOSTILE_MARKUP) >= 4
    assert window.text("h1") == HOSTILE_MARKUP
    assert window.text("#layers") == HOSTILE_MARKUP
    assert window.run("return document.querySelectorAll('img').length") == 0
    assert "taken" not in window.run("return document.title.replace(arguments[0], '')", HOSTILE_NAME)


def test_live_mode_shows_fills_and_the_store(
    window: Browser, serve: Serve, tmp_path: Path, folder: Path
) -> None:
    authority = Authority(tmp_path)
    with https_origin(authority) as origin:
        origin.default = lambda path: ok(path.encode() * 500, "Cache-Control: max-age=600")
        server = serve(*flags(origin, authority), folder / "world.pmtiles")
        window.open(page(server))
        for name in range(7):
            assert ask(server.assets, f"/edge/assets/object-{name}").status == 200
        window.wait(f"{shown('fills.succeeded')} === '7'")
        size = spoken("bytes", 7 * 500 * len("/object-0"))
        assert table(window, "tiers") == [["memory", "usable", size, "256.0 MiB", "0"]]
        assert ["ok", "7"] in table(window, "writes")
        assert window.run("return document.querySelector('[data-if=fills].tile').checkVisibility()")
        window.open("about:blank")


def test_when_nobody_answers_the_page_says_since_when(window: Browser, serve: Serve, folder: Path) -> None:
    server = serve("--workers", 1, "--set", "workers.heartbeat_timeout=60s", folder / "world.pmtiles")
    window.open(page(server))
    is_lost = "return document.body.classList.contains('lost')"
    window.wait(IS_LIVE)
    assert not window.run(is_lost)
    sidecar = server.sidecar()
    os.kill(sidecar, signal.SIGSTOP)
    try:
        window.wait(is_lost)
        assert "No answer since" in window.text("#stale")
        assert window.run("return document.getElementById('stale').getAttribute('role')") == "alert"
        assert window.text("#freshness") == "not live"
        uptime = window.run(shown("uptime_s"))
    finally:
        os.kill(sidecar, signal.SIGCONT)
    window.wait(f"{is_lost} === false")
    assert window.run("return document.getElementById('stale').hidden")
    window.wait(f"{shown('uptime_s')} !== '{uptime}'")
    assert server.stop() == 0
    window.wait(is_lost)
    assert "No answer since" in window.text("#stale")
    window.open("about:blank")
    window.errors()  # a browser itself notes that nobody answers


def test_the_page_goes_on_with_the_successor_of_a_killed_sidecar(
    window: Browser, serve: Serve, folder: Path
) -> None:
    server = serve("--workers", 1, folder / "world.pmtiles")
    window.open(page(server))
    window.wait(IS_LIVE)
    killed = server.sidecar()
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: is_replaced(server, killed), within=10)
    window.wait(
        "return [...document.querySelectorAll('.workers tbody th')].at(-1).textContent === 'sidecar-b'"
    )
    with traffic(server, "world/0/0/0.mvt"):
        window.wait("return document.querySelectorAll('.chart .line[d*=L]').length >= 4")
    window.errors()  # of the moment without a sidecar


def is_replaced(server: Server, killed: int) -> bool:
    try:
        return server.sidecar() != killed
    except (OSError, AssertionError):
        return False
