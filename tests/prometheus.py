"""A real Prometheus on loopback, for tests of what an instance tells it; Debian's package `prometheus`."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.origins import free_port
from tests.servers import HOST, Place, eventually

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
RULES = Path(__file__).parents[1] / "deploy" / "prometheus"

needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None,
    reason="needs a real Prometheus and promtool: apt-get install prometheus",
)


def promtool(*arguments: object, given: bytes = b"") -> str:
    """Run promtool, which must find nothing to complain of; return what it wrote."""
    assert PROMTOOL is not None
    command = [PROMTOOL, *map(str, arguments)]
    done = subprocess.run(command, input=given, capture_output=True, timeout=120, check=False)
    out = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, out
    return out


class Prometheus:
    """One that runs."""

    def __init__(self, place: Place) -> None:
        self._base = f"http://{place}/api/v1"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that an expression gives now, without those that are not a number."""
        found = self._get("query", query=expression)["result"]
        assert isinstance(found, list)
        return [series for series in found if not math.isnan(float(series["value"][1]))]

    def value(self, expression: str) -> float:
        """Return the one value of an expression; 0 where it has none."""
        found = self.query(expression)
        assert len(found) < 2, found
        return float(found[0]["value"][1]) if found else 0.0

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules that it evaluates."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, what: str, **parameters: str) -> dict[str, Any]:
        url = f"{self._base}/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            told = json.load(answer)
        assert told["status"] == "success"
        data: dict[str, Any] = told["data"]
        return data


@contextmanager
def prometheus(folder: Path, targets: Sequence[Place]) -> Iterator[Prometheus]:
    """Run one with our rules that scrapes `targets` each second."""
    assert PROMETHEUS is not None
    config = yaml.safe_load((RULES / "demo.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES / name) for name in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [str(target) for target in targets]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    place = Place(HOST, free_port())
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={place}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    made = Prometheus(place)
    try:
        eventually(lambda: _answers(made), within=20, told=(folder / "prometheus.log").read_text)
        yield made
    finally:
        process.terminate()
        process.wait(20)


def _answers(made: Prometheus) -> bool:
    try:
        return bool(made.query("up"))
    except OSError:
        return False
