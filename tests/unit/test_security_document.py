"""docs/SECURITY.md names tests that prove its counters: each exists, and no counter is without one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/SECURITY.md").read_text(encoding="utf-8")
FUNCTION = re.compile(r"`(test_\w+\.py)::(test_\w+)`")
MODULE = re.compile(r"`(?:tests/[\w/]+/)?(test_\w+\.py)`")
MODULES: dict[str, str] = {}  # text by name; of modules that have the same name, all
for path in (ROOT / "tests").rglob("test_*.py"):
    MODULES[path.name] = MODULES.get(path.name, "") + path.read_text(encoding="utf-8")


def test_every_counter_names_a_test() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and line.count(" | ") == 2]
    counters = [row for row in rows if not row.startswith(("| ---", "| Threat |"))]
    assert len(counters) > 25
    assert [row for row in counters if not FUNCTION.search(row) and not MODULE.search(row)] == []


def test_every_test_that_is_named_exists() -> None:
    for module, function in FUNCTION.findall(TEXT):
        assert re.search(rf"^def {function}\(", MODULES[module], re.MULTILINE), (module, function)
    for module in MODULE.findall(TEXT):
        assert module in MODULES


def test_every_path_of_a_test_that_is_named_exists() -> None:
    paths = re.findall(r"`(tests/[\w/.]+)`", TEXT)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_number_of_dependencies_is_told() -> None:
    listed = (ROOT / "setup.cfg").read_text(encoding="utf-8").partition("install_requires =\n")[2]
    required = listed.partition("\n\n")[0].splitlines()
    words = {16: "Sixteen", 17: "Seventeen", 18: "Eighteen"}
    assert f"{words[len(required)]} direct dependencies" in TEXT
