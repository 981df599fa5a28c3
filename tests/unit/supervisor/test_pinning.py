"""Pinning, on machines described by folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_server.errors import ConfigError
from edge_server.supervisor.pinning import (
    Cpus,
    assign,
    is_permitted,
    parse_cpu_list,
    pin,
    usable_cpus,
    worker_count,
)

V2 = "0::/system.slice/svc-edge.service\n"
V1 = "12:cpuset:/\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n0::/docker/abc\n"


def machine(root: Path, membership: str, files: dict[str, str], affinity: set[int] | None = None) -> Cpus:
    for path, text in files.items():
        (root / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "tree" / path).write_text(text)
    (root / "tree").mkdir(exist_ok=True)
    (root / "cgroup").write_text(membership)
    return usable_cpus(affinity or set(range(8)), root / "tree", root / "cgroup")


SERVICE = "system.slice/svc-edge.service"


@pytest.mark.parametrize(
    ("membership", "files", "count"),
    [
        pytest.param(V2, {f"{SERVICE}/cpu.max": "max 100000\n"}, 8, id="v2-no-quota"),
        pytest.param(V2, {f"{SERVICE}/cpu.max": "50000 100000\n"}, 1, id="v2-half-a-cpu"),
        pytest.param(V2, {f"{SERVICE}/cpu.max": "150000 100000\n"}, 2, id="v2-one-and-a-half-rounds-up"),
        pytest.param(V2, {f"{SERVICE}/cpu.max": "200000 100000\n"}, 2, id="v2-two"),
        pytest.param(V2, {f"{SERVICE}/cpu.max": "6400000 100000\n"}, 8, id="v2-more-than-the-machine"),
        pytest.param(
            V2,
            {f"{SERVICE}/cpu.max": "max 100000\n", "system.slice/cpu.max": "300000 100000\n"},
            3,
            id="v2-a-group-above-limits",
        ),
        pytest.param(
            V2,
            {f"{SERVICE}/cpu.max": "200000 100000\n", "system.slice/cpu.max": "300000 100000\n"},
            2,
            id="v2-the-narrowest-limits",
        ),
        pytest.param("0::/\n", {"cpu.max": "200000 100000\n"}, 2, id="v2-container-with-its-own-namespace"),
        pytest.param(
            "0::/docker/abc\n", {"cpu.max": "200000 100000\n"}, 2, id="v2-container-with-the-hosts-path"
        ),
        pytest.param("0::/../../x\n", {"cpu.max": "200000 100000\n"}, 2, id="v2-path-outside-the-namespace"),
        pytest.param("0::/\n", {"unified/cpu.max": "200000 100000\n"}, 2, id="v2-beside-v1"),
        pytest.param(V2, {f"{SERVICE}/cpu.max": "garbage\n"}, 8, id="v2-unreadable-text"),
        pytest.param(V2, {f"{SERVICE}/cpu.max": "100000 0\n"}, 8, id="v2-no-period"),
        pytest.param(V2, {}, 8, id="no-such-group"),
        pytest.param("", {}, 8, id="no-groups"),
        pytest.param(
            V1,
            {
                "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            8,
            id="v1-no-quota",
        ),
        pytest.param(
            V1,
            {"cpu/docker/abc/cpu.cfs_quota_us": "250000\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"},
            3,
            id="v1-two-and-a-half",
        ),
        pytest.param(
            V1,
            {"cpu,cpuacct/cpu.cfs_quota_us": "40000\n", "cpu,cpuacct/cpu.cfs_period_us": "50000\n"},
            1,
            id="v1-container-with-the-hosts-path",
        ),
    ],
)
def test_the_quota_of_the_control_group_limits_the_workers(
    tmp_path: Path, membership: str, files: dict[str, str], count: int
) -> None:
    assert worker_count("auto", machine(tmp_path, membership, files)) == count


def limited(version: int, quota: float, cpuset: str) -> tuple[str, dict[str, str]]:
    """Return a membership and the files of a control group with a quota and a cpuset, of cgroup v1 or v2."""
    quota_us = int(quota * 100_000)
    if version == 2:
        files = {"cpu.max": f"{quota_us} 100000\n", "cpuset.cpus.effective": cpuset}
        return V2, {f"{SERVICE}/{name}": text for name, text in files.items()}
    return V1, {
        "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": f"{quota_us}\n",
        "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
        "cpuset/cpuset.effective_cpus": cpuset,
        "cpuset/cpuset.cpus": "0-7\n",
    }


@pytest.mark.parametrize("version", [1, 2], ids=["v1", "v2"])
@pytest.mark.parametrize(
    ("quota", "cpuset", "pinned"),
    [
        pytest.param(0.5, "0-7\n", [0], id="half-a-cpu"),
        pytest.param(1.5, "0-7\n", [0, 1], id="one-and-a-half"),
        pytest.param(2, "0-7\n", [0, 1], id="two"),
        pytest.param(0.5, "3,5\n", [3], id="half-a-cpu-of-two"),
        pytest.param(1.5, "3,5\n", [3, 5], id="one-and-a-half-of-two"),
        pytest.param(2, "6\n", [6], id="two-of-a-single-one"),
        pytest.param(2, "2-4,6\n", [2, 3], id="two-of-four"),
    ],
)
def test_quota_and_cpuset_together_decide_count_and_places(
    tmp_path: Path, version: int, quota: float, cpuset: str, pinned: list[int]
) -> None:
    cpus = machine(tmp_path, *limited(version, quota, cpuset))
    assert cpus.quota == quota
    count = worker_count("auto", cpus)
    assert assign("auto", count, cpus) == pinned


def test_no_control_groups_leave_the_affinity(tmp_path: Path) -> None:
    cpus = usable_cpus({1, 3}, tmp_path / "absent", tmp_path / "absent")
    assert cpus == Cpus((1, 3), None)
    assert cpus.most_workers == 2


def test_affinity_counts_and_not_the_machine(tmp_path: Path) -> None:
    cpus = machine(tmp_path, V2, {f"{SERVICE}/cpu.max": "400000 100000\n"}, affinity={5})
    assert (cpus.numbers, cpus.most_workers) == ((5,), 1)


@pytest.mark.parametrize(
    ("membership", "file"),
    [
        pytest.param(V2, f"{SERVICE}/cpuset.cpus.effective", id="v2"),
        pytest.param(V1, "cpuset/cpuset.cpus", id="v1"),
    ],
)
def test_a_cpuset_narrows_the_affinity(tmp_path: Path, membership: str, file: str) -> None:
    assert machine(tmp_path, membership, {file: "2-3,6\n"}).numbers == (2, 3, 6)


def test_a_cpuset_that_does_not_overlap_is_not_about_us(tmp_path: Path) -> None:
    cpus = machine(tmp_path, V2, {f"{SERVICE}/cpuset.cpus.effective": "64-65\n"}, affinity={0, 1})
    assert cpus.numbers == (0, 1)


def test_this_machine_has_usable_cpus() -> None:
    cpus = usable_cpus()
    assert set(cpus.numbers) <= os.sched_getaffinity(0)
    assert 1 <= cpus.most_workers <= len(cpus.numbers)


def test_a_configured_count_is_taken_as_it_is() -> None:
    assert worker_count(5, Cpus((0, 1), None)) == 5


@pytest.mark.parametrize(
    ("setting", "count", "cpus", "expected"),
    [
        pytest.param("auto", 2, Cpus((4, 6), None), [4, 6], id="one-cpu-each"),
        pytest.param("auto", 3, Cpus((4, 6), None), [4, 6, 4], id="more-workers-than-cpus"),
        pytest.param("none", 2, Cpus((4, 6), None), [None, None], id="none"),
        pytest.param((6,), 2, Cpus((4, 6), None), [6, 6], id="a-list-is-used-in-turn"),
        pytest.param((6, 4), 2, Cpus((4, 6), None), [6, 4], id="a-list-in-its-order"),
    ],
)
def test_slots_get_their_cpus(
    setting: str | tuple[int, ...], count: int, cpus: Cpus, expected: list[int | None]
) -> None:
    assert assign(setting, count, cpus, spread=1) == expected


def test_under_a_quota_instances_spread_over_the_machine() -> None:
    cpus = Cpus(tuple(range(8)), 2.0)
    assert assign("auto", 2, cpus, spread=7) == [7, 0]
    assert len({tuple(assign("auto", 2, cpus, spread=number)) for number in range(8)}) == 8


@pytest.mark.parametrize("setting", [(0, 9), ()], ids=["a-cpu-we-may-not-use", "an-empty-list"])
def test_a_list_that_cannot_be_followed_is_an_error(setting: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"workers\.pin"):
        assign(setting, 2, Cpus((0, 1), None))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", set()), ("0", {0}), ("0-3", {0, 1, 2, 3}), ("0-1,7\n", {0, 1, 7}), ("\n", set())],
    ids=repr,
)
def test_kernel_lists_are_read(text: str, numbers: set[int]) -> None:
    assert parse_cpu_list(text) == numbers


def test_a_sandbox_that_forbids_pinning_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_permitted()

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    assert not is_permitted()


def test_a_process_sits_on_the_cpu_it_is_pinned_to() -> None:
    before = os.sched_getaffinity(0)
    try:
        assert pin(max(before)) == ""
        assert os.sched_getaffinity(0) == {max(before)}
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("cpu", [None, 4095], ids=["none", "a-cpu-that-went-away"])
def test_a_process_that_cannot_be_pinned_keeps_the_cpus_it_has(cpu: int | None) -> None:
    before = os.sched_getaffinity(0)
    refused = pin(cpu)
    assert os.sched_getaffinity(0) == before
    assert refused == ("" if cpu is None else "cannot be pinned to CPU 4095: Invalid argument")
