"""The judge of trends, with series that rise and series that only look like it."""

from __future__ import annotations

import random

import pytest

from tests.perf import soak
from tests.perf.soak import Sample
from tests.perf.trends import MIN_SAMPLES, judge, second_half, theil_sen

MIB = 1 << 20
COUNT = 120
TIMES = [float(second) for second in range(COUNT)]


def noise(amplitude: float, seed: int = 1) -> list[float]:
    source = random.Random(seed)
    return [source.uniform(-amplitude, amplitude) for _ in TIMES]


def line(total: float) -> list[float]:
    return [total * at / TIMES[-1] for at in TIMES]


def plus(*series: list[float]) -> list[float]:
    return [sum(values) for values in zip(*series, strict=True)]


def test_the_slope_of_a_line_is_exact() -> None:
    assert theil_sen(TIMES, [3 * at + 7 for at in TIMES]) == pytest.approx(3)


def test_a_quarter_of_wild_samples_does_not_move_the_slope() -> None:
    values = [3 * at for at in TIMES]
    for index in range(0, COUNT, 4):
        values[index] = 1e9 if index % 8 else -1e9
    assert theil_sen(TIMES, values) == pytest.approx(3, rel=0.2)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(line(2 * MIB), id="a line"),
        pytest.param(plus(line(2 * MIB), noise(MIB)), id="a line in noise as large as half of it"),
        pytest.param([float(int(4 * at / COUNT)) * MIB for at in TIMES], id="a staircase"),
        pytest.param([1.2 * MIB * (at / COUNT) ** 0.5 * 2 for at in TIMES], id="growth that slows"),
        pytest.param([at % 10 * MIB / 20 + 3 * MIB * at / COUNT for at in TIMES], id="a saw on a slope"),
    ],
)
def test_what_rises_is_seen(values: list[float]) -> None:
    assert judge(TIMES, values, MIB).is_rising


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([5.0 * MIB] * COUNT, id="constant"),
        pytest.param(noise(8 * MIB), id="noise far above what is allowed"),
        pytest.param(line(0.9 * MIB), id="less than is allowed"),
        pytest.param(line(-5 * MIB), id="falling"),
        pytest.param([0.0] * 60 + [8.0 * MIB] * 60, id="one step in the middle"),
        pytest.param([0.0] * 30 + [8.0 * MIB] * 90, id="one early step"),
        pytest.param([0.0] * 110 + [8.0 * MIB] * 10, id="a late step"),
        pytest.param([at % 20 * MIB for at in TIMES], id="a saw"),
        pytest.param([64.0 * MIB if at % 30 == 7 else 0.0 for at in TIMES], id="rare peaks"),
    ],
)
def test_what_does_not_rise_is_left_alone(values: list[float]) -> None:
    assert not judge(TIMES, values, MIB).is_rising


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_trend_whatever_the_seed(seed: int) -> None:
    assert not judge(TIMES, noise(MIB, seed), MIB).is_rising


def test_a_long_series_is_judged_as_a_short_one_is() -> None:
    times = [float(at) for at in range(5000)]
    assert judge(times, [at / 1000 for at in times], 1.0).growth == pytest.approx(5, rel=0.01)


def test_too_few_samples_are_no_basis() -> None:
    with pytest.raises(ValueError, match="too few"):
        judge(TIMES[: MIN_SAMPLES - 1], TIMES[: MIN_SAMPLES - 1], 1.0)
    with pytest.raises(ValueError, match="two different times"):
        theil_sen([1.0, 1.0], [1.0, 2.0])


def test_the_half_that_is_judged_begins_in_the_middle_of_the_time() -> None:
    assert TIMES[second_half(TIMES)][0] == 60.0
    assert [0.0, 1.0, 9.0, 10.0][second_half([0.0, 1.0, 9.0, 10.0])] == [9.0, 10.0]


def samples(pid: int, leak_bytes: float = 0.0, fds: int = 20, leak_fds: float = 0.0) -> list[Sample]:
    """A process that fills its caches in the first half and then leaks so much over the second."""
    return [
        Sample(
            at,
            f"worker {pid}",
            pid,
            int(30 * MIB + min(at, 60) * MIB + max(0.0, at - 60) / 60 * leak_bytes),
            int(9 * MIB + max(0.0, at - 60) / 60 * leak_bytes),
            fds + int(max(0.0, at - 60) / 60 * leak_fds),
            1,
        )
        for at in TIMES
    ]


def test_caches_that_fill_in_the_first_half_are_no_leak() -> None:
    assert [finding for finding in soak.judge(samples(1)) if finding.trend.is_rising] == []


def test_a_leak_is_told_with_process_and_quantity() -> None:
    rising = [
        (finding.process, finding.what)
        for finding in soak.judge([*samples(1), *samples(2, leak_bytes=8 * MIB), *samples(3, leak_fds=30)])
        if finding.trend.is_rising
    ]
    leaky = "worker 2 (2)"
    assert rising == [(leaky, "rss_bytes"), (leaky, "pss_bytes"), ("worker 3 (3)", "fds")]


def test_a_process_that_was_replaced_fails_the_soak() -> None:
    again = [sample._replace(pid=9) for sample in samples(1)]
    assert soak.report([*samples(1), *again]) == ["worker 1: was replaced during the soak"]
