"""Configuration files: values, and the line where each stands.

YAML 1.1 (PyYAML, safe types only), TOML 1.0 and JSON (RFC 8259), chosen by the
file's extension. A key that is given twice is an error in all three. Hostile files
are refused in bounded time and memory: size and depth have caps, and a YAML alias
repeats a value by reference, never by copy. Reads the one file it is given.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_server.config.positions import json_lines, toml_lines
from edge_server.config.problems import DocumentError, Problem, SettingsError

MAX_FILE_BYTES = 1 << 20


@dataclass(slots=True)
class Document:
    """A file as read.

    Attributes:
        path: as it was given.
        values: nested dicts, lists and scalars.
        lines: line, from 1, of ``a.b`` and ``a.b[0]``; not every value has one.
    """

    path: str
    values: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)

    def place_of(self, key: str) -> str:
        """Return ``file:line`` of `key`, or of the nearest thing around it."""
        while key and key not in self.lines:
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return f"{self.path}:{self.lines[key]}" if key else self.path


def read_document(path: str) -> Document:
    """Return what a YAML, TOML or JSON file says.

    Raises:
        SettingsError: it cannot be read, is too large, is malformed, or gives a
            key twice; names file and line.
    """
    try:
        parse = _PARSERS.get(os.path.splitext(path)[1].lower())
        if parse is None:
            raise DocumentError("give a file that ends in .yaml, .yml, .toml or .json")
        return Document(path, *parse(_read_text(path)))
    except DocumentError as error:
        place = path if error.line is None else f"{path}:{error.line}"
        raise SettingsError([Problem(place, error.key, error.text)]) from error


def _read_text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise DocumentError("a configuration file may have at most 1 MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DocumentError(f"byte {error.start} is not UTF-8", line) from error


def _as_mapping(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DocumentError("the file must hold keys and values at its top", 1)
    return value


def _parse_yaml(text: str) -> tuple[dict[str, Any], dict[str, int]]:
    from edge_server.config.yaml_reader import parse_yaml

    values, lines = parse_yaml(text)
    return _as_mapping(values), lines


def _parse_json(text: str) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise DocumentError(f"not JSON: {error.msg}", error.lineno) from error
    except RecursionError as error:
        raise DocumentError("nested too deeply") from error
    return _as_mapping(values), json_lines(text)


def _refuse_constant(name: str) -> object:
    raise DocumentError(f"not JSON: {name} is no number there")


def _parse_toml(text: str) -> tuple[dict[str, Any], dict[str, int]]:
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        # TOML ends lines with LF or CRLF; tomllib.load() would do this.
        text = text.replace("\r\n", "\n")
        return tomllib.loads(text), toml_lines(text)
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(
            r"(.*?) \(at (?:line (\d+), column \d+|end of document)\)", str(error), re.DOTALL
        )
        message, line = (found.group(1), found.group(2)) if found else (str(error), None)
        number = int(line) if line else text.count("\n") + 1
        raise DocumentError(f"not TOML, or a key is given twice: {message}", number) from error
    except RecursionError as error:
        raise DocumentError("nested too deeply") from error


_PARSERS: Mapping[str, Callable[[str], tuple[dict[str, Any], dict[str, int]]]] = {
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".toml": _parse_toml,
    ".json": _parse_json,
}
