"""A small fair timer: variants in turn, so that whatever drifts drifts for all of them.

Prints the median nanoseconds of a call, the least and greatest of the rounds, and the
ratio to the first variant, under a line that names the machine. No figure is judged here.
"""

from __future__ import annotations

import gc
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROUND_S = 0.05
ROUNDS = 9

# Does its work `count` times, in a loop of its own, so that no call per iteration is timed.
Loop = Callable[[int], object]


def compare(title: str, variants: Mapping[str, Loop], *, rounds: int = ROUNDS) -> dict[str, float]:
    """Time each variant in turn, print a table, and return the median nanoseconds of each.

    Args:
        title: what is compared.
        variants: name to loop; the first is what the others are compared with.
        rounds: timed runs of each, one after the other.
    """
    counts = {name: _calibrate(loop) for name, loop in variants.items()}
    times: dict[str, list[float]] = {name: [] for name in variants}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, loop in variants.items():
                times[name].append(_time_ns(loop, counts[name]) / counts[name])
    finally:
        gc.enable()
    return _print(title, times)


def machine() -> str:
    """Return one line on what the figures belong to."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{model[1] if model else platform.machine()}, {python}, load {os.getloadavg()[0]:.2f}"


def _calibrate(loop: Loop) -> int:
    count = 1
    while (taken := _time_ns(loop, count)) < ROUND_S * 1e9 / 4:
        count *= 2
    return max(1, int(count * ROUND_S * 1e9 / taken))


def _time_ns(loop: Loop, count: int) -> int:
    began = time.perf_counter_ns()
    loop(count)
    return time.perf_counter_ns() - began


def _print(title: str, times: Mapping[str, list[float]]) -> dict[str, float]:
    medians = {name: statistics.median(values) for name, values in times.items()}
    width = max(map(len, times))
    base = next(iter(medians.values()))
    print(f"{title}: {machine()}")
    for name, values in times.items():
        spread = f"({min(values):,.0f} to {max(values):,.0f})"
        print(f"  {name:{width}} {medians[name]:10,.0f} ns {spread:24} x{medians[name] / base:.2f}")
    return medians
