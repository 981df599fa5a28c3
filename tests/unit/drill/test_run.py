"""Which fault a lost request is put down to."""

from __future__ import annotations

from typing import Any, cast

import pytest

from edge_server.drill.faults import Outcome
from edge_server.drill.journal import Loss
from edge_server.drill.judge import Observed, Window
from edge_server.drill.result import Done, Result, Settings
from edge_server.drill.run import Drill

KILLED_S = 110.0
OUTCOMES = [
    Outcome(105.0, 106.0, is_proxied=True, resets=1),
    Outcome(KILLED_S, KILLED_S, victim="victim", killed_s=KILLED_S),
]


def judged(*losses: Loss) -> tuple[list[tuple[int, int]], Result]:
    """Return (unexplained, explained) of each fault, and the result."""
    drill = Drill(cast(Any, None), Settings(), lambda phase, journal: None)
    drill._outcomes = OUTCOMES
    for loss in losses:
        drill._journal.lost(loss.began_s, loss)
    result = Result(0.0, Settings(), {}, [], [], drill._journal, baseline=Window.of([]))
    result.faults = [Done(Observed("latency")), Done(Observed("kill-worker"))]
    drill._judge(result)
    return [(done.observed.unexplained, done.observed.explained) for done in result.faults], result


@pytest.mark.parametrize(
    ("loss", "counts"),
    [
        pytest.param(Loss(105.5, 105.6, "a", True, ""), [(0, 1), (0, 0)], id="reset-by-the-proxy"),
        pytest.param(Loss(105.5, 105.6, "a", False, ""), [(1, 0), (0, 0)], id="beside-the-proxy"),
        pytest.param(
            Loss(109.999, 110.001, "victim", False, ""), [(0, 0), (0, 1)], id="sent-before-the-kill"
        ),
        pytest.param(Loss(108.0, 108.1, "a", False, ""), [(1, 0), (0, 0)], id="in-the-recovery"),
        pytest.param(Loss(120.0, 120.1, "a", False, ""), [(0, 0), (1, 0)], id="at-the-end"),
        pytest.param(Loss(101.0, 101.1, "a", False, ""), [(0, 0), (0, 0)], id="before-all-faults"),
    ],
)
def test_a_lost_request_belongs_to_the_fault_during_which_it_was_lost(
    loss: Loss, counts: list[tuple[int, int]]
) -> None:
    assert judged(loss)[0] == counts


def test_what_was_lost_before_all_faults_fails_the_whole() -> None:
    _, result = judged(Loss(101.0, 101.1, "a", False, ""))
    (check,) = [check for check in result.checks if check.what == "requests lost outside of faults"]
    assert (check.seen, check.passed) == ("1", False)


def test_losses_beyond_those_that_are_kept_count_as_without_a_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_server.drill.journal.MAX_PARTICULARS", 0)
    _, result = judged(Loss(110.0, 110.1, "victim", False, ""))
    (check,) = [check for check in result.checks if check.what == "requests lost outside of faults"]
    assert (check.seen, check.passed) == ("1", False)
