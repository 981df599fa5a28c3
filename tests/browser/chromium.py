"""Headless Chromium as Debian packages it, driven with selenium, for tests of the pages.

No browser and no driver is downloaded: both are Debian's. Every name but this machine's address is cut off,
and each request that a page makes is kept, so that a page which asks anybody else is found out.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

BROWSER, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
MISSING = "needs Debian's packages chromium and chromium-driver"

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    # WebGL without a graphics card
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Browser:
    """One window.

    Attributes:
        driver: of selenium.
    """

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self._requested: list[str] = []

    def size(self, width: int, height: int, *, scale: float = 1.0, is_dark: bool = False) -> None:
        """Make the window as large as a screen of so many CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def without_scripts(self, is_without: bool = True) -> None:
        """Let pages run no script, or let them again."""
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": is_without})

    def open(self, url: str) -> None:
        """Load a page."""
        self.driver.get(url)

    def run(self, script: str, *arguments: object) -> Any:
        """Return what a script returns, run in the page."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """Return the text of an element as it is seen."""
        return str(self.run("return document.querySelector(arguments[0]).innerText", selector))

    def wait(self, script: str, *arguments: object, within: float = 20) -> Any:
        """Return the first true value of a script."""
        wait = WebDriverWait(self.driver, within, poll_frequency=0.1)
        return wait.until(lambda driver: driver.execute_script(script, *arguments), f"not in time: {script}")

    def errors(self) -> list[str]:
        """Return what has been complained of in the console since the last call, but for debug notes."""
        lines = self.driver.get_log("browser")
        return [line["message"] for line in lines if line["level"] in ("SEVERE", "WARNING")]

    def requested(self) -> list[str]:
        """Return the URLs that have been asked for since the window was opened, oldest first."""
        for line in self.driver.get_log("performance"):
            message = json.loads(line["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self._requested.append(message["params"]["request"]["url"])
        return self._requested

    def hosts(self) -> set[str]:
        """Return where requests went over the network, as ``host:port``."""
        parts = map(urlsplit, self.requested())
        return {part.netloc for part in parts if part.scheme in ("http", "https", "ws", "wss")}


def is_installed() -> bool:
    """Whether there is a browser to drive."""
    return all(shutil.which(path) for path in (BROWSER, DRIVER))


@contextmanager
def browser() -> Iterator[Browser]:
    """Run a browser with a profile of its own."""
    options = Options()
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(prefix="svc-edge-browser-", ignore_cleanup_errors=True) as profile:
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        try:
            yield Browser(driver)
        finally:
            driver.quit()
