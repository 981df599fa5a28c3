"""The reload record: how the last reload ended, and which one runs.

Process      written by the supervisor; read by the sidecar, and by commands that attach.
Memory       RECORD_BYTES at the end of the scoreboard's segment: 8 words, then text in UTF-8.
Consistency  a sequence lock: SEQUENCE is odd while the record is written, and has grown by
             two when it has been; a reader reads again if it was odd or has changed.
Lifetime     that of the scoreboard.

Reloads are numbered from 1 in the order in which they begin. Who wants to know of a reload
that reads what is on the disk now waits for the end of one with a number above `begun`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

RECORD_BYTES = 1024
_WORDS = 8
_WORD = 8
_TRIES = 1000


class Result(IntEnum):
    """How the last reload that has ended did."""

    NONE = 0
    OK = 1
    FAILED = 2


class Word(IntEnum):
    """Words of the record, as indices into its u64 array."""

    SEQUENCE = 0
    BEGUN = 1  # number of the last reload that has begun
    ENDED = 2  # number of the last one that has ended
    RESULT = 3
    GENERATION = 4  # that is served since it ended
    ENDED_UNIX_NS = 5
    SUCCESS_UNIX_NS = 6  # when a configuration was last taken over; the start counts
    TEXT_BYTES = 7


class LastReload(NamedTuple):
    """The record as it was at one moment; `reason` is empty where there is nothing to say."""

    begun: int
    ended: int
    result: Result
    generation: int
    ended_unix_ns: int
    success_unix_ns: int
    reason: str

    @property
    def is_running(self) -> bool:
        """Whether a reload runs now."""
        return self.begun != self.ended


class ReloadRecord:
    """The record, bound to its memory: RECORD_BYTES bytes, aligned to 8."""

    def __init__(self, memory: memoryview) -> None:
        self._words = memory[: _WORDS * _WORD].cast("Q")
        self._text = memory[_WORDS * _WORD : RECORD_BYTES]

    def read(self) -> LastReload:
        """Return the record; of one moment, unless its writer was killed while it wrote."""
        for _ in range(_TRIES):
            before = self._words[Word.SEQUENCE]
            found = self._read()
            if before % 2 == 0 and self._words[Word.SEQUENCE] == before:
                break
        return found

    def start(self, generation: int, now_unix_ns: int) -> None:
        """Note the first generation, which nobody had to reload."""
        self._write({Word.GENERATION: generation, Word.SUCCESS_UNIX_NS: now_unix_ns}, "")

    def begin(self) -> int:
        """Note that a reload has begun; return its number."""
        number: int = self._words[Word.BEGUN] + 1
        self._write({Word.BEGUN: number}, None)
        return number

    def end(self, result: Result, generation: int, now_unix_ns: int, reason: str) -> None:
        """Note how the reload that runs has ended."""
        told = {
            Word.ENDED: self._words[Word.BEGUN],
            Word.RESULT: int(result),
            Word.GENERATION: generation,
            Word.ENDED_UNIX_NS: now_unix_ns,
        }
        if result is Result.OK:
            told[Word.SUCCESS_UNIX_NS] = now_unix_ns
        self._write(told, reason)

    def release(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._text.release()

    def _read(self) -> LastReload:
        words = self._words.tolist()
        text = bytes(self._text[: min(words[Word.TEXT_BYTES], len(self._text))])
        return LastReload(
            begun=words[Word.BEGUN],
            ended=words[Word.ENDED],
            result=Result(words[Word.RESULT]),
            generation=words[Word.GENERATION],
            ended_unix_ns=words[Word.ENDED_UNIX_NS],
            success_unix_ns=words[Word.SUCCESS_UNIX_NS],
            reason=text.decode(errors="ignore"),
        )

    def _write(self, values: dict[Word, int], text: str | None) -> None:
        words = self._words
        words[Word.SEQUENCE] += 1
        for word, value in values.items():
            words[word] = value
        if text is not None:
            data = text.encode(errors="replace")[: len(self._text)]
            self._text[: len(data)] = data
            words[Word.TEXT_BYTES] = len(data)
        words[Word.SEQUENCE] += 1
