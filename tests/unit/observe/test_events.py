"""docs/LOGS.md against the declaration of the events."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edge_server.observe.audit import KINDS
from edge_server.observe.events import EVENTS, FIELDS

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "LOGS.md").read_text()
EVENT_ROWS, KIND_ROWS = (
    dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", part, re.MULTILINE)) for part in DOCUMENT.split("## Traces")
)


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_has_an_example_that_is_one(event: str) -> None:
    (example,) = re.findall(r"`(\{.*?\})`", EVENT_ROWS[event])
    line = json.loads(example)
    assert line["event"] == event
    for name in line.keys() & FIELDS.keys():
        assert isinstance(line[name], FIELDS[name])


def test_nothing_else_is_said_to_be_an_event_or_a_kind_of_record() -> None:
    assert EVENT_ROWS.keys() == EVENTS.keys()
    assert KIND_ROWS.keys() == set(KINDS)


def test_the_rotation_that_is_shown_is_the_file_that_is_shipped() -> None:
    shipped = (ROOT / "deploy" / "svc-edge.logrotate").read_text()
    assert "".join(f"    {line}\n" for line in shipped.splitlines()) in DOCUMENT
