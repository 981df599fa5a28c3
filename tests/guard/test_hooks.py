"""Leading bjoern's calls to the guard: every way in which bjoern may have been built.

What cannot be guarded is refused with the remedy, and left as it was.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.guard.builds import ROOT
from tests.guard_app import GuardApp
from tests.wire import Connection

INCLUDES = (sysconfig.get_path("include"), "/usr/include/libev", "/usr/local/include")
BUILDS = {
    "lazy": ("-O2", "-Wl,-z,lazy"),
    "partial RELRO": ("-O2", "-Wl,-z,relro"),
    "full RELRO": ("-O2", "-Wl,-z,relro,-z,now"),
    "no PLT": ("-O2", "-fno-plt", "-Wl,-z,relro,-z,now"),
    "fortified": ("-O2", "-D_FORTIFY_SOURCE=2", "-Wl,-z,relro,-z,now"),
    "large files": ("-O2", "-D_FILE_OFFSET_BITS=64"),
    "unoptimised": ("-O0",),
}

LIBEV = [f"ev_{word}_{verb}" for word in ("io", "signal", "timer", "cleanup") for verb in ("start", "stop")]
LIBEV += ["ev_loop_new", "ev_loop_destroy", "ev_run", "ev_userdata", "ev_set_userdata", "ev_set_priority"]
EXPORTED = '__attribute__((visibility("default"))) PyObject*'

Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path, bjoern: Path) -> Build:
    """Compile bjoern; the folder that is returned comes first on PYTHONPATH."""

    def compiled(*words: str, libraries: tuple[str, ...] = ("-lev",)) -> Path:
        sources = [bjoern / "http-parser" / "http_parser.c", *sorted((bjoern / "bjoern").glob("*.c"))]
        folder = tmp_path / "built"
        folder.mkdir()
        output = folder / f"_bjoern{sysconfig.get_config_var('EXT_SUFFIX')}"
        settings = ("-DSIGNAL_CHECK_INTERVAL=0.1", "-DWANT_SIGNAL_HANDLING=yes", "-DWANT_SIGINT_HANDLING=yes")
        includes = [f"-I{place}" for place in (bjoern / "http-parser", *INCLUDES)]
        files = [str(path) for path in sources if path.name != "statsd_tags.c"]
        command = ["gcc", "-shared", "-fPIC", "-w", "-std=gnu99", "-fno-strict-aliasing", "-fcommon"]
        command += [*settings, *includes, *files, *words, *libraries, "-o", str(output)]
        subprocess.run(command, check=True)
        return folder

    return compiled


def python(code: str, *words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*([str(folder)] if folder else []), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("words", BUILDS.values(), ids=BUILDS.keys())
def test_bjoern_is_guarded_however_it_was_linked(build: Build, words: tuple[str, ...]) -> None:
    folder = build(*words)
    found = python("import _bjoern; print(_bjoern.__file__)", folder=folder)
    assert found.stdout.startswith(str(folder)), found.stderr
    with GuardApp(environ={"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}) as app:
        with Connection(app.place) as connection:
            connection.socket.sendall(b"GET /text HTTP/1.1\r\nHost: a\r\n\r\nGET /text HTTP/1.1\r\n")
            connection.socket.sendall(b"Host: a\r\n\r\n")
            assert [connection.read().body for _ in range(2)] == [b"hello", b"hello"]
        assert app.counters()["requests"] == 2


def test_a_static_libev_is_refused_with_the_remedy(build: Build, tmp_path: Path) -> None:
    # Distributions' libev.a is not made for shared objects; functions of the same names do as well here.
    libev = tmp_path / "libev.c"
    libev.write_text("".join(f"void {name}(void) {{}}\n" for name in LIBEV))
    folder = build("-O2", "-fvisibility=hidden", "-DPyMODINIT_FUNC=" + EXPORTED, str(libev), libraries=())
    result = python("import edge_server.guard", folder=folder)
    assert result.returncode == 1
    checks = python("from edge_server.cli.main import main; main()", "doctor", "--json", folder=folder)
    told = {found["check"]: found for found in json.loads(checks.stdout)["checks"]}
    assert told["guard"]["status"] == "fail"
    assert "libev is linked into it statically" in told["guard"]["seen"]
    assert "apt-get install libev-dev" in told["guard"]["remedy"]
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: bjoern cannot be guarded: libev is linked into it statically")
    assert "libev-dev" in last
    assert "doctor" in last


# The extension by itself, before anything is installed.
BARE = """
import importlib.util, math, os, sysconfig
suffix = sysconfig.get_config_var("EXT_SUFFIX")
spec = importlib.util.spec_from_file_location("_guard", {place!r} + suffix)
guard = importlib.util.module_from_spec(spec)
""".format(place=str(ROOT / "edge_server" / "guard" / "_guard"))


def test_an_object_that_is_not_bjoern_is_refused_and_left_alone() -> None:
    """The interpreter itself calls read and write; they must go on working."""
    code = """
for function in (math.sin, len, guard.install):
    try:
        guard.install(function)
    except ImportError as error:
        print(str(error).partition(":")[0])
reader, writer = os.pipe()
os.write(writer, b"sound")
print(os.read(reader, 9).decode())
"""
    result = python(BARE + code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["bjoern cannot be guarded"] * 3 + ["sound"]


@pytest.mark.parametrize("argument", ["None", "b''", "lambda: None", "int"])
def test_only_a_function_of_c_can_be_installed(argument: str) -> None:
    result = python(f"{BARE}\nguard.install({argument})")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1] == "TypeError: install takes _bjoern.server_run"


def test_installing_twice_changes_nothing() -> None:
    result = python(f"{BARE}\nimport _bjoern\nfor _ in range(2): guard.install(_bjoern.server_run)")
    assert result.returncode == 0, result.stderr
