"""YAML 1.1 with the line of every key, in bounded depth.

Safe types only. Aliases repeat a value by reference, never by copy; ``<<`` merges.
Knows no process and does no I/O.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from edge_server.config.problems import DocumentError, join_key

MAX_DEPTH = 32
_HINT_CHARS = 500  # of a line; what follows is not looked at for a hint


def parse_yaml(text: str) -> tuple[object, dict[str, int]]:
    """Return the value of the only document, and the line of each key and element.

    Raises:
        DocumentError: malformed, too deep, a key twice, or a tag of another language.
    """
    try:
        reader = _YamlReader(text)
        return reader.read(), reader.lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = None if mark is None else mark.line + 1
        what = error.problem or error.context
        if "nesting depth" in str(what):  # newer releases count too
            raise DocumentError("nested too deeply", line) from error
        raise DocumentError(f"not YAML: {what}{_quoting_hint(text, line)}", line) from error
    except yaml.YAMLError as error:
        raise DocumentError(f"not YAML: {error}".splitlines()[0]) from error


def _quoting_hint(text: str, line: int | None) -> str:
    source = text.splitlines()[line - 1 : line] if line else []
    if source and re.search(r"(?:[:,\[]|^\s*-)\s*[*&%@`\[][^\s,]*[:.*/]", source[0][:_HINT_CHARS]):
        return "; values that begin with * & % @ or [ need quotes"
    return ""


class _YamlReader:
    """Builds values from the parser's events.

    NOTE: PyYAML's own composer recurses in C without a limit, and a file of 400,000
    brackets ends the process; here depth is counted.
    """

    def __init__(self, text: str) -> None:
        self._loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        self._anchors: dict[str, object] = {}
        self.lines: dict[str, int] = {}

    def read(self) -> object:
        """Return the value of the only document; None where there is none."""
        loader = self._loader
        loader.get_event()  # the start of the stream
        if loader.check_event(yaml.StreamEndEvent):
            return None
        loader.get_event()  # the start of the document
        value = self._value("", 0)
        loader.get_event()  # its end
        if not loader.check_event(yaml.StreamEndEvent):
            raise DocumentError(
                "only one YAML document may stand in the file", self._line(loader.peek_event())
            )
        return value

    def _line(self, event: Any) -> int:
        return int(event.start_mark.line) + 1

    def _value(self, key: str, depth: int) -> object:
        event = self._loader.get_event()
        if depth > MAX_DEPTH:
            raise DocumentError("nested too deeply", self._line(event), key)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise DocumentError(
                    f"no value is anchored as &{event.anchor}; a value that begins with * needs quotes",
                    self._line(event),
                    key,
                )
            return self._anchors[event.anchor]
        value = self._anchored(event, key, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        return value

    def _anchored(self, event: Any, key: str, depth: int) -> object:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if event.tag not in (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            raise DocumentError(f"the tag {event.tag} is not read here", self._line(event), key)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(key, depth)
        return self._mapping(key, depth)

    def _scalar(self, event: Any) -> object:
        tag = event.tag
        if tag in (None, "!"):
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        node = yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark)
        try:
            return self._loader.construct_object(node)
        except ValueError as error:  # 2026-13-45 looks like a date
            raise DocumentError(f"not YAML: {error}", self._line(event)) from error

    def _sequence(self, key: str, depth: int) -> list[object]:
        items: list[object] = []
        while not self._loader.check_event(yaml.SequenceEndEvent):
            name = join_key(key, len(items))
            self.lines[name] = self._line(self._loader.peek_event())
            items.append(self._value(name, depth + 1))
        self._loader.get_event()
        return items

    def _mapping(self, key: str, depth: int) -> dict[str, object]:
        values: dict[str, object] = {}
        merged: dict[str, object] = {}
        seen: dict[str, int] = {}
        while not self._loader.check_event(yaml.MappingEndEvent):
            event = self._loader.get_event()
            line = self._line(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise DocumentError("a key must be plain text", line, key)
            name = join_key(key, event.value)
            if event.value in seen:
                raise DocumentError(f"is given twice, first in line {seen[event.value]}", line, name)
            seen[event.value] = self.lines[name] = line
            value = self._value(name, depth + 1)
            if event.value == "<<" and event.implicit[0]:
                merged = _merge_keys(value, line)
            else:
                values[event.value] = value
        self._loader.get_event()
        return merged | values


def _merge_keys(value: object, line: int) -> dict[str, object]:
    """Return what ``<<`` brings in; of several mappings the first to have a key wins."""
    merged: dict[str, object] = {}
    for mapping in value if isinstance(value, list) else [value]:
        if not isinstance(mapping, dict):
            raise DocumentError("<< takes a mapping, or a list of them", line)
        merged = mapping | merged
    return merged
