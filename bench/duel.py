"""Two servers under one load, in alternating rounds.

A, B, A, B: whatever drifts on the machine drifts for both. The ratio of a case is the
median of the ratios of its rounds, each of two runs that stand next to each other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench import BenchError, checks, load
from bench.cases import Case
from bench.process import Server, cpu_ns

COUNTED_S = 1
SETTLE_S = 0.05  # the kernel books a task's time when it leaves the CPU


class Run(NamedTuple):
    """One timed run of one server."""

    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  # of the worker, a request
    all_cpu_us: float  # of all processes of the server, a request
    mib_per_s: float


class Spread(NamedTuple):
    """A median and the least and greatest of what it is the median of."""

    median: float
    low: float
    high: float


@dataclass(slots=True)
class Outcome:
    """The rounds of one case, or why there are none. `runs` holds (first server, second server)."""

    case: str
    runs: list[tuple[Run, Run]] = field(default_factory=list)
    failure: str = ""

    def median(self, server: int, figure: str) -> float:
        """Return the median of a figure of `Run` for the first (0) or second (1) server."""
        return float(statistics.median(getattr(pair[server], figure) for pair in self.runs))

    def ratio(self, figure: str) -> Spread:
        """Second server to first server, round by round."""
        ratios = [getattr(second, figure) / getattr(first, figure) for first, second in self.runs]
        return Spread(statistics.median(ratios), min(ratios), max(ratios))


@dataclass(frozen=True, slots=True)
class Duel:
    """What stays the same for all cases.

    Attributes:
        servers: the two, running, pinned to the same CPU; the first is the yardstick.
        folder: for request lists and wrk's scripts.
        load_cpu: what wrk is bound to.
        rounds, seconds: how many timed runs each server gets, and how long each takes.
        say: gets a line of progress.
    """

    servers: tuple[Server, Server]
    folder: Path
    load_cpu: int
    rounds: int
    seconds: int
    say: Callable[[str], None]

    def fight(self, cases: Sequence[Case]) -> list[Outcome]:
        """Return the outcome of every case, failed ones with their failure."""
        load.write_scripts(self.folder)
        return [self._outcome(case) for case in cases]

    def _outcome(self, case: Case) -> Outcome:
        outcome = Outcome(case.name)
        try:
            heads = [self._rehearse(server, case) for server in self.servers]
            for index in range(self.rounds):
                self.say(f"{case.name}: round {index + 1} of {self.rounds}")
                first, second = (self._timed(s, case, h) for s, h in zip(self.servers, heads, strict=True))
                outcome.runs.append((first, second))
        except (BenchError, OSError) as failure:
            outcome.failure = str(failure)
            self.say(f"{case.name}: FAILED: {failure}")
        return outcome

    def _rehearse(self, server: Server, case: Case) -> float:
        """Check contents and a counted run, which warms caches too; return bytes of a head."""
        self.say(f"{case.name}: checking {server.name}")
        requests = checks.prepare(server.port, case)
        load.write_requests(self._requests(server, case), requests)
        head_bytes = checks.check_sample(server.name, server.port, case, requests)
        summary = self._load(server, case, seconds=COUNTED_S, counted=True)
        checks.check_counted(server.name, case, summary)
        return head_bytes

    def _timed(self, server: Server, case: Case, head_bytes: float) -> Run:
        workers, everyone = server.workers(), server.processes()
        worker_ns, all_ns = cpu_ns(workers), cpu_ns(everyone)
        summary = self._load(server, case, seconds=self.seconds, counted=False)
        time.sleep(SETTLE_S)
        checks.check_timed(server.name, case, summary, head_bytes)
        if server.workers() != workers or server.processes() != everyone:
            raise BenchError(f"{server.name}, {case.name}: a process was replaced during the run")
        return _run(summary, cpu_ns(workers) - worker_ns, cpu_ns(everyone) - all_ns)

    def _load(self, server: Server, case: Case, *, seconds: int, counted: bool) -> load.Summary:
        requests = self._requests(server, case)
        return load.run(
            self.folder,
            requests,
            server.port,
            cpu=self.load_cpu,
            seconds=seconds,
            counted=counted,
            body_bytes=case.body_bytes,
        )

    def _requests(self, server: Server, case: Case) -> Path:
        return self.folder / f"{self.servers.index(server)}-{case.name}.requests"


def _run(summary: load.Summary, worker_ns: int, all_ns: int) -> Run:
    if worker_ns <= 0:
        raise BenchError("/proc/PID/schedstat does not count on this kernel (CONFIG_SCHED_INFO)")
    return Run(
        requests=summary.requests,
        requests_per_s=summary.requests / summary.seconds,
        p50_ms=summary.p50_us / 1000,
        p99_ms=summary.p99_us / 1000,
        cpu_us=worker_ns / 1000 / summary.requests,
        all_cpu_us=all_ns / 1000 / summary.requests,
        mib_per_s=summary.bytes_in / summary.seconds / 2**20,
    )
