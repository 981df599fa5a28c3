"""What the documents name exists: files, tests, commands, targets, settings, metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_server.cli.main import COMMANDS
from edge_server.config import keys
from edge_server.config.schema import ALIASES

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
SECTIONS = {key.partition(".")[0] for key in keys.defaults() if "." in key}


def quoted(path: Path) -> Iterator[str]:
    """Yield what stands in backticks, and the lines of blocks."""
    text = path.read_text(encoding="utf-8")
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    for block in re.findall(r"^```[a-z ]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()


def anchors_of(path: Path) -> set[str]:
    """Return what a link can name of a document, as the usual renderers make it of headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def names(path: Path, pattern: str) -> set[str]:
    return {found for text in quoted(path) for found in re.findall(pattern, text)}


@pytest.fixture(params=DOCUMENTS, ids=lambda path: path.name)
def document(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_every_file_that_is_named_exists(document: Path) -> None:
    named = names(document, r"^((?:tests|edge_server|bench)/[\w/]+(?:\.py)?|configs/[\w.-]+)$")
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_every_module_that_is_named_exists(document: Path) -> None:
    folders = "|".join(path.name for path in (ROOT / "edge_server").iterdir() if path.is_dir())
    named = names(document, rf"^((?:{folders})/\w+\.(?:py|c|h))$")
    assert {name for name in named if not (ROOT / "edge_server" / name).exists()} == set()


def test_every_test_that_is_named_exists(document: Path) -> None:
    named = names(document, r"(?:^|::)(test_\w+)$")
    assert {name for name in named if not re.search(rf"^def {name}\(", TESTS, re.MULTILINE)} == set()


def test_every_alert_leads_to_a_section_of_the_manual() -> None:
    wanted = re.findall(
        r"RUNBOOK\.md#([\w-]+)", (ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")
    )
    assert len(wanted) >= 3
    assert set(wanted) <= anchors_of(ROOT / "docs/RUNBOOK.md")


def test_every_section_that_is_linked_exists(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([\w./-]*\.md)?#([\w-]+)\)", document.read_text(encoding="utf-8")):
        assert anchor in anchors_of(document.parent / target if target else document), (target, anchor)


def test_every_command_that_is_named_exists(document: Path) -> None:
    named = names(document, r"(?:^|[;|(] *)svc-edge ([a-z]+)\b")
    assert named - set(COMMANDS) == set()


def test_every_target_that_is_named_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert names(document, r"^make ([a-z]+)\b") - targets == set()


def test_every_setting_that_is_named_exists(document: Path) -> None:
    named = names(document, rf"^((?:{'|'.join(sorted(SECTIONS))})(?:\.[a-z_]+)+)(?:[:=].*)?$")
    assert {name for name in named if not _is_setting(name)} == set()


def _is_setting(name: str) -> bool:
    known = {*keys.defaults(), *ALIASES}
    return name in known or any(key.startswith(f"{name}.") for key in known)


def test_every_metric_that_is_named_exists(document: Path) -> None:
    known = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs/METRICS.md").read_text(encoding="utf-8")))
    named = names(
        document,
        r"\b((?:edge|tls|audit|fill|http|request|rejected|io|service|busy|backoff)_[a-z_]+_(?:total|seconds))",
    )
    assert {name for name in named if name not in known} == set()
