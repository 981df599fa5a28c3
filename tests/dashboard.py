"""The Grafana dashboard, and its queries as Grafana would ask them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).parents[1] / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "svc-edge.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
GIVEN = {"$job": "svc-edge", "$__rate_interval": "5m"}


def queries(instance: str = ".*") -> list[tuple[str, str]]:
    """Return the title of the panel and the expression of every query, variables replaced."""
    return [
        (f"{panel['title']} {target['refId']}", asked(target["expr"], instance))
        for panel in PANELS
        for target in panel["targets"]
    ]


def asked(expression: str, instance: str) -> str:
    """Return an expression with its variables replaced; `instance` is a regular expression."""
    for name, value in {**GIVEN, "$instance": instance}.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression
