"""The verdict: what passes, and that each limit can fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_server.drill.journal import Row
from edge_server.drill.judge import Check, Limits, Observed, Whole, Window, judge

LIMITS = Limits()
FAST = 0.002


def window(
    latency_s: float = FAST, count: int = 100, *, errors: int = 0, rejected: int = 0, lost: int = 0
) -> Window:
    rows = [Row(0.0, latency_s, 200, False, False)] * count
    rows += [Row(0.0, latency_s, 500, False, False)] * errors
    rows += [Row(0.0, latency_s, 429, False, True)] * rejected
    rows += [Row(0.0, latency_s, 0, False, False)] * lost
    return Window.of(rows)


KILL = Observed(
    "kill-worker",
    (("process 7 was killed", True),),
    has_victim=True,
    replaced_s=0.05,
    steady_s=0.1,
    explained=2,
    max_explained=8,
    after=window(),
)
WHOLE = Whole(window(count=10_000), wrong=0, unexplained=0, baseline_ready=True)


def failed(fault: Observed = KILL, whole: Whole = WHOLE, baseline: Window | None = None) -> list[str]:
    checks = judge(baseline or window(), [fault], whole, LIMITS)
    return [check.what for check in checks if not check.passed]


def test_an_instance_that_keeps_its_promises_passes() -> None:
    assert failed() == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"proofs": (("it stopped", False),)}, "it took place: it stopped"),
        ({"replaced_s": None}, "a successor serves"),
        ({"replaced_s": 3.1}, "a successor serves"),
        ({"steady_s": None}, "readyz steady again"),
        ({"steady_s": 3.001}, "readyz steady again"),
        ({"after": window(0.0401)}, "p95 is back"),
        ({"after": window(count=19)}, "requests to judge by"),
        ({"after": window(rejected=2)}, "rejects are back"),
        ({"unexplained": 1}, "requests lost without a cause"),
        ({"explained": 9}, "requests lost to the fault itself"),
        ({"bystanders": window(0.5)}, "p95 of clients beside the proxy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_each_promise_of_a_fault_can_be_broken(change: dict[str, object], what: str) -> None:
    assert failed(replace(KILL, **change)) == [what]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"wrong": 1}, "wrong answers"),
        ({"unexplained": 1}, "requests lost outside of faults"),
        ({"window": window(count=999, errors=1)}, "answers with 5xx"),
        ({"baseline_ready": False}, "ready on both planes throughout"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_promise_of_the_whole_can_be_broken(change: dict[str, object], what: str) -> None:
    assert failed(whole=WHOLE._replace(**change)) == [what]  # type: ignore[arg-type]


def test_5xx_just_below_the_limit_pass() -> None:
    assert failed(whole=WHOLE._replace(window=window(count=1001, errors=1))) == []


def test_a_limit_of_zero_fails_even_the_best() -> None:
    limits = Limits(ready_within_s=0, p95_margin=0, p95_floor_s=0, max_5xx_share=0)
    baseline = window(FAST / 2)
    told = {check.what for check in judge(baseline, [KILL], WHOLE, limits) if not check.passed}
    assert told == {"a successor serves", "readyz steady again", "p95 is back", "answers with 5xx"}


def test_above_the_floor_p95_may_be_a_tenth_above_the_baseline() -> None:
    slow = window(0.1)
    assert failed(replace(KILL, after=window(0.1099)), baseline=slow) == []
    assert failed(replace(KILL, after=window(0.1101)), baseline=slow) == ["p95 is back"]


def test_a_baseline_that_lost_requests_or_has_too_few_fails() -> None:
    assert failed(baseline=window(lost=1)) == ["requests lost"]
    assert failed(baseline=window(count=19)) == ["requests to judge by"]


def test_a_drill_that_injected_nothing_does_not_pass() -> None:
    skipped = Observed("stop-worker", skipped="no heartbeat")
    assert failed(skipped) == ["at least one fault was injected"]
    assert [check.phase for check in judge(window(), [skipped, KILL], WHOLE, LIMITS)].count(
        "stop-worker"
    ) == 0


def test_what_was_lost_is_in_no_percentile() -> None:
    counted = Window.of([Row(0, 15.0, 0, False, False), Row(0, 0.5, 200, False, False)])
    assert (counted.requests, counted.lost, counted.max_s) == (2, 1, 0.5)
    assert Window.of([]).p95_s is None


def test_a_check_says_what_was_seen_and_allowed() -> None:
    checks = judge(window(), [replace(KILL, replaced_s=4.2)], WHOLE, LIMITS)
    assert Check("kill-worker", "a successor serves", "4,200.0 ms", "within 3,000.0 ms", False) in checks
