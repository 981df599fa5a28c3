"""The dashboard is one that Grafana can load, and reads metrics that exist."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

import pytest
import yaml

from edge_server.observe.declarations import DECLARED, HISTOGRAM
from tests.dashboard import DASHBOARD, DEPLOY, PANELS, queries

COLUMNS = 24
# What Grafana reads and its schema does not have: of annotations.
OUTSIDE_THE_SCHEMA = {"builtIn", "titleFormat", "textFormat", "step"}
NAMES = {declared.name for declared in DECLARED}
SERIES = NAMES | {
    f"{declared.name}_{suffix}"
    for declared in DECLARED
    if declared.kind == HISTOGRAM
    for suffix in ("bucket", "sum", "count")
}


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def metrics_in(expression: str) -> set[str]:
    """Return the names in front of a selector."""
    return set(re.findall(r"([a-z_:0-9]+)\{", expression))


def lost(given: Any, kept: Any) -> set[str]:
    """Return the names in `given` that are not in `kept`, or with another value."""
    if isinstance(given, dict):
        found = [lost(value, kept[name]) if name in kept else {name} for name, value in given.items()]
        return set().union(*found)
    if isinstance(given, list):
        return set().union(*(lost(*pair) for pair in zip(given, kept, strict=True)))
    return set() if given == kept else {f"{given!r} became {kept!r}"}


def test_grafanas_own_schema_knows_every_field_of_the_dashboard_and_of_its_panels() -> None:
    needed = "needs grafana-foundation-sdk, which wants Python 3.11"
    plugins = pytest.importorskip("grafana_foundation_sdk.cog.plugins", reason=needed)
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder", reason=needed)
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason=needed)
    plugins.register_default_plugins()
    read = models.Dashboard.from_json(json.loads(json.dumps(DASHBOARD)))
    assert lost(DASHBOARD, json.loads(json.dumps(read, cls=encoder.JSONEncoder))) == OUTSIDE_THE_SCHEMA


def test_ids_are_unique_and_the_format_is_one_that_grafana_knows() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert (DASHBOARD["schemaVersion"], DASHBOARD["uid"], DASHBOARD["title"]) == (38, "svc-edge", "svc-edge")
    assert not {"__inputs", "__requires", "id"} & DASHBOARD.keys(), "of an export, not of a provisioned file"


def test_panels_lie_on_the_grid_and_none_covers_another() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    for place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS
        assert place["h"] > 0
        assert place["y"] >= 0
    assert not [pair for pair in combinations(places, 2) if overlap(*pair)]


def test_every_panel_says_what_it_shows_and_reads_the_chosen_data_source() -> None:
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_data_source_job_and_instance_are_variables_that_every_query_heeds() -> None:
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert (variables["instance"]["multi"], variables["instance"]["includeAll"]) == (True, True)
    targets = [target["expr"] for panel in PANELS for target in panel["targets"]]
    for expression in targets:
        selectors = re.findall(r"\{([^}]*)\}", expression)
        assert selectors
        assert all('job="$job", instance=~"$instance"' in each for each in selectors), expression


def test_the_panels_of_the_runbook_and_what_operators_want_besides_are_there() -> None:
    wanted: dict[str, Any] = {
        "Requests a second by status": "http_requests_total",
        "Latency": "request_latency_seconds_bucket",
        "Rejects by reason": "rejected_total",
        "Fill success ratio": "edge_live_fill_success_total",
        "Queue depth": "edge_queue_depth",
        "Queue drops": "edge_queue_dropped_total",
        "I/O timeouts by op": "io_timeouts_total",
        "Readiness": "edge_ready",
        "Workers": "edge_worker_up",
        "Stored bytes": "edge_cas_bytes",
        "Parked": "edge_parked",
        "Loop lag": "edge_worker_loop_lag_seconds",
        "Connections by state": "edge_connections",
        "Bytes a second": "edge_bytes_out_total",
        "Hit ratio": "edge_cache_hits_total",
    }
    read = {
        panel["title"]: set().union(*(metrics_in(target["expr"]) for target in panel["targets"]))
        for panel in PANELS
    }
    for title, metric in wanted.items():
        assert metric in read[title]


def test_only_metrics_that_are_declared_are_asked_for_and_nearly_all_are_shown() -> None:
    asked = set().union(*(metrics_in(expression) for _, expression in queries()))
    assert asked <= SERIES
    shown = {name for name in NAMES if asked & {name, f"{name}_bucket"}}
    assert NAMES - shown == {
        "inflight_requests",  # edge_inflight says more
        "busy_rejections_total",  # rejected_total says as much
        "edge_range_requests_total",
        "edge_config_last_reload_success_timestamp_seconds",
        "edge_spans_total",  # of traces, which have a collector of their own
    }


def test_provisioning_names_the_data_source_and_the_folder() -> None:
    folder = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://127.0.0.1:9090")
    (provider,) = yaml.safe_load((folder / "dashboards" / "svc-edge.yml").read_text())["providers"]
    assert (provider["type"], provider["options"]["path"]) == ("file", "${SVC_EDGE_DASHBOARDS}")
