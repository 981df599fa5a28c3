"""A mixed load at full speed, and what it does to the memory of the processes. Prints; judges nothing.

    python -m tests.perf.soak_requests [REQUESTS]    a million unless told otherwise

wrk asks for small and large files, ranges, 304s, tiles, misses and refused requests in turn,
on connections that are kept and on some that are not. A warm-up of a twentieth comes first.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.perf._timing import machine
from tests.servers import COMMAND, environment
from tests.worlds import etag, make_world

REQUESTS = 1_000_000
CONNECTIONS = 64
ROUND_S = 5


def main(requests: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder))
        script = Path(folder) / "mixed.lua"
        script.write_text(_script(world.files["bytes.bin"], world.tile_path(3)))
        line = ["serve", "--bind", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--workers", "2"]
        process = subprocess.Popen(
            [*COMMAND, *line, *map(str, world.packs)], stdout=subprocess.PIPE, text=True, env=environment()
        )
        try:
            place = wait_until_ready(process)["bind_addr"]
            _run(place, script, requests // 20)
            before = _resident(process.pid)
            began_s = time.monotonic()
            done = _run(place, script, requests)
            took_s = time.monotonic() - began_s
            after = _resident(process.pid)
        finally:
            process.terminate()
            process.wait(20)
    print(f"{done:,} requests in {took_s:.0f} s: {machine()}")
    for name, size in after.items():
        print(f"  {name:28} {before[name] / 1024:9,.0f} KiB before, {size / 1024:9,.0f} KiB after")


def wait_until_ready(process: subprocess.Popen[str]) -> dict[str, str]:
    """Return its ready line; what it writes afterwards is read and dropped."""
    assert process.stdout is not None
    for line in process.stdout:
        told: dict[str, str] = json.loads(line)
        if told["event"] == "ready":
            subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
            return told
    raise SystemExit("it did not become ready")


def _run(place: str, script: Path, requests: int) -> int:
    """Ask until so many have been answered; return how many were."""
    done = 0
    while done < requests:
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{ROUND_S}s", "-s", str(script), f"http://{place}"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        match = re.search(r"(\d+) requests in", told)
        assert match is not None, told
        assert "Socket errors" not in told, told
        done += int(match[1])
    return done


def _resident(supervisor: int) -> dict[str, int]:
    children = psutil.Process(supervisor).children()
    return {f"{one.cmdline()[0]} ({one.pid})": one.memory_info().rss for one in children}


def _script(file: bytes, tile: str) -> str:
    asked = [
        ("GET", "/edge/assets/hello.txt", {}),
        ("GET", "/edge/assets/bytes.bin", {}),
        ("GET", "/edge/assets/bytes.bin", {"If-None-Match": etag(file)}),
        ("GET", "/edge/assets/bytes.bin", {"Range": "bytes=7-99"}),
        ("GET", "/edge/assets/edge.bin", {"Range": "bytes=100-70000"}),
        ("GET", "/edge/assets/big.bin", {"Range": "bytes=0-9,500000-600000"}),
        ("GET", "/edge/assets/edge.bin", {}),
        ("GET", f"/edge/assets/{tile}", {"Accept-Encoding": "gzip"}),
        ("GET", "/edge/assets/style.css", {"Accept-Encoding": "br"}),
        ("GET", "/edge/assets/hello.txt", {"Connection": "close"}),
        ("GET", "/edge/assets/nothing", {}),
        ("GET", "/edge/assets/bytes.bin", {"Range": "bytes=5000-"}),
        ("POST", "/edge/assets/hello.txt", {}),
        ("GET", "/healthz", {}),
    ]
    lines = ["local asked = {", *map(_lua, asked), "}", "local at = 0"]
    lines += ["function request() at = at % #asked + 1; return asked[at]() end"]
    return "\n".join(lines)


def _lua(one: tuple[str, str, dict[str, str]]) -> str:
    method, path, fields = one
    table = ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in fields.items())
    return f"  function() return wrk.format({json.dumps(method)}, {json.dumps(path)}, {{{table}}}) end,"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS)
