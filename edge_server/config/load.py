"""Loading: flags over environment over file over defaults, checked as a whole.

All that is wrong is reported at once, each with the place it came from. Runs in the
supervisor and in commands, never in a worker: pydantic's validators are built here.
Reads one file, the environment it is handed, and what `checks.machine_problems` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, get_type_hints

from pydantic import TypeAdapter, ValidationError

from edge_server.config import checks, keys
from edge_server.config.layers import Layer, environment_layer, file_layer, flag_layer, otel_layer
from edge_server.config.problems import Problem, SettingsError, join_key, nearest, shown
from edge_server.config.schema import DERIVED, Config

_PLACE = re.compile(r"(.*?)(?::([0-9]+))?")
_Merged = Mapping[str, tuple[Any, Layer]]


class Origin(NamedTuple):
    """Where a value came from: `kind` is flag, environment, file, derived or default."""

    kind: str
    place: str = ""

    def __str__(self) -> str:
        return self.place or self.kind


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checked configuration.

    Attributes:
        config: what the processes are handed.
        origins: every key, and where its value came from.
        warnings: lines for the log.
    """

    config: Config
    origins: Mapping[str, Origin]
    warnings: tuple[str, ...] = ()


def load(
    path: str | None,
    *,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    flag_names: Mapping[str, str] | None = None,
    to_serve: bool = True,
) -> Loaded:
    """Return the configuration that all sources together give.

    Args:
        path: a YAML, TOML or JSON file; None reads none.
        flags: dotted key to value; text is read as in the environment.
        environ: the process's environment; only ``SVC_EDGE_`` variables and
            ``OTEL_EXPORTER_OTLP_ENDPOINT`` count.
        flag_names: dotted key to the flag that set it, for messages.
        to_serve: whether packs and files must be there to be read.

    Raises:
        SettingsError: a ConfigError that lists every problem.
    """
    layers = [
        otel_layer(environ),
        file_layer(path),
        environment_layer(environ),
        flag_layer(flags, flag_names or {}),
    ]
    merged = _merge(layers)
    problems = [problem for layer in layers for problem in layer.problems]
    config, invalid = _validate(merged)
    problems += invalid
    if config is not None:
        config = _derive(config, merged)
        findings = checks.setting_problems(config)
        findings += checks.machine_problems(config) if to_serve else []
        problems += [Problem(_place(merged, key), key, text) for key, text in findings]
    if problems or config is None:
        raise SettingsError(sorted(problems, key=_in_order))
    return Loaded(config, _origins(merged), _warnings(config, layers, merged))


def _merge(layers: list[Layer]) -> _Merged:
    return {key: (value, layer) for layer in layers for key, value in layer.values.items()}


def _place(merged: _Merged, key: str) -> str:
    """Return where `key`, or the list that it is an element of, was set; empty for a default."""
    setting = key.partition("[")[0]
    if setting not in merged:
        return ""
    layer = merged[setting][1]
    return layer.place_of(key) if layer.kind == "file" and key != setting else layer.places[setting]


def _validate(merged: _Merged) -> tuple[Config | None, list[Problem]]:
    """Return the configuration, or None and what its values have against them."""
    hints = get_type_hints(Config, include_extras=True)
    parts: dict[str, Any] = {}
    found: dict[str, Problem] = {}
    for name, value in _nested(merged).items():
        try:
            # PERF: validators of sections that nobody set are never built, 1 to 2 ms each.
            parts[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                key, text = _explained((name, *detail["loc"]), detail)
                found.setdefault(key, Problem(_place(merged, key), key, text))
    return (None if found else Config(**parts)), list(found.values())


def _nested(merged: _Merged) -> dict[str, Any]:
    """Return the values of all sections and of the top level, nested as in a file."""
    nested: dict[str, Any] = {}
    for key, (value, _) in merged.items():
        *sections, name = key.split(".")
        target = nested
        for section in sections:
            target = target.setdefault(section, {})
        target[name] = value
    return nested


def _explained(loc: tuple[str | int, ...], detail: Mapping[str, Any]) -> tuple[str, str]:
    """Return the key that pydantic complains about, and the complaint in our words."""
    key, kind = _located(loc)
    setting = keys.settings().get(kind) or keys.elements()[kind]
    if detail["type"] == "unexpected_keyword_argument":
        name = str(loc[-1])
        siblings = [other.rpartition(".")[2] for other in keys.elements() if other.startswith(f"{kind}.")]
        like = nearest(name, siblings)
        hint = f"; did you mean {like}?" if like else f"; accepted is {setting.words}"
        return join_key(key, name), f"is not a setting{hint}"
    if detail["type"] == "missing":
        return key, f"is missing; give {setting.words}"
    reason = (detail.get("ctx") or {}).get("error")
    because = f" ({reason})" if reason else ""
    return key, f"{shown(detail['input'])} is not accepted{because}; give {setting.words}"


def _located(loc: tuple[str | int, ...]) -> tuple[str, str]:
    """Return the key at `loc` and its kind: ``edge.packs[0].path`` and ``edge.packs[].path``.

    What pydantic adds for the arms of a union belongs to neither.
    """
    key = kind = ""
    for part in loc:
        next_kind = f"{kind}[]" if isinstance(part, int) else join_key(kind, part)
        is_value = kind in keys.settings() or kind in keys.elements()
        if is_value and next_kind not in keys.elements():
            break
        key, kind = join_key(key, part), next_kind
    return key, kind


def _in_order(problem: Problem) -> tuple[str, int]:
    """Sort by source, and inside a file by line."""
    match = _PLACE.fullmatch(problem.place)
    assert match is not None
    return match.group(1), int(match.group(2) or 0)


def _derive(config: Config, merged: _Merged) -> Config:
    """Give settings that follow another one their value where they are not set."""
    for key, source in DERIVED.items():
        if key not in merged:
            (section, name), (_, source_name) = key.split("."), source.split(".")
            values = getattr(config, section)
            values = replace(values, **{name: getattr(values, source_name)})
            config = replace(config, **{section: values})
    return config


def _origins(merged: _Merged) -> dict[str, Origin]:
    origins = {
        key: Origin("derived", DERIVED[key]) if key in DERIVED else Origin("default")
        for key in keys.defaults()
    }
    origins |= {key: Origin(layer.kind, layer.places[key]) for key, (_, layer) in merged.items()}
    return origins


def _warnings(config: Config, layers: list[Layer], merged: _Merged) -> tuple[str, ...]:
    environment, flags = layers[-2:]
    masked = [
        f"{environment.places[key]} is overridden by {flags.places[key]}"
        for key, value in environment.values.items()
        if key in flags.values and flags.values[key] != value
    ]
    found = [str(Problem(_place(merged, key), key, text)) for key, text in checks.warnings(config)]
    return (*masked, *found)
