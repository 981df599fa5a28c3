"""hooks.c on each platform that the guard is for: x86-64 and arm64, glibc and musl.

A stand-in for bjoern is compiled in each way that bjoern may be, and a program of C leads its
calls away; what is foreign to this machine runs under its own loader in qemu's user mode.
That each stand-in was linked as its name says is read from its file.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.guard.builds import GUARD, HERE, STRICT, build, ev_header, installed_words

WITHIN_S = 60


class Platform(NamedTuple):
    """A compiler with its C library, and what runs its programs here.

    Attributes:
        tools: commands and files that are needed, each with the Debian package that has it.
        loader: what the programs name as their loader; proof of the C library.
        fortifies: whether the C library has functions that check sizes.
        headers: where the kernel's are, if not with the C library's.
    """

    compiler: str
    tools: dict[str, str]
    loader: str
    runner: tuple[str, ...] = ()
    fortifies: bool = True
    headers: tuple[str, ...] = ()


def foreign(machine: str, name: str, loader: str, *pages: str) -> Platform:
    """A platform of another processor, under qemu unless it is this machine's own."""
    triplet = f"{machine}-linux-gnu"
    compiler = f"{triplet}-gcc"
    package = f"gcc-{triplet.replace('_', '-')}"
    if platform.machine() == machine:
        return Platform(compiler, {compiler: package}, loader)
    tools = {
        compiler: package,
        f"/usr/{triplet}/include/stdio.h": f"libc6-dev-{name}-cross",
        f"qemu-{machine}": "qemu-user",
    }
    return Platform(compiler, tools, loader, (f"qemu-{machine}", *pages, "-L", f"/usr/{triplet}"))


# musl-gcc knows of no kernel headers; behind musl's own, this machine's do.
KERNEL_HEADERS = tuple(
    f"-idirafter{folder}" for folder in ("/usr/include", f"/usr/include/{platform.machine()}-linux-gnu")
)
PLATFORMS = {
    "glibc": Platform("gcc", {"gcc": "gcc"}, r"ld-linux-.*\.so"),
    "musl": Platform(
        "musl-gcc", {"musl-gcc": "musl-tools"}, r"ld-musl-.*\.so", fortifies=False, headers=KERNEL_HEADERS
    ),
    "arm64": foreign("aarch64", "arm64", r"ld-linux-aarch64\.so"),
    "arm64 with pages of 64 KiB": foreign("aarch64", "arm64", r"ld-linux-aarch64\.so", "-p", "65536"),
}


class Build(NamedTuple):
    """A way to compile the stand-in, and what readelf then tells of it, and what it does not."""

    words: tuple[str, ...]
    seen: tuple[str, ...]
    unseen: tuple[str, ...] = ()


NOW, RELRO, SLOT = r"BIND_NOW|Flags: NOW", r"GNU_RELRO", r"_JUMP_SLO?T? .* write(@| )"
CHECKED = ("__read_chk", "__fprintf_chk")
BUILDS = {
    "lazy": Build(("-O2", "-Wl,-z,lazy"), (SLOT,), (NOW,)),
    "no RELRO": Build(("-O2", "-Wl,-z,norelro,-z,lazy"), (SLOT,), (RELRO, NOW)),
    "partial RELRO": Build(("-O2", "-Wl,-z,relro,-z,lazy"), (SLOT, RELRO), (NOW,)),
    "now": Build(("-O2", "-Wl,-z,norelro,-z,now"), (SLOT, NOW), (RELRO,)),
    "full RELRO": Build(("-O2", "-Wl,-z,relro,-z,now"), (SLOT, NOW, RELRO)),
    "no PLT": Build(("-O2", "-fno-plt", "-Wl,-z,relro,-z,now"), (r"_GLOB_DAT? .* write(@| )",), (SLOT,)),
    "fortified": Build(("-O2", "-D_FORTIFY_SOURCE=2", "-Wl,-z,relro,-z,now"), CHECKED),
    "large files": Build(("-O2", "-D_FILE_OFFSET_BITS=64"), (SLOT,)),
    "unoptimised": Build(("-O0",), (SLOT,)),
}
REFUSED = {
    "a static libev": (("-DSTATIC_LIBEV", "-fvisibility=hidden"), "install libev (libev-dev)"),
    "a call that is missing": (("-DNO_SENDFILE",), "does not call accept, read, write, close, sendfile"),
}

Compile = Callable[..., Path]


def knows_python(source: Path) -> bool:
    """Whether a file of the guard needs Python's headers, which are of this machine's platform."""
    return (
        "Python.h" in source.read_text()
        or "_object.h" in source.read_text()
        or "methods.h" in source.read_text()
    )


@pytest.fixture(scope="module", params=PLATFORMS.values(), ids=PLATFORMS.keys())
def chosen(request: pytest.FixtureRequest) -> Platform:
    """Each platform; skipped, with the packages' names, where it cannot be built or run."""
    found: Platform = request.param
    missing = [
        package for tool, package in found.tools.items() if not (shutil.which(tool) or Path(tool).exists())
    ]
    if missing:
        pytest.skip(f"not installed: apt-get install {' '.join(missing)} (deploy/bootstrap.sh test does)")
    return found


@pytest.fixture(scope="module")
def compiled(chosen: Platform, tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compile a shared object or a program of the platform; all of them lie in one folder."""
    folder = tmp_path_factory.mktemp("platform")
    headers = folder / "include"
    headers.mkdir()
    shutil.copy(ev_header(), headers)  # without the other headers of this machine

    def compile_one(name: str, *words: str | Path) -> Path:
        return build(folder / name, f"-isystem{headers}", *words, compiler=chosen.compiler)

    return compile_one


@pytest.fixture(scope="module")
def libev(compiled: Compile) -> Path:
    return compiled("libev-standin.so", "-shared", "-fPIC", *STRICT, HERE / "libev_standin.c")


@pytest.fixture(scope="module")
def program(compiled: Compile) -> Path:
    return compiled("test_hooks", *STRICT, "-O1", "-g", GUARD / "hooks.c", HERE / "test_hooks.c", "-ldl")


def caller(compiled: Compile, name: str, *words: str | Path) -> Path:
    return compiled(
        name, "-shared", "-fPIC", "-std=gnu11", "-Wall", "-Wextra", "-Werror", HERE / "caller.c", *words
    )


def readelf(path: Path) -> str:
    command = ["readelf", "--wide", "--program-headers", "--dynamic", "--relocs", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def run(chosen: Platform, program: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program where its loader finds libev; its output is one text."""
    return subprocess.run(
        [*chosen.runner, program, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN_S,
        check=False,
        env={**os.environ, "LD_LIBRARY_PATH": str(program.parent)},
    )


def passed(done: subprocess.CompletedProcess[str]) -> int:
    """Return how many checks a program has made, all of which must hold."""
    assert done.returncode == 0, done.stdout
    (count,) = re.findall(r"^(\d+) passed, 0 failed", done.stdout, re.MULTILINE)
    return int(count)


@pytest.mark.parametrize("way", BUILDS.values(), ids=BUILDS.keys())
def test_calls_are_led_away_however_they_were_linked(
    chosen: Platform, compiled: Compile, libev: Path, program: Path, way: Build
) -> None:
    words = (*way.words, libev)
    guarded, bystander = (caller(compiled, f"{name}.so", *words) for name in ("guarded", "bystander"))
    told = readelf(guarded)
    seen = () if way.seen == CHECKED and not chosen.fortifies else way.seen
    assert [each for each in seen if not re.search(each, told)] == [], told
    assert [each for each in way.unseen if re.search(each, told)] == [], told
    assert passed(run(chosen, program, "guarded", guarded, bystander)) > 70


@pytest.mark.parametrize(("words", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_guarded_is_refused_and_left_alone(
    chosen: Platform, compiled: Compile, libev: Path, program: Path, words: tuple[str, ...], says: str
) -> None:
    refused = caller(compiled, "refused.so", "-O2", *words, *(() if "-DSTATIC_LIBEV" in words else (libev,)))
    assert passed(run(chosen, program, "refused", refused, says)) > 15


def test_the_program_is_one_of_its_platform(chosen: Platform, program: Path) -> None:
    assert re.search(chosen.loader, readelf(program))


@pytest.mark.parametrize(
    "source",
    [path for path in sorted(GUARD.glob("*.c")) if not knows_python(path)],
    ids=lambda path: path.name,
)
def test_all_of_the_guard_but_its_module_compiles(chosen: Platform, compiled: Compile, source: Path) -> None:
    compiled("object.o", *installed_words(), "-fPIC", *chosen.headers, "-c", source)


FAULTS = {
    "a call is left alone": ("*slot = function;", "(void)function;", "were_noted"),
    "the table stays writable": ("mprotect(start, page, PROT_READ) == 0", "true", "strcmp(before, after)"),
}


@pytest.mark.parametrize(("sound", "broken", "seen"), FAULTS.values(), ids=FAULTS.keys())
def test_the_program_finds_a_fault_that_was_put_in(
    chosen: Platform, compiled: Compile, libev: Path, tmp_path: Path, sound: str, broken: str, seen: str
) -> None:
    source = (GUARD / "hooks.c").read_text()
    assert sound in source
    faulty = tmp_path / "hooks.c"
    faulty.write_text(source.replace(sound, broken))
    program = compiled("faulty", *STRICT, faulty, HERE / "test_hooks.c", "-ldl")
    words = (*BUILDS["full RELRO"].words, libev)
    paths = [caller(compiled, f"{name}.so", *words) for name in ("guarded", "bystander")]
    done = run(chosen, program, "guarded", *paths)
    assert (done.returncode, seen in done.stdout) == (1, True), done.stdout
