"""Amnesia in live mode: fills go through memory, and no process writes to a disk."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import Authority, flags, https_origin
from tests.origins import ok
from tests.servers import HOST, Place, environment, eventually
from tests.wire import ask

BODY = b"not to be remembered " * 5000
# Calls that name a file that they may write to or make.
TRACED = (
    "openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,symlink,symlinkat,link,linkat,mknod,mknodat"
)
_CALL = re.compile(r'\b(\w+)\(.*?"(?P<path>/[^"]*|[^"]*)"')
MEMORY = ("/dev/shm/", "/proc/", "/sys/", "/dev/null", "/dev/tty")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_process_of_a_live_instance_with_amnesia_writes_to_a_disk(tmp_path: Path) -> None:
    authority, trace, out = Authority(tmp_path), tmp_path / "trace", tmp_path / "out"
    with https_origin(authority) as origin, out.open("wb") as log:
        origin.default = lambda path: ok(BODY + path.encode(), "Cache-Control: max-age=60")
        free = ["--bind", f"{HOST}:0", "--metrics", f"{HOST}:0"]
        served = [sys.executable, "-B", "-m", "edge_server", "serve", *free]
        command = ["strace", "-f", "-qq", "-e", f"trace={TRACED}", "-o", str(trace), *served]
        settings = flags(origin, authority, security__amnesia="true", cas__memory_bytes="1MiB")
        traced = subprocess.Popen([*command, *settings], stdout=log, stderr=log, env=environment())
        try:
            place = eventually(lambda: _ready(out), within=60)
            for number in range(30):  # more than the memory tier has room for
                told = ask(place, f"/edge/assets/n{number}")
                assert (told.status, told.body) == (200, BODY + f"/n{number}".encode())
        finally:
            children = subprocess.run(
                ["pgrep", "-P", str(traced.pid)], capture_output=True, text=True, check=False
            ).stdout.split()
            for child in children:
                subprocess.run(["kill", f"-{int(signal.SIGTERM)}", child], check=False)
            traced.wait(30)
    written = [path for line in trace.read_text(errors="replace").splitlines() if (path := _written(line))]
    assert any(path.startswith("/dev/shm/") for path in written), "the trace shows what is written to memory"
    assert [path for path in written if not path.startswith(MEMORY)] == []


def _written(line: str) -> str | None:
    """Return the path that a traced call makes or may write to."""
    match = _CALL.search(line)
    if match is None or "= -1 " in line:
        return None
    if match[1].startswith("open") and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", line):
        return None
    relative = "AT_FDCWD" not in line and not match["path"].startswith("/")
    return None if relative else match["path"]


def _ready(out: Path) -> Place | None:
    match = re.search(r'"event":"ready".*?"bind_addr":"([^"]+):(\d+)"', out.read_text())
    return None if match is None else Place(match[1], int(match[2]))
