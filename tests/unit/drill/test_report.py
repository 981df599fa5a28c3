"""The report: every file, and that what failed, was lost or wrong can be read in it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from edge_server.drill import report
from edge_server.drill.journal import MAX_PARTICULARS, Journal, Loss, Row, Wrong
from edge_server.drill.judge import Check, Observed, Window
from edge_server.drill.result import Done, Result, Settings

STATUS = {"version": "1.2.3", "mode": "offline", "generation": 4, "slots": 2}
ORIGIN_S = 1000.0


@pytest.fixture
def result() -> Result:
    journal = Journal()
    for number in range(100):
        journal.answered(Row(ORIGIN_S + number / 10, 0.001 * (number + 1), 200, False, False), 1000)
    journal.lost(ORIGIN_S + 5, Loss(ORIGIN_S + 5, ORIGIN_S + 5.25, "abc", False, "reset | by peer"))
    journal.differed(Wrong(ORIGIN_S + 6, "/edge/assets/a", "other bytes"))
    made = Result(0.0, Settings(), STATUS, [], [], journal, ORIGIN_S, 10.0, before=b"a 1\n", after=b"a 2\n")
    window = Window.of(journal.rows())
    made.baseline = window
    made.faults = [
        Done(
            Observed("kill-worker", replaced_s=0.04, explained=1, after=window), 5.0, 5.0, 10.0, after=window
        ),
        Done(Observed("stop-worker", skipped="not in this version")),
    ]
    made.checks = [Check("kill-worker", "a successor serves", "40.0 ms", "within 1.0 ms", True)]
    return made


def test_every_file_is_written_and_nothing_else(result: Result, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "report"
    report.write(result, str(folder))
    assert sorted(path.name for path in folder.iterdir()) == sorted(report.FILES)
    assert (folder / "before.prom").read_bytes() == b"a 1\n"
    assert (folder / "after.prom").read_bytes() == b"a 2\n"
    ET.parse(folder / "latency.svg")


def test_programs_read_the_verdict_and_the_figures(result: Result, tmp_path: Path) -> None:
    report.write(result, str(tmp_path))
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["passed"] is True
    assert (told["lost"], told["wrong"]) == (1, 1)
    assert told["losses"][0]["began_s"] == pytest.approx(5.0)
    assert told["wrong_answers"][0]["path"] == "/edge/assets/a"
    assert [fault["name"] for fault in told["faults"]] == ["kill-worker", "stop-worker"]
    assert told["faults"][0]["after"]["p95_s"] == pytest.approx(0.095)
    assert [bucket["start_s"] for bucket in told["timeline"]] == [float(second) for second in range(10)]
    assert sum(bucket["lost"] for bucket in told["timeline"]) == 1


def test_people_read_what_failed_first(result: Result) -> None:
    result.checks.append(Check("", "wrong answers", "1", "0", False))
    lines = report.markdown(result).splitlines()
    assert lines[0] == "# Chaos drill: FAILED"
    assert lines[2] == "- **whole run: wrong answers**: 1, allowed: 0"


def test_people_read_what_was_lost_wrong_and_skipped(result: Result) -> None:
    told = report.markdown(result)
    assert told.startswith("# Chaos drill: passed\n")
    assert "5.000 s, after 250.0 ms: reset \\| by peer" in told
    assert "`/edge/assets/a`: other bytes" in told
    assert "| stop-worker | skipped | not in this version |" in told
    assert "| kill-worker, recovery | 5.0 |" in told


def test_a_run_on_a_busy_machine_is_called_that(result: Result) -> None:
    assert "busy with something else" not in report.markdown(result)
    assert "busy with something else" in report.markdown(replace(result, late_s=0.5))


def test_a_result_without_checks_has_not_passed(result: Result) -> None:
    result.checks = []
    assert not result.passed


def test_a_long_drill_has_a_bounded_timeline(result: Result, tmp_path: Path) -> None:
    report.write(replace(result, length_s=3600.0), str(tmp_path))
    assert len(json.loads((tmp_path / "report.json").read_text())["timeline"]) <= 240


def test_the_journal_keeps_counting_where_it_keeps_no_particulars() -> None:
    journal = Journal()
    for _ in range(MAX_PARTICULARS + 5):
        journal.lost(0.0, Loss(0.0, 1.0, "", False, "reset"))
    assert journal.lost_count == MAX_PARTICULARS + 5
    assert len(journal.losses) == MAX_PARTICULARS
    assert len(journal.between(0.0, 1.0)) == MAX_PARTICULARS + 5


def test_a_row_comes_back_as_it_was_noted() -> None:
    journal = Journal()
    rows = [Row(1.5, 0.25, 206, True, False), Row(2.5, 0.5, 429, False, True)]
    for row in rows:
        journal.answered(row, 0)
    assert list(journal.rows()) == rows
    assert journal.between(2.0, 3.0) == rows[1:]
