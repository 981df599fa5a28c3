"""docs/HTTP.md names the tests that prove what it promises; each must exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def test_every_guarantee_on_the_wire_names_tests_that_exist() -> None:
    _, _, section = (ROOT / "docs/HTTP.md").read_text(encoding="utf-8").partition("\n## On the wire\n")
    rows = [line for line in section.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) >= 20
    for row in rows:
        named = NAMED.findall(row)
        assert named, row
        for module, test in named:
            text = (ROOT / "tests/integration" / module).read_text(encoding="utf-8")
            assert f"\ndef {test}(" in text, (module, test)


def test_every_wire_module_proves_something_that_is_guaranteed() -> None:
    text = (ROOT / "docs/HTTP.md").read_text(encoding="utf-8")
    modules = {path.name for path in (ROOT / "tests/integration").glob("test_wire_*.py")}
    assert modules <= {module for module, _ in NAMED.findall(text)}
