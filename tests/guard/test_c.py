"""framing.c by itself: its tables, its fuzz target, and what bjoern's own parser makes of its heads.

The programs are built with AddressSanitizer and UndefinedBehaviorSanitizer.
"""

from __future__ import annotations

import re
import shutil
import sysconfig
from pathlib import Path

import pytest

from tests.guard.builds import (
    GUARD,
    HERE,
    SANITIZED,
    STRICT,
    bjoern_parser,
    build,
    ev_header,
    installed_words,
    run,
)
from tests.guard.seeds import write_seeds

FRAMING = GUARD / "framing.c"
FUZZ_S = 10
HEADERS = (sysconfig.get_path("include"), "/usr/include/libev", "/usr/local/include")


def test_the_tables_of_framing_hold(tmp_path: Path) -> None:
    program = build(tmp_path / "test_framing", *STRICT, *SANITIZED, FRAMING, HERE / "test_framing.c")
    result = run(program, within=120)
    assert result.returncode == 0, result.stdout
    (passed,) = re.findall(r"^(\d+) passed, 0 failed$", result.stdout, re.MULTILINE)
    assert int(passed) > 1000


def test_mutated_requests_break_nothing(tmp_path: Path) -> None:
    program = build(tmp_path / "fuzz", *STRICT, *SANITIZED, FRAMING, HERE / "fuzz_framing.c")
    seeds = write_seeds(tmp_path / "corpus")
    crash = tmp_path / "crash"
    result = run(program, str(FUZZ_S), "1", crash, *seeds, within=60)
    assert result.returncode == 0, (result.stdout, crash.exists() and crash.read_bytes())
    (mutants,) = re.findall(r"and (\d+) mutants passed", result.stdout)
    assert int(mutants) > 10_000


def test_the_fuzz_target_finds_a_fault_that_was_put_in(tmp_path: Path) -> None:
    source = FRAMING.read_text()
    broken = tmp_path / "framing.c"
    sound = "*consumed = taken;"
    assert sound in source
    broken.write_text(source.replace(sound, "*consumed = length;"))
    program = build(tmp_path / "fuzz", *STRICT, *SANITIZED, broken, HERE / "fuzz_framing.c")
    crash = tmp_path / "crash"
    result = run(program, str(FUZZ_S), "1", crash, *write_seeds(tmp_path / "corpus"), within=60)
    assert result.returncode != 0
    assert crash.read_bytes()


def test_bjoern_understands_each_head_as_the_client_meant_it(tmp_path: Path, bjoern: Path) -> None:
    parser = bjoern_parser(bjoern, tmp_path)
    words = ("-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", *SANITIZED)
    program = build(tmp_path / "against", *words, FRAMING, HERE / "test_against_bjoern.c", *parser)
    result = run(program, within=120)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("source", sorted(GUARD.glob("*.c")), ids=lambda path: path.name)
def test_no_compiler_warns(compiler: str, source: Path, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed (deploy/bootstrap.sh fuzz installs clang)")
    build(
        tmp_path / "object.o",
        *STRICT,
        "-O2",
        "-c",
        *(f"-isystem{folder}" for folder in HEADERS),
        source,
        compiler=compiler,
    )


@pytest.mark.parametrize("source", sorted(GUARD.glob("*.c")), ids=lambda path: path.name)
def test_it_compiles_where_libev_is_no_system_header(source: Path, tmp_path: Path) -> None:
    """Some distributions keep ev.h in a folder of its own, and compilers warn of what it does."""
    (tmp_path / "libev").mkdir()
    shutil.copy(ev_header(), tmp_path / "libev")
    includes = (f"-I{tmp_path / 'libev'}", f"-isystem{HEADERS[0]}")
    build(tmp_path / "object.o", *installed_words(), "-fPIC", *includes, "-c", source)
