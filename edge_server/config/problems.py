"""What is wrong with a configuration, said so that it can be put right.

Every problem names the key, the value, the place it came from and what would be
accepted; all of them are reported at once. Knows no process and does no I/O.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Collection, Sequence
from typing import NamedTuple

from edge_server.errors import ConfigError


class Problem(NamedTuple):
    """One thing to put right.

    `place` is ``file:line``, a variable or a flag, or empty where a default is the
    cause; `key` is dotted, or empty where the whole file is meant.
    """

    place: str
    key: str
    text: str

    def __str__(self) -> str:
        key = "" if self.place.endswith(self.key) else self.key
        return ": ".join(part for part in (self.place, key, self.text) if part)


class SettingsError(ConfigError):
    """Settings that cannot be used, all of them.

    Args:
        problems: at least one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems]
        if len(lines) > 1:
            lines.insert(0, f"{len(lines)} settings cannot be used:")
        super().__init__("\n  ".join(lines))


class DocumentError(ConfigError):
    """A file that cannot be read as what its extension says.

    Args:
        text: what is wrong.
        line: where, from 1, if it is known.
        key: the setting concerned, if there is one.
    """

    def __init__(self, text: str, line: int | None = None, key: str = "") -> None:
        super().__init__(text)
        self.text, self.line, self.key = text, line, key


def join_key(key: str, part: str | int) -> str:
    """Return the name of an element of `key`: ``a.b`` or ``a[0]``."""
    if isinstance(part, int):
        return f"{key}[{part}]"
    return f"{key}.{part}" if key else part


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known name most like `name`, or None if none is like it."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return found[0] if found else None


def shown(value: object) -> str:
    """Return `value` for a message: short, and quoted where it is text."""
    text = _SHORT.repr(value)
    return {"None": "nothing", "True": "true", "False": "false"}.get(text, text)


def _make_short() -> reprlib.Repr:
    # reprlib does not follow what YAML aliases repeat: plain repr() could grow without bound.
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    short.maxlist = short.maxdict = short.maxtuple = 4
    short.maxlevel = 3
    return short


_SHORT = _make_short()
