"""Segments: their names, their memory, and who may remove them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_server.errors import ResourceError
from edge_server.shm import segment
from edge_server.shm.segment import (
    SHM_DIR,
    Owner,
    Segment,
    claim,
    owner_of,
    process_age_s,
    remove_own,
    remove_stale,
    segment_name,
)


def name_of(pid: int, start_ticks: int, purpose: str = "catalog-g1", pid_namespace: int | None = None) -> str:
    inode = os.stat("/proc/self/ns/pid").st_ino if pid_namespace is None else pid_namespace
    return f"svc-edge-{inode:x}-{pid}-{start_ticks:x}-{purpose}"


def start_ticks_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


@pytest.fixture
def made() -> Iterator[Segment]:
    """A segment of one page."""
    segment = Segment.create(segment_name("made"), 4096)
    yield segment
    segment.unlink()
    segment.close()


def test_a_new_segment_is_zero_and_private(made: Segment) -> None:
    assert bytes(made.buf) == bytes(4096)
    assert (SHM_DIR / made.name).stat().st_mode & 0o777 == 0o600


def test_an_outsider_sees_what_the_owner_writes_and_cannot_write(made: Segment) -> None:
    outside = Segment.attach(made.name)
    made.buf[7] = 9
    assert outside.buf[7] == 9
    with pytest.raises(TypeError):
        outside.buf[7] = 1
    outside.close()


def test_a_segment_outlives_an_outsider(made: Segment) -> None:
    program = f"from edge_server.shm.segment import Segment; Segment.attach({made.name!r})"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (SHM_DIR / made.name).exists()


def test_no_resource_tracker_is_started() -> None:
    program = """
from multiprocessing import resource_tracker
from edge_server.shm.segment import Segment, segment_name
made = Segment.create(segment_name("made"), 64)
Segment.attach(made.name).close()
made.unlink()
made.close()
assert resource_tracker._resource_tracker._pid is None
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_name_that_is_taken_is_an_error(made: Segment) -> None:
    with pytest.raises(ResourceError, match="File exists"):
        Segment.create(made.name, 64)
    assert (SHM_DIR / made.name).exists()


def test_a_full_shared_memory_is_an_error_with_a_remedy_and_leaves_nothing() -> None:
    name = segment_name("huge")
    with pytest.raises(ResourceError, match="--shm-size"):
        Segment.create(name, 1 << 42)
    assert not (SHM_DIR / name).exists()


def test_a_segment_that_is_not_there_cannot_be_attached() -> None:
    with pytest.raises(ResourceError, match="No such file"):
        Segment.attach(segment_name("absent"))


def test_a_segment_can_be_closed_while_views_point_into_it() -> None:
    made = Segment.create(segment_name("viewed"), 64)
    view = made.buf.cast("Q")
    made.unlink()
    made.close()
    view[0] = 5
    assert view[0] == 5


def test_unlinking_twice_is_fine(made: Segment) -> None:
    made.unlink()
    made.unlink()
    assert not (SHM_DIR / made.name).exists()


def test_a_name_tells_its_owner() -> None:
    expected = Owner(os.stat("/proc/self/ns/pid").st_ino, os.getpid(), start_ticks_of(os.getpid()))
    assert owner_of(segment_name("catalog-g12")) == expected


@pytest.mark.parametrize(
    "name",
    [
        "",
        "psm_1234",
        "svc-edge",
        "svc-edge-1-0-2-x",
        "svc-edge-1-2-3-",
        "svc-edge-1-2-3-X",
        "svc-edge-g-2-3-x",
    ],
)
def test_names_of_others_have_no_owner(name: str) -> None:
    assert owner_of(name) is None


def test_what_a_dead_supervisor_left_is_removed(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ticks = start_ticks_of(child.pid)
    child.communicate(b"\n")
    (tmp_path / name_of(child.pid, ticks)).write_bytes(b"x")
    metrics = tmp_path / name_of(child.pid, ticks, "metrics")
    metrics.mkdir()
    (metrics / "counter_0a.db").write_bytes(b"x")
    assert remove_stale(tmp_path) == sorted([name_of(child.pid, ticks), name_of(child.pid, ticks, "metrics")])
    assert list(tmp_path.iterdir()) == []


def test_what_a_zombie_left_is_removed(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    name = name_of(child.pid, start_ticks_of(child.pid))
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    (tmp_path / name).write_bytes(b"x")
    assert remove_stale(tmp_path) == [name]
    child.wait()


def test_a_pid_that_was_given_to_another_process_protects_nothing(tmp_path: Path) -> None:
    name = name_of(os.getpid(), start_ticks_of(os.getpid()) - 1)
    (tmp_path / name).write_bytes(b"x")
    assert remove_stale(tmp_path) == [name]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(lambda: name_of(os.getpid(), start_ticks_of(os.getpid())), id="ours"),
        pytest.param(
            lambda: name_of(os.getppid(), start_ticks_of(os.getppid())), id="another-live-supervisor"
        ),
        pytest.param(lambda: name_of(2**22 + 1, 5, pid_namespace=7), id="another-pid-namespace"),
        pytest.param(lambda: "psm_deadbeef", id="another-program"),
    ],
)
def test_what_may_be_in_use_is_kept(tmp_path: Path, name: Callable[[], str]) -> None:
    (tmp_path / name()).write_bytes(b"x")
    assert remove_stale(tmp_path) == []
    assert (tmp_path / name()).exists()


def leave(folder: Path, program: str) -> None:
    """Run a program that claims `folder` for another PID namespace and makes a segment there."""
    prelude = f"""
import os, sys, time
from pathlib import Path
from edge_server.shm import segment
real = segment._this_process
segment._this_process = lambda: real()._replace(pid_namespace=7)
folder = Path({str(folder)!r})
lock = segment.claim(folder)
(folder / segment.segment_name("catalog-g1")).write_bytes(b"x")
"""
    subprocess.run([sys.executable, "-c", prelude + program], check=True)


def test_what_a_dead_container_left_is_removed(tmp_path: Path) -> None:
    leave(tmp_path, "")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name.rsplit("-", 1)[1] for name in names] == ["g1", "lock"]
    assert remove_stale(tmp_path) == names, "the lock goes last"
    assert list(tmp_path.iterdir()) == []


def test_what_a_live_container_has_is_kept(tmp_path: Path) -> None:
    look = """
if os.fork() == 0:
    segment._this_process = real
    os._exit(len(segment.remove_stale(folder)))
assert os.wait()[1] == 0
"""
    leave(tmp_path, look)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_lock_is_not_its_childrens(tmp_path: Path) -> None:
    orphan = """
read, write = os.pipe()
if os.fork() == 0:
    os.close(1)
    os.close(2)
    os.write(write, b"x")
    time.sleep(1)
    os._exit(0)
os.read(read, 1)
"""
    leave(tmp_path, orphan)
    assert len(remove_stale(tmp_path)) == 2


def test_shared_memory_that_cannot_be_claimed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="mount a tmpfs"):
        claim(tmp_path / "absent")


def test_a_symbolic_link_is_removed_and_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "precious").write_bytes(b"x")
    folder = tmp_path / "shm"
    folder.mkdir()
    name = name_of(2**22 + 1, 5, "metrics")
    (folder / name).symlink_to(target)
    assert remove_stale(folder) == [name]
    assert (target / "precious").exists()


def test_a_folder_that_is_not_there_has_nothing_stale(tmp_path: Path) -> None:
    assert remove_stale(tmp_path / "absent") == []


def test_a_supervisor_removes_its_own_names_only(tmp_path: Path) -> None:
    mine, other = segment_name("scoreboard"), name_of(os.getppid(), start_ticks_of(os.getppid()))
    for name in (mine, other):
        (tmp_path / name).write_bytes(b"x")
    assert remove_own(tmp_path) == [mine]
    assert [path.name for path in tmp_path.iterdir()] == [other]


def test_command_names_with_parentheses_do_not_confuse_the_start_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stat = b"7 (a) R 1 (b)) S " + b" ".join(b"%d" % number for number in range(1, 40))
    monkeypatch.setattr(Path, "read_bytes", lambda self: stat)
    assert segment._start_ticks(7) == 19


def test_the_age_of_a_process_grows_from_its_start() -> None:
    program = "from edge_server.shm.segment import process_age_s; print(process_age_s())"
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert 0 <= float(told.stdout) < 5
    assert process_age_s() > float(told.stdout) - 0.02
