"""`svc-edge demo` as a person runs it, and that its proof can fail."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_server.demo.proof import Plane, prove

PROOFS = 9
WITHIN_S = 60


def demo(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edge_server", "demo", "--folder", str(folder), *options]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def processes_that_serve(folder: Path) -> list[str]:
    """Return the command lines of processes, or of children of such, that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if os.readlink(entry / "fd/1").startswith(str(folder)):
                    found.append((entry / "cmdline").read_text())
            except OSError:
                continue
    return found


def test_the_demo_proves_itself_and_leaves_nothing_behind(tmp_path: Path) -> None:
    run = demo(tmp_path, "--once")
    output, _ = run.communicate(timeout=WITHIN_S)
    assert run.returncode == 0, output
    assert output.count(" ok ") == PROOFS, output
    assert "FAILED" not in output
    assert processes_that_serve(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_the_demo_serves_until_it_is_told_to_stop(tmp_path: Path, number: int) -> None:
    run = demo(tmp_path)
    assert run.stdout is not None
    killer = threading.Timer(WITHIN_S, run.kill)
    killer.start()
    try:
        for line in run.stdout:
            if "serving until" in line:
                break
        assert run.poll() is None
        assert processes_that_serve(tmp_path)
        run.send_signal(number)
        assert run.wait() == 0
    finally:
        killer.cancel()
        run.kill()
        run.stdout.close()
    assert processes_that_serve(tmp_path) == []


def test_a_demo_that_is_killed_takes_its_server_with_it(tmp_path: Path) -> None:
    run = demo(tmp_path)
    assert run.stdout is not None
    killer = threading.Timer(WITHIN_S, run.kill)
    killer.start()
    for line in run.stdout:
        if "serving until" in line:
            break
    killer.cancel()
    run.kill()
    run.wait()
    run.stdout.close()
    deadline = time.monotonic() + WITHIN_S
    while processes_that_serve(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_that_serve(tmp_path) == []


class Liar(http.server.BaseHTTPRequestHandler):
    """Answers everything with 200, a tag that is not the body's, and no bytes that anyone stored."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b'{"ready": false, "generation": 1, "tiles": ["http://elsewhere/0/0/0.mvt"]}'
        self.send_response(200)
        self.send_header("ETag", '"b3:00"')
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def liar() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_that_lies_is_not_proven(liar: str, tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    for name in ("world.pmtiles", "assets/bytes.bin", "assets/map.js"):
        (tmp_path / name).write_bytes(b"what is stored")
    with closing(Plane(liar)) as assets, closing(Plane(liar)) as admin:
        checked = list(prove(assets, admin, str(tmp_path)))
    assert len(checked) == PROOFS
    assert [line.what for line in checked if line.is_proven] == []


def test_a_server_that_is_not_there_is_not_proven(tmp_path: Path) -> None:
    with closing(Plane("127.0.0.1:1")) as assets, closing(Plane("127.0.0.1:1")) as admin:
        checked = list(prove(assets, admin, str(tmp_path)))
    assert not any(line.is_proven for line in checked)
