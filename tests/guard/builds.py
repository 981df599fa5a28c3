"""The C programs of these tests: how they are compiled, and what they need.

Nothing is written into the checkout but below build/. A compiler without sanitizers fails
with the name of the package that has them.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GUARD = ROOT / "edge_server" / "guard"

STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-Wconversion")
SANITIZED = (
    "-g",
    "-O1",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)
# The programs keep a failing input when they are aborted.
SANITIZER_SETTINGS = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=1",
    "UBSAN_OPTIONS": "abort_on_error=1:print_stacktrace=1",
}
DOWNLOAD_TIMEOUT_S = 60
LIBEV = tuple(Path(place) for place in ("/usr/include", "/usr/include/libev", "/usr/local/include"))


class BuildError(Exception):
    """A program cannot be built here; says why, and what to install."""


class Unreachable(Exception):
    """bjoern's source cannot be had here."""


def build(output: Path, *words: str | Path, compiler: str = "gcc") -> Path:
    """Compile and link a program.

    Raises:
        BuildError: the compiler or its sanitizers are not installed, or it refuses the source.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler, *map(str, words), f"-I{GUARD}", "-o", str(output)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BuildError(f"{compiler} is not installed: apt-get install {compiler}") from None
    if result.returncode != 0:
        raise BuildError(_explain(compiler, result.stderr))
    return output


def _explain(compiler: str, told: str) -> str:
    if re.search(r"cannot find .*(asan|ubsan|clang_rt)|sanitizer.*unsupported", told):
        version = subprocess.run([compiler, "-dumpversion"], capture_output=True, text=True, check=False)
        number = version.stdout.strip().partition(".")[0]
        package = f"libclang-rt-{number}-dev" if "clang" in compiler else f"libgcc-{number}-dev"
        return f"{compiler} has no sanitizers: apt-get install {package}\n{told}"
    return f"{compiler}:\n{told}"


def ev_header() -> Path:
    """Return libev's header, which the package cannot be installed without."""
    return next(path for path in (folder / "ev.h" for folder in LIBEV) if path.exists())


def installed_words() -> list[str]:
    """Return the compiler's words for the extension, which setup.py has."""
    nodes = ast.walk(ast.parse((ROOT / "setup.py").read_text()))
    (words,) = [
        node.value for node in nodes if isinstance(node, ast.keyword) and node.arg == "extra_compile_args"
    ]
    return [str(word) for word in ast.literal_eval(words)]


def run(program: Path, *words: str | Path, within: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a sanitized program; its output is one text."""
    return subprocess.run(
        [program, *words],
        env={**os.environ, **SANITIZER_SETTINGS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=within,
        check=False,
    )


def bjoern_source(folder: Path) -> Path:
    """Return bjoern's source, of the version that is installed, unpacked below `folder`.

    Raises:
        Unreachable: no package index is at hand.
    """
    name = f"bjoern-{metadata.version('bjoern')}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-binary", "bjoern", "--no-deps"]
    command += ["--dest", str(folder), name.replace("-", "==")]
    # --retries: no index is a reason to skip, not to wait
    try:
        told = subprocess.run(
            [*command, "--retries", "0", "--timeout", "5"],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unreachable("the package index does not answer") from None
    archive = folder / f"{name}.tar.gz"
    if told.returncode != 0 or not archive.exists():
        raise Unreachable((told.stderr.strip().splitlines() or ["pip downloads nothing"])[-1])
    with tarfile.open(archive) as opened:
        opened.extractall(folder)
    return folder / name


def bjoern_parser(source: Path, folder: Path, compiler: str = "gcc") -> tuple[str, ...]:
    """Compile bjoern's parser into `folder`; return the words that link a program with it."""
    common = (source / "bjoern" / "common.c").read_text()
    start = common.index("#define UNHEX")
    decoder = common[start : common.index("\n}\n", start) + 3]
    declared = "#include <stddef.h>\nsize_t unquote_url_inplace(char *url, size_t len);\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "unquote.inc").write_text(declared + decoder)
    parser = source / "http-parser" / "http_parser.c"
    compiled = folder / f"http_parser.{compiler}.o"
    # Not this project's code: neither its warnings nor its shifts are of interest here.
    build(
        compiled,
        "-std=gnu11",
        "-w",
        "-g",
        "-O1",
        "-fsanitize=address",
        "-c",
        f"-I{parser.parent}",
        parser,
        compiler=compiler,
    )
    return (f"-I{parser.parent}", f"-I{folder}", str(HERE / "bjoern_view.c"), str(compiled))
