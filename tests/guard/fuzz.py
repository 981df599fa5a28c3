"""Fuzz framing.c with libFuzzer: ``python -m tests.guard.fuzz --seconds 60``, or ``make fuzz``.

Needs clang. Where bjoern's source can be downloaded, every head that framing.c lets through is
also given to bjoern's own parser. What was learnt stays in build/fuzz/corpus for the next run;
an input that fails is left in build/fuzz, and the exit code is libFuzzer's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.guard.builds import (
    GUARD,
    HERE,
    ROOT,
    SANITIZED,
    BuildError,
    Unreachable,
    bjoern_parser,
    bjoern_source,
    build,
)
from tests.guard.seeds import write_seeds

OUTPUT = ROOT / "build" / "fuzz"
MAX_INPUT_BYTES = 700


def main() -> int:
    """Build the target, run it for the seconds that are asked for; 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.guard.fuzz")
    parser.add_argument("--seconds", type=int, default=60)
    seconds = parser.parse_args().seconds
    try:
        target = build_target()
    except BuildError as error:
        sys.exit(f"fuzz: {error}")
    corpus = OUTPUT / "corpus"
    seeds = OUTPUT / "seeds"
    corpus.mkdir(exist_ok=True)
    write_seeds(seeds)
    command = [target, f"-max_total_time={seconds}", f"-max_len={MAX_INPUT_BYTES}", "-verbosity=0"]
    command += [f"-dict={HERE / 'framing.dict'}", "-print_final_stats=1", f"-artifact_prefix={OUTPUT}/"]
    result = subprocess.run([*command, corpus, seeds], check=False)
    told = "nothing was found" if result.returncode == 0 else f"the input that failed is in {OUTPUT}"
    print(f"fuzz: {told}", flush=True)
    return result.returncode


def build_target() -> Path:
    """Build the target with clang, with bjoern's parser in it where that can be had."""
    words: list[str | Path] = ["-std=gnu11", "-Wall", "-Wextra", *SANITIZED, "-fsanitize=fuzzer"]
    words += ["-DWITH_LIBFUZZER", GUARD / "framing.c", HERE / "fuzz_framing.c"]
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUTPUT) as scratch:
        try:
            source = bjoern_source(Path(scratch))
            words += ["-DWITH_BJOERN", *bjoern_parser(source, Path(scratch), "clang")]
        except Unreachable as error:
            print(f"fuzz: without bjoern's parser, which cannot be downloaded: {error}", flush=True)
        return build(OUTPUT / "fuzz_framing", *words, compiler=os.environ.get("CLANG", "clang"))


if __name__ == "__main__":
    sys.exit(main())
