"""Lines of keys in JSON and TOML that is known to be well formed.

The parsers of the standard library keep no positions, so the text is walked a second
time. Follows RFC 8259 section 2 and TOML 1.0. Knows no process and does no I/O.
"""

from __future__ import annotations

import json
import re

from edge_server.config.problems import DocumentError, join_key

# RFC 8259 section 2, well formed already: strings, punctuation, and the rest.
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:\n]|[^\s{}\[\],:"]+')
# TOML 1.0: strings of all four kinds, comments, brackets; anything else is of no account here.
_TOML_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|\#[^\n]*|[\[\]{}\n]|[^"\'#\[\]{}\n]+',
    re.DOTALL,
)
_TOML_PART = r"(?:[A-Za-z0-9_-]+|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*')"
_TOML_KEY = re.compile(rf"\s*({_TOML_PART}(?:[ \t]*\.[ \t]*{_TOML_PART})*)[ \t]*=")
_TOML_HEADER = re.compile(rf"\s*(\[\[?)[ \t]*({_TOML_PART}(?:[ \t]*\.[ \t]*{_TOML_PART})*)[ \t]*\]\]?")


def json_lines(text: str) -> dict[str, int]:
    """Return the line of each key and element of well-formed JSON.

    Raises:
        DocumentError: an object has a key twice.
    """
    lines: dict[str, int] = {}
    line, key = 1, ""
    around: list[
        tuple[str, int]
    ] = []  # what encloses us: its key, and the element's index or -1 in an object
    expects_name = False
    for match in _JSON_TOKEN.finditer(text):
        token = match.group()
        if token == "\n":
            line += 1
        elif token in "{[":
            if around and around[-1][1] >= 0:
                key = join_key(*around[-1])
                lines[key] = line
            around.append((key, -1 if token == "{" else 0))
            expects_name = token == "{"
        elif token in "}]":
            key = around.pop()[0]
            expects_name = False
        elif token == ",":
            owner, index = around[-1]
            around[-1] = (owner, index + 1 if index >= 0 else -1)
            expects_name = index < 0
        elif expects_name:
            key = join_key(around[-1][0], str(json.loads(token)))
            if key in lines:
                raise DocumentError(f"is given twice, first in line {lines[key]}", line, key)
            lines[key] = line
            expects_name = False
        elif token != ":" and around and around[-1][1] >= 0:
            lines[join_key(*around[-1])] = line
    return lines


def toml_lines(text: str) -> dict[str, int]:
    """Return the line of each table and key of well-formed TOML; not of what stands inside a value."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    table, position = "", 0
    while position < len(text):
        if header := _TOML_HEADER.match(text, position):
            table = _toml_name("", header.group(2))
            if header.group(1) == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = join_key(table, counts[table])
            lines[table] = text.count("\n", 0, header.start(1)) + 1
            position = header.end()
        elif match := _TOML_KEY.match(text, position):
            lines[_toml_name(table, match.group(1))] = text.count("\n", 0, match.start(1)) + 1
            position = match.end()
        position = _end_of_toml_value(text, position)
    return lines


def _toml_name(table: str, dotted: str) -> str:
    for part in re.findall(_TOML_PART, dotted):
        table = join_key(table, part.strip("\"'"))
    return table


def _end_of_toml_value(text: str, position: int) -> int:
    """Return where the next line begins that is not inside a string or bracket."""
    depth = 0
    for match in _TOML_TOKEN.finditer(text, position):
        token = match.group()
        if token == "\n" and depth == 0:
            return match.end()
        depth += (token in "[{") - (token in "]}")
    return len(text)
