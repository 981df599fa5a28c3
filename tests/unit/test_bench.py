"""The benchmark's own arithmetic and checks: what would let a wrong figure through."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pmtiles.reader import MmapSource, Reader, all_tiles
from pmtiles.tile import tileid_to_zxy, write_varint

# The benchmark is no part of the installed package; it stands at the top of the checkout.
sys.path.append(str(Path(__file__).parents[2]))

from bench import BenchError, process, report
from bench.__main__ import choose
from bench.archive import LEAF_ENTRIES, encode_varints, write_archive, zxy_of
from bench.cases import Case, Expected, Request, all_names
from bench.checks import check_counted, check_timed, problem
from bench.client import Answer
from bench.duel import Outcome, Run, Spread
from bench.edge import says_ready
from bench.load import Summary
from bench.startup import Start
from bench.world import World, million_tile

BODY = b"0123456789"
FIELDS = {
    "etag": '"1"',
    "cache-control": "public",
    "x-corr-id": "c",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-type": "text/plain",
    "content-range": "bytes 2-5/10",
}
NO_ERRORS = {"connect": 0, "read": 0, "write": 0, "timeout": 0, "status": 0}


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_varints_are_those_of_the_pmtiles_package(values: list[int]) -> None:
    reference = io.BytesIO()
    for value in values:
        write_varint(reference, value)
    assert encode_varints(np.array(values, dtype=np.uint64)) == reference.getvalue()


@given(st.integers(0, 4**20))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_tile_id_stands_where_the_pmtiles_package_puts_it(tile_id: int) -> None:
    assert zxy_of(tile_id) == tileid_to_zxy(tile_id)


@pytest.mark.parametrize("count", [1, 100, LEAF_ENTRIES, LEAF_ENTRIES + 1], ids="{} tiles".format)
def test_the_pmtiles_package_reads_every_tile_of_a_written_archive(tmp_path: Path, count: int) -> None:
    tiles = [million_tile(tile_id) for tile_id in range(count)]
    lengths = np.array([len(tile) for tile in tiles], dtype=np.uint64)
    write_archive(tmp_path / "a.pmtiles", lengths, tiles, coding="")
    with (tmp_path / "a.pmtiles").open("rb") as file:
        source = MmapSource(file)
        assert Reader(source).header()["tile_entries_count"] == count
        assert dict(all_tiles(source)) == {zxy_of(tile_id): tile for tile_id, tile in enumerate(tiles)}


def test_the_objects_of_two_worlds_are_equal_and_have_the_sizes_of_their_names(tmp_path: Path) -> None:
    first, second = World(tmp_path / "first").objects, World(tmp_path / "second").objects
    assert (first / "4KiB.bin").stat().st_size == 4096
    assert [f.read_bytes() for f in sorted(first.iterdir())] == [
        f.read_bytes() for f in sorted(second.iterdir())
    ]


@pytest.fixture
def ranged(tmp_path: Path) -> Case:
    path = tmp_path / "file"
    path.write_bytes(BODY)
    return Case("range", 206, (Request("/file", (), Expected(path, 2, 6)),), 4)


def test_a_right_answer_has_no_problem(ranged: Case) -> None:
    assert problem(ranged, ranged.requests[0], Answer(206, FIELDS, BODY[2:6], 100)) == ""


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (Answer(200, FIELDS, BODY, 100), "status 200"),
        (Answer(206, FIELDS, BODY[1:5], 100), "not the 4 bytes"),
        (Answer(206, FIELDS, BODY[2:5], 100), "not the 4 bytes"),
        (Answer(206, {**FIELDS, "content-range": "bytes 0-3/10"}, BODY[2:6], 100), "Content-Range"),
        (Answer(206, {**FIELDS, "content-encoding": "gzip"}, BODY[2:6], 100), "Content-Encoding"),
        (
            Answer(206, {k: v for k, v in FIELDS.items() if k != "x-corr-id"}, BODY[2:6], 100),
            "without x-corr-id",
        ),
    ],
    ids=["status", "other bytes", "short", "Content-Range", "Content-Encoding", "field missing"],
)
def test_a_wrong_answer_is_named(ranged: Case, answer: Answer, complaint: str) -> None:
    assert complaint in problem(ranged, ranged.requests[0], answer)


def summary(
    requests: int, bytes_in: int, *, errors: dict[str, int] = NO_ERRORS, **counted: object
) -> Summary:
    fields = {"statuses": {"206": requests}, "wrong_bytes": 0, **counted}
    return Summary(requests, 1.0, bytes_in, 100, 200, errors, **fields)  # type: ignore[arg-type]


def test_a_clean_run_passes(ranged: Case) -> None:
    check_counted("nginx", ranged, summary(1000, 0))
    check_timed("nginx", ranged, summary(1000, 1000 * 104), 100.0)


@pytest.mark.parametrize(
    "seen",
    [
        summary(0, 0, statuses={}),
        summary(1000, 104_000, errors={**NO_ERRORS, "timeout": 1}),
        summary(1000, 104_000, statuses={"206": 999, "200": 1}),
        summary(1000, 104_000, wrong_bytes=1),
    ],
    ids=["no requests", "a timeout", "one other status", "one wrong length"],
)
def test_a_counted_run_with_one_wrong_answer_is_refused(ranged: Case, seen: Summary) -> None:
    with pytest.raises(BenchError):
        check_counted("nginx", ranged, seen)


def test_a_timed_run_with_bytes_that_its_requests_do_not_explain_is_refused(ranged: Case) -> None:
    with pytest.raises(BenchError, match="are right"):
        check_timed("nginx", ranged, summary(100_000, 2 * 100_000 * 104), 100.0)


def run(cpu_us: float) -> Run:
    return Run(1000, 1e6 / cpu_us, 1.0, 2.0, cpu_us, cpu_us, 10.0)


def test_the_ratio_of_a_case_is_the_median_of_the_ratios_of_its_rounds() -> None:
    outcome = Outcome("object-4KiB", [(run(10), run(12)), (run(20), run(22)), (run(10), run(30))])
    assert outcome.ratio("cpu_us") == Spread(1.2, 1.1, 3.0)
    assert outcome.median(0, "cpu_us") == 10
    assert outcome.median(1, "cpu_us") == 22


def results() -> report.Results:
    outcomes = [Outcome("object-4KiB", [(run(10), run(14))]), Outcome("tiles", failure="status 500")]
    starts = [Start("10,000 files, verify full", Spread(1.0, 0.9, 1.1))]
    return report.Results({"cpu": "a"}, "python -m bench", ("nginx", "svc-edge"), outcomes, [], starts)


@pytest.mark.parametrize("markdown", [False, True], ids=["plain", "markdown"])
def test_the_tables_show_ratio_goal_and_failure(capsys: pytest.CaptureFixture[str], markdown: bool) -> None:
    report.print_results(results(), markdown=markdown)
    shown = capsys.readouterr().out
    assert "1.40 (1.40-1.40)" in shown
    assert [
        line.split()[-1 - markdown] for line in shown.splitlines() if "a request, object-4KiB" in line
    ] == ["NO"]
    assert "FAILED status 500" in shown


@pytest.mark.parametrize(
    ("log", "is_ready"),
    [
        ('{"event": "start"}\n{"event": "ready", "slot": 0}\n', True),
        ('{"event": "start", "ready": 0}\n', False),
        ('{"event": "ready"', False),
        ("not ready\n", False),
        ("", False),
    ],
    ids=["ready", "only started", "unfinished line", "no JSON", "empty"],
)
def test_only_a_whole_ready_line_counts_as_ready(log: str, is_ready: bool) -> None:
    assert says_ready(log) is is_ready


def test_an_unknown_case_is_refused_with_the_known_ones() -> None:
    assert choose("tiles, memory") == ["tiles", "memory"]
    assert choose(None) == [*all_names(), "memory", "start"]
    with pytest.raises(click.BadParameter, match="object-4KiB"):
        choose("object-5KiB")


def test_cpu_time_and_memory_of_a_process_come_from_proc() -> None:
    before = process.cpu_ns([os.getpid()])
    sum(range(2_000_000))
    os.sched_yield()
    assert process.cpu_ns([os.getpid()]) > before
    seen = process.memory(os.getpid())
    assert 0 < seen.private <= seen.pss <= seen.rss
