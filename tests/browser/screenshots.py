"""Take the pictures of docs/images: the status page, the same on a phone, the map preview.

    python -m tests.browser.screenshots --seconds 200

Starts an instance in live mode with a map pack, lets it serve a mix of requests for a while, so that the
charts have something to show, and looks at it in headless Chromium.
"""

from __future__ import annotations

import argparse
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from rich.console import Console

from edge_server.cli import demo
from tests.browser.chromium import Browser, browser, is_installed
from tests.live import Authority, Origin, flags, https_origin
from tests.origins import ok
from tests.perf.soak_requests import wait_until_ready
from tests.servers import COMMAND, Place, environment
from tests.wire import Connection

IMAGES = Path(__file__).parents[2] / "docs" / "images"
MOST_BYTES = 300_000  # of a picture in the repository
DESK, PHONE = (1280, 1640), (390, 1100)
CLIENTS = 4
WAVE_S = 70  # requests come in waves

_IS_LIVE = "return document.getElementById('freshness').textContent === 'live'"
_IS_DRAWN = "return document.querySelector('main').dataset.state === 'loaded' && map.areTilesLoaded()"


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description="Take the pictures of docs/images anew.")
    parser.add_argument("--seconds", type=float, default=200, help="of traffic before the first picture")
    seconds = parser.parse_args().seconds
    if not is_installed():
        raise SystemExit("chromium and chromium-driver are missing; deploy/bootstrap.sh test installs them")
    with (
        tempfile.TemporaryDirectory() as name,
        _instance(Path(name)) as (assets, admin),
        _traffic(assets),
        browser() as window,
    ):
        time.sleep(seconds)
        _take(window, f"http://{admin}")


def _take(window: Browser, url: str) -> None:
    IMAGES.mkdir(exist_ok=True)
    for name, path, size, is_dark, is_there in (
        ("status", "/", DESK, False, _IS_LIVE),
        ("status-dark", "/", (1280, 720), True, _IS_LIVE),
        ("status-phone", "/", PHONE, False, _IS_LIVE),
        ("preview", "/preview/world#3.1/47/12", (1280, 760), False, _IS_DRAWN),
    ):
        window.size(*size, is_dark=is_dark)
        window.open(url + path)
        window.wait(is_there)
        time.sleep(1.5)
        if name == "preview":
            _point_at_land(window)
        picture = IMAGES / f"{name}.png"
        window.driver.save_screenshot(str(picture))
        size_bytes = picture.stat().st_size
        print(f"{picture.name}: {size_bytes / 1024:.0f} KiB")
        assert size_bytes < MOST_BYTES, picture


def _point_at_land(window: Browser) -> None:
    window.run(
        """
        const at = map.project([13.4, 52.52]), canvas = map.getCanvas(), box = canvas.getBoundingClientRect();
        const place = {clientX: box.left + at.x, clientY: box.top + at.y, bubbles: true};
        for (const type of ['mousemove', 'mousedown', 'mouseup', 'click'])
          canvas.dispatchEvent(new MouseEvent(type, place));
        """
    )
    time.sleep(1)


@contextmanager
def _instance(folder: Path) -> Iterator[tuple[Place, Place]]:
    """Yield the two addresses of an instance with the demo's packs, filled from an origin of its own."""
    demo.build(str(folder), Console(quiet=True))
    authority = Authority(folder)
    with https_origin(authority) as origin:
        origin.default = _answer
        process = _start(folder, origin, authority)
        try:
            told = wait_until_ready(process)
            yield _place(told["bind_addr"]), _place(told["metrics_addr"])
        finally:
            process.terminate()
            process.wait(30)


def _start(folder: Path, origin: Origin, authority: Authority) -> subprocess.Popen[str]:
    line = [*COMMAND, "serve", "--bind", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
    packs = [str(folder / "world.pmtiles"), str(folder / "assets")]
    settings = flags(origin, authority, cas__memory_bytes="64MiB", cas__path=folder / "cas")
    return subprocess.Popen(
        [*line, *settings, *packs], stdout=subprocess.PIPE, text=True, env=environment(), cwd=folder
    )


def _answer(path: str) -> bytes:
    """Return what the origin says, after a while: a body for each path, sometimes none."""
    time.sleep(random.Random(path).choice((0.004, 0.02, 0.05, 0.12)))
    if path.endswith("-gone"):
        return ok(b"no", status="404 Not Found")
    return ok(path.encode() * 700, "Cache-Control: max-age=600", "Content-Type: text/plain")


@contextmanager
def _traffic(place: Place) -> Iterator[None]:
    is_over = Event()
    threads = [Thread(target=_client, args=(place, number, is_over)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def _client(place: Place, number: int, is_over: Event) -> None:
    chance, begun = random.Random(number), time.monotonic()
    with Connection(place) as connection:
        while not is_over.is_set():
            path, fields = _wanted(chance)
            connection.ask(f"/edge/assets/{path}", fields=fields)
            wave = 1 + 0.75 * math.sin(2 * math.pi * (time.monotonic() - begun) / WAVE_S)
            time.sleep(chance.expovariate(90 * wave))


def _wanted(chance: random.Random) -> tuple[str, dict[str, str]]:
    """Return a path and header fields: mostly tiles, some files and ranges, some misses, some refusals."""
    draw = chance.random()
    if draw < 0.70:
        z = chance.randint(0, 5)
        return f"world/{z}/{chance.randrange(1 << z)}/{chance.randrange(1 << z)}.mvt", {}
    if draw < 0.90:
        return chance.choice(("index.html", "map.js", "cities.geojson", "gradient.png")), {}
    if draw < 0.94:
        start = chance.randrange(1 << 22)
        return "world.pmtiles", {"Range": f"bytes={start % 600_000}-{start % 600_000 + 16_383}"}
    if draw < 0.985:
        return f"objects/{chance.randrange(4000)}", {}
    return chance.choice(("@elsewhere.example/x", f"{chance.randrange(50)}-gone", "world/9/0/0.mvt")), {}


def _place(address: str) -> Place:
    host, _, port = address.rpartition(":")
    return Place(host, int(port))


if __name__ == "__main__":
    sys.exit(main())
