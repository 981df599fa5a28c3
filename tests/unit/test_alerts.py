"""The alerts are whole: labels, texts, links into the manual, and tests that fire and that stay silent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_server.observe.declarations import DECLARED, HISTOGRAM
from tests.dashboard import DEPLOY

FOLDER = DEPLOY / "prometheus"
MANUAL = Path(__file__).parents[2] / "docs" / "RUNBOOK.md"
PROMISED = {"EdgeHighErrorRate": "10m", "EdgeExcessiveShedding": "15m", "EdgeNotReady": "5m"}


def load(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def rules(name: str) -> list[dict[str, Any]]:
    return [rule for group in load(name)["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules("alerts.yml")}
CASES = load("tests/alerts_test.yml")["tests"]


def anchors() -> set[str]:
    """Return where the manual can be linked to: its headings as its readers' browsers name them."""
    headings = re.findall(r"^#+ (.+)$", MANUAL.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_the_promised_alerts_wait_as_long_as_promised() -> None:
    assert {name: ALERTS[name]["for"] for name in PROMISED} == PROMISED


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning")
    told = alert["annotations"]
    assert told.keys() == {"summary", "description", "runbook_url"}
    assert "\n" not in told["summary"] + told["description"]
    assert told["description"].endswith(".")
    assert re.fullmatch(r"docs/RUNBOOK\.md#[0-9]+-[a-z-]+", told["runbook_url"])


@pytest.mark.skipif(not MANUAL.exists(), reason="needs docs/RUNBOOK.md, which is not in this tree")
def test_every_link_of_an_alert_leads_to_a_section_of_the_manual() -> None:
    links = {alert["annotations"]["runbook_url"].partition("#")[2] for alert in ALERTS.values()}
    assert links <= anchors()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_cases_in_which_it_fires_and_in_which_it_is_silent(name: str) -> None:
    ends = {"fires": False, "silent": False}
    for case in CASES:
        for check in case.get("promql_expr_test", ()):
            if f'alertname="{name}"' in check["expr"]:
                ends["fires" if check["exp_samples"] else "silent"] = True
    assert ends == {"fires": True, "silent": True}


def test_rules_read_metrics_that_are_declared_or_recorded_and_of_one_job() -> None:
    recorded = {rule["record"] for rule in rules("recording.yml")}
    declared = {each.name for each in DECLARED} | {"up"}
    declared |= {
        f"{each.name}_{end}" for each in DECLARED if each.kind == HISTOGRAM for end in ("bucket", "count")
    }
    for rule in (*rules("recording.yml"), *rules("alerts.yml")):
        selectors = re.findall(r"([a-z_:0-9]+)\{([^}]*)\}", rule["expr"])
        assert {name for name, _ in selectors} <= declared | recorded
        assert all('job="svc-edge"' in labels for _, labels in selectors), rule["expr"]


def test_the_page_on_monitoring_lists_each_alert_as_it_is() -> None:
    page = (DEPLOY.parent / "docs" / "MONITORING.md").read_text(encoding="utf-8")
    listed = dict(
        re.findall(r"^\| `(Edge\w+)` \| .+? \| (\w+(?: once)? \| \w+ \| \d+) \|$", page, re.MULTILINE)
    )
    for name, alert in ALERTS.items():
        section = alert["annotations"]["runbook_url"].partition("#")[2].partition("-")[0]
        told = f"{alert.get('for', 'at once')} | {alert['labels']['severity']} | {section}"
        assert listed.pop(name) == told
    assert not listed
