"""What can be said about a setting from its declaration: key, default, words, how it is written.

Derived from ``schema.py`` by introspection, so that errors, the manual, the JSON
Schema and ``svc-edge config show`` never repeat a declaration. No I/O.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from edge_server.config.kinds import Accepts
from edge_server.config.schema import Config


class Setting(NamedTuple):
    """One key, or one kind of element of a list (``edge.packs[]``, ``edge.packs[].path``)."""

    key: str
    default: Any
    description: str
    words: str
    write: Callable[[Any], str]


def flatten(config: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of every setting of a section, in the order of declaration."""
    assert is_dataclass(config)
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from flatten(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


@cache
def defaults() -> Mapping[str, Any]:
    """Return the default of every key."""
    return dict(flatten(Config()))


@cache
def section_names() -> frozenset[str]:
    """Return the dotted names that hold keys rather than a value."""
    parts = (key.split(".") for key in defaults())
    return frozenset(".".join(part[:n]) for part in parts for n in range(1, len(part)))


def is_list(key: str) -> bool:
    """Whether a known key holds a list."""
    return type(defaults()[key]) is tuple


@cache
def settings() -> Mapping[str, Setting]:
    """Return every key with what its declaration says."""
    return {setting.key: setting for setting in _settings_of(Config, Config(), "") if "[]" not in setting.key}


@cache
def elements() -> Mapping[str, Setting]:
    """Return what the elements of lists are: ``edge.allow[]``, ``edge.packs[].path``."""
    return {setting.key: setting for setting in _settings_of(Config, Config(), "") if "[]" in setting.key}


@cache
def section_summaries() -> Mapping[str, str]:
    """Return the first line of every section's docstring, in the order of declaration."""
    found: dict[str, str] = {}
    for key in defaults():
        name = key.rpartition(".")[0]
        if name:
            section: Any = attrgetter(name)(Config())
            found[name] = (type(section).__doc__ or "").strip().splitlines()[0]
    return found


def written(key: str, value: object) -> str:
    """Return `value` of `key` as a person would write it in a file."""
    if isinstance(value, tuple) and is_list(key):
        return "[" + ", ".join(_element_written(key, item) for item in value) + "]"
    return "none" if value is None else settings()[key].write(value)


def jsonable(value: object) -> Any:
    """Return `value` of a setting as JSON can hold it: sizes in bytes, durations in seconds."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: jsonable(item) for name, item in flatten(value) if item is not None}
    if type(value) is tuple:
        return [jsonable(item) for item in value]
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)


def _element_written(key: str, item: object) -> str:
    if not is_dataclass(item):
        return str(item)
    plain = jsonable(item)
    return str(plain["path"]) if plain.keys() == {"path"} else json.dumps(plain)


def _settings_of(section_type: Any, default: Any, prefix: str) -> Iterator[Setting]:
    hints = get_type_hints(section_type, include_extras=True)
    for field in fields(section_type):
        key, hint = prefix + field.name, hints[field.name]
        value = getattr(default, field.name, None)
        if is_dataclass(value):
            yield from _settings_of(type(value), value, f"{key}.")
        else:
            yield _setting(key, hint, value)
            yield from _elements_of(key, hint)


def _elements_of(key: str, hint: Any) -> Iterator[Setting]:
    bare, _ = _taken_apart(hint)
    if get_origin(bare) is not tuple:
        return
    item = get_args(bare)[0]
    yield _setting(f"{key}[]", item, None)
    item_type, _ = _taken_apart(item)
    if is_dataclass(item_type):
        yield from _settings_of(item_type, None, f"{key}[].")


def _setting(key: str, hint: Any, default: object) -> Setting:
    _, metadata = _taken_apart(hint)
    description = next(
        (str(m.description) for m in metadata if isinstance(m, FieldInfo) and m.description), ""
    )
    return Setting(key, default, description, _words(hint), _writer(hint))


def _taken_apart(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the type inside Annotated and Optional, and what was annotated to it."""
    if get_origin(hint) is Annotated:
        inner, outer = _taken_apart(hint.__origin__)
        return inner, (*outer, *hint.__metadata__)
    if get_origin(hint) in (Union, types.UnionType):
        rest = [arm for arm in get_args(hint) if arm is not types.NoneType]
        if len(rest) == 1:
            return _taken_apart(rest[0])
    return hint, ()


def _is_optional(hint: Any) -> bool:
    while get_origin(hint) is Annotated:
        hint = hint.__origin__
    return types.NoneType in get_args(hint)


def _words(hint: Any) -> str:
    """Return what is accepted, limits included."""
    bare, metadata = _taken_apart(hint)
    accepts = next((m for m in metadata if isinstance(m, Accepts)), None)
    if accepts is not None:
        words = accepts.words + _limits_in_words(metadata, accepts.write)
    elif get_origin(bare) is Literal:
        *most, last = map(str, get_args(bare))
        words = f"{', '.join(most)} or {last}" if most else last
    elif get_origin(bare) is tuple:
        words = f"a list; each is {_words(get_args(bare)[0])}"
    elif is_dataclass(bare):
        words = "an object with the keys " + ", ".join(field.name for field in fields(bare))
    else:
        words = "text"
    return f"{words}; or null" if _is_optional(hint) else words


def _limits_in_words(metadata: tuple[Any, ...], write: Callable[[Any], str]) -> str:
    limits = [limit for m in metadata if isinstance(m, FieldInfo) for limit in m.metadata]
    said = [
        f"{words} {write(getattr(limit, name))}"
        for limit in limits
        for name, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most"))
        if hasattr(limit, name)
    ]
    return "".join(f", {limit}" for limit in said)


def _writer(hint: Any) -> Callable[[Any], str]:
    _, metadata = _taken_apart(hint)
    return next((m.write for m in metadata if isinstance(m, Accepts)), str)
