"""Sources of settings: a file, the environment, the command line; each becomes a layer.

A layer holds canonical keys, what was given for them, where, and what was wrong with
the keys themselves. Values are judged later, in ``load.py``, once layers are merged.
Reads one file and the environment it is handed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_server.config import keys
from edge_server.config.documents import read_document
from edge_server.config.problems import Problem, join_key, nearest, shown
from edge_server.config.schema import ALIASES

PREFIX = "SVC_EDGE_"
OTEL_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"

# What Kubernetes sets in every pod beside a Service called svc-edge or svc-edge-*:
# none of it is a setting.
_SERVICE_LINK = re.compile(
    r"SVC_EDGE_(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_URL = re.compile(r"(?:tcp|udp|sctp)://")


@dataclass(slots=True)
class Layer:
    """What one source says: canonical keys, their values, and where each stands."""

    kind: str
    place_of: Callable[[str], str]
    spelled: Callable[[str], str] = str  # a key as this source writes it
    is_text: bool = False
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def variable_of(key: str) -> str:
    """Return the environment variable that sets `key`."""
    return PREFIX + key.replace(".", "__").upper()


def otel_layer(environ: Mapping[str, str]) -> Layer:
    """Return what OpenTelemetry's own variable sets; anything of ours comes before it."""
    layer = Layer("environment", lambda key: OTEL_VARIABLE)
    if environ.get(OTEL_VARIABLE):
        _take(layer, "otel.endpoint", environ[OTEL_VARIABLE])
    return layer


def file_layer(path: str | None) -> Layer:
    """Return what a configuration file sets.

    Raises:
        SettingsError: the file cannot be read or is malformed.
    """
    if path is None:
        return Layer("file", str)
    document = read_document(path)
    layer = Layer("file", document.place_of)
    _read_section(layer, document.values, "")
    return layer


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """Return what ``SVC_EDGE_`` variables set."""
    variables = {
        name: text
        for name, text in environ.items()
        if name.startswith(PREFIX) and not _is_service_link(name, text)
    }
    layer = Layer("environment", lambda key: _variable_set(key, variables), variable_of, is_text=True)
    known = {variable_of(key) for key in (*keys.defaults(), *ALIASES, *keys.section_names())}
    for name, text in variables.items():
        if name not in known:
            layer.problems.append(Problem(name, "", "is not a setting" + _meant(name, known)))
        elif not text.strip():
            layer.problems.append(Problem(name, "", "is empty; unset it, or write [] for an empty list"))
    usable = {name: text for name, text in variables.items() if name in known and text.strip()}
    if usable:
        from edge_server.config.environment import read_variables

        _read_section(layer, read_variables(usable), "")
    return layer


def _variable_set(key: str, variables: Mapping[str, str]) -> str:
    """Return the variable that gave `key`: its own, or that of its section."""
    name = variable_of(key)
    while name not in variables and "__" in name:
        name = name.rpartition("__")[0]
    return name


def _is_service_link(name: str, value: str) -> bool:
    is_url_of_service = name.endswith("_PORT") and _SERVICE_URL.match(value) is not None
    return is_url_of_service or _SERVICE_LINK.fullmatch(name) is not None


def flag_layer(flags: Mapping[str, object], names: Mapping[str, str]) -> Layer:
    """Return what the command line sets; `names` says which flag stands for which key."""
    layer = Layer("flag", lambda key: names.get(key, f"--set {key}"), is_text=True)
    for key, value in flags.items():
        if key in keys.defaults() or key in ALIASES:
            _take(layer, key, value)
        elif key in keys.section_names():
            layer.problems.append(_not_a_section(layer, key, value))
        else:
            layer.problems.append(_unknown(layer, key))
    return layer


def _read_section(layer: Layer, section: Mapping[str, object], prefix: str) -> None:
    for name, value in section.items():
        key = join_key(prefix, name)
        if key in keys.section_names():
            if isinstance(value, dict):
                _read_section(layer, value, key)
            elif value is not None:  # a section whose keys are all commented out
                layer.problems.append(_not_a_section(layer, key, value))
        elif key in keys.defaults() or key in ALIASES:
            _take(layer, key, value)
        else:
            layer.problems.append(_unknown(layer, key))


def _take(layer: Layer, key: str, value: object) -> None:
    canonical = ALIASES.get(key, key)
    place = layer.place_of(key)
    if canonical in layer.values:
        layer.problems.append(Problem(place, key, f"{canonical} is already set at {layer.places[canonical]}"))
        return
    layer.places[canonical] = place
    layer.values[canonical] = _from_text(canonical, value) if layer.is_text else value


def _from_text(key: str, value: object) -> object:
    """Read lists, comma-separated or JSON, and null; leave other text to the kind of the setting."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text == "null":
        return None
    if not keys.is_list(key):
        return text
    if text and not text.startswith(("[", "{")):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _unknown(layer: Layer, key: str) -> Problem:
    return Problem(layer.place_of(key), key, "is not a setting" + _key_meant(layer, key))


def _key_meant(layer: Layer, key: str) -> str:
    """Return a hint: the same name elsewhere, a like name in the section, then a like key anywhere."""
    section, _, name = key.rpartition(".")
    known = [*keys.defaults(), *keys.section_names()]
    elsewhere = [candidate for candidate in known if candidate.rpartition(".")[2] == name]
    siblings = [candidate for candidate in known if candidate.rpartition(".")[0] == section]
    if elsewhere:
        level = "" if "." in elsewhere[0] else " at the top level, above the first section"
        return f"; did you mean {elsewhere[0]}{level}?"
    like = nearest(name, [candidate.rpartition(".")[2] for candidate in siblings])
    found = join_key(section, like) if like else nearest(key, keys.defaults().keys())
    if found:
        return f"; did you mean {layer.spelled(found)}?"
    names = ", ".join(sorted(candidate.rpartition(".")[2] for candidate in siblings))
    return f"; {section or 'the top level'} has {names}" if names else ""


def _meant(name: str, known: set[str]) -> str:
    found = nearest(name, known)
    return f"; did you mean {found}?" if found else "; `svc-edge config show` lists the settings"


def _not_a_section(layer: Layer, key: str, value: object) -> Problem:
    names = sorted(name.rpartition(".")[2] for name in keys.defaults() if name.startswith(f"{key}."))
    return Problem(
        layer.place_of(key),
        key,
        f"{shown(value)} is not accepted; it is a section with the keys {', '.join(names)}",
    )
