"""The checks of `svc-edge doctor` against machines that are described, and against this one."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from edge_server.cli import doctor, machine
from edge_server.cli.main import main
from edge_server.config.addresses import Address
from edge_server.config.schema import Config
from edge_server.supervisor.pinning import Cpus

DEBIAN = frozenset({"debian"})


@pytest.mark.parametrize(
    ("prefix", "configure_args", "os_ids", "status"),
    [
        ("/usr", "'--enable-shared' '--prefix=/usr'", DEBIAN, "ok"),
        ("/usr", "'--prefix=/usr'", frozenset({"ubuntu", "debian"}), "ok"),
        ("/usr", "'--prefix=/usr'", frozenset({"slackware"}), "warn"),
        ("/usr/local", "'--enable-optimizations' '--with-lto'", DEBIAN, "ok"),
        ("/root/.pyenv/versions/3.12.1", "'--enable-shared'", DEBIAN, "warn"),
        ("/usr/local", "'--with-pydebug' '--enable-optimizations'", DEBIAN, "warn"),
    ],
    ids=["debian", "ubuntu", "unknown distribution", "official image", "pyenv", "debug"],
)
def test_the_interpreters_build_is_recognised(
    prefix: str, configure_args: str, os_ids: frozenset[str], status: str
) -> None:
    found = machine.check_build(prefix, configure_args, os_ids)
    assert found.status == status
    assert bool(found.remedy) == (status != "ok")


@pytest.mark.parametrize(
    ("version", "is_free_threaded", "status"),
    [
        ((3, 9, 18), False, "fail"),
        ((3, 10, 0), False, "ok"),
        ((3, 13, 0), True, "fail"),
        ((3, 99, 0), False, "warn"),
    ],
    ids=["too old", "oldest", "free-threaded", "untested"],
)
def test_pythons_that_cannot_run_it_fail(
    version: tuple[int, int, int], is_free_threaded: bool, status: str
) -> None:
    assert machine.check_python(version, is_free_threaded=is_free_threaded).status == status


@pytest.mark.parametrize(
    ("system", "release", "status"),
    [("linux", "6.1.0-18-amd64", "ok"), ("linux", "5.2.0", "fail"), ("darwin", "23.1.0", "fail")],
    ids=["new", "too old", "not Linux"],
)
def test_the_kernel_must_be_a_supported_one(system: str, release: str, status: str) -> None:
    assert machine.check_platform(system, release).status == status


@pytest.mark.parametrize(
    ("limits", "status", "remedy"),
    [
        ((1048576, 1048576), "ok", ""),
        ((-1, -1), "ok", ""),
        ((1024, 1048576), "warn", "ulimit -n 10256"),
        ((1024, 4096), "warn", "LimitNOFILE"),
    ],
    ids=["enough", "unlimited", "soft limit", "hard limit"],
)
def test_descriptors_are_compared_with_max_connections(
    limits: tuple[int, int], status: str, remedy: str
) -> None:
    found = machine.check_descriptors(limits, max_connections=10_000)
    assert found.status == status
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("value", "status"), [(128, "warn"), (4096, "ok"), (None, "ok")], ids=["short", "long", "hidden"]
)
def test_a_short_backlog_is_warned_about(value: int | None, status: str) -> None:
    found = machine.check_backlog("somaxconn", value)
    assert found.status == status
    assert ("net.core.somaxconn=4096" in found.remedy) == (status == "warn")


@pytest.mark.parametrize(
    ("numbers", "quota", "status", "seen"),
    [
        ((0, 1, 2, 3), None, "ok", "4 of 8 (0-3), no quota, 4 workers"),
        ((0, 2, 3), 2.0, "ok", "3 of 8 (0,2-3), quota 2, 2 workers"),
        ((0, 1), 0.5, "warn", "2 of 8 (0-1), quota 0.5, 1 worker"),
        ((0, 1, 2, 3), 1.5, "warn", "4 of 8 (0-3), quota 1.5, 2 workers"),
    ],
    ids=["no quota", "whole quota", "half a CPU", "one and a half"],
)
def test_cpus_and_quota_are_shown(
    numbers: tuple[int, ...], quota: float | None, status: str, seen: str
) -> None:
    found = machine.check_cpus(Cpus(numbers, quota), online=8)
    assert (found.status, found.seen) == (status, seen)


def test_shared_memory_that_is_missing_fails(tmp_path: Path) -> None:
    found = machine.check_shared_memory(tmp_path / "missing")
    assert found.status == "fail"
    assert "mount a tmpfs" in found.remedy


def test_a_folder_that_is_no_tmpfs_is_warned_about() -> None:
    found = machine.check_shared_memory(Path(__file__).parent)
    assert found.status == "warn"
    assert "not a tmpfs" in found.seen


def test_bjoern_its_libev_and_the_guard_are_found() -> None:
    bjoern, libev, guard = machine.check_bjoern()
    assert bjoern.status == "ok"
    assert bjoern.seen.startswith("3.2.2 (")
    assert libev.status == "ok"
    assert libev.seen.startswith("4.")
    assert guard.status == "ok"


def test_a_bjoern_that_does_not_import_is_a_failure(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ImportError: libev.so.4: cannot open' >&2\nexit 1\n")
    broken.chmod(0o755)
    (found,) = machine.check_bjoern(str(broken))
    assert found.status == "fail"
    assert "libev.so.4: cannot open" in found.seen
    assert "--no-binary bjoern" in found.remedy


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = doctor.check_ports(
            Config(bind_addr=Address("127.0.0.1", 0), metrics_addr=Address("127.0.0.1", port))
        )
    assert found.status == "warn"
    assert found.seen == f"127.0.0.1:{port}"


def test_a_configuration_that_does_not_load_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "svc-edge.yaml"
    path.write_text("workers:\n  cuont: 3\n")
    assert main(["doctor", "--json", "--config", str(path)]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert any(found["check"] == "configuration" and "cuont" in found["seen"] for found in report["checks"])


def test_this_machine_can_run_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert code == 0, lines
    assert any(line.startswith("ok    python: ") and sys.executable in line for line in lines)
    assert {line.split()[0] for line in lines if not line.startswith(" ")} <= {"ok", "warn"}
