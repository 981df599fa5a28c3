"""What is made from the declarations, and its committed copies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_server.config import keys, reference
from edge_server.config.load import load
from edge_server.config.schema import ALIASES

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs"
FILES = ("svc-edge.yaml", "svc-edge.toml", "hardened.yaml", "appliance.yaml")


def test_the_manual_is_the_generated_one() -> None:
    assert (ROOT / "docs" / "CONFIG.md").read_text() == reference.markdown(), (
        "run: svc-edge config reference > docs/CONFIG.md"
    )


def test_the_schema_of_editors_is_the_generated_one() -> None:
    committed = json.loads((CONFIGS / "svc-edge.schema.json").read_text())
    assert committed == reference.json_schema(), "run: svc-edge config schema > configs/svc-edge.schema.json"


def test_the_manual_names_every_setting_and_other_name() -> None:
    text = reference.markdown()
    assert all(f"| `{key}`" in text for key in (*keys.defaults(), *ALIASES))


def test_the_schema_knows_every_setting_and_forbids_others() -> None:
    schema = reference.json_schema()
    for key in (*keys.defaults(), *ALIASES):
        section = schema
        *names, last = key.split(".")
        for name in names:
            section = schema["$defs"][section["properties"][name]["$ref"].rpartition("/")[2]]
            assert section["additionalProperties"] is False
        assert section["properties"][last]["description"]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("name", FILES)
def test_an_example_is_valid(name: str) -> None:
    load(str(CONFIGS / name), flags={}, environ={}, to_serve=False)


def test_the_commented_example_shows_every_setting_with_its_default() -> None:
    loaded = load(str(CONFIGS / "svc-edge.yaml"), flags={}, environ={}, to_serve=False)
    shown = {key for key, origin in loaded.origins.items() if origin.kind == "file"}
    assert keys.defaults().keys() - shown == {"ingress.rps_burst"}
    values = dict(keys.flatten(loaded.config))
    assert {key for key in shown if values[key] != keys.defaults()[key]} == {"edge.packs"}


def test_the_examples_in_yaml_and_toml_say_the_same() -> None:
    yaml, toml = (load(str(CONFIGS / name), flags={}, environ={}, to_serve=False) for name in FILES[:2])
    assert yaml.config == toml.config
    optional = {key for key, value in keys.defaults().items() if value is None}
    assert {key for key in yaml.origins if yaml.origins[key].kind != toml.origins[key].kind} == optional


def test_the_hardened_example_holds_what_it_promises() -> None:
    config = load(str(CONFIGS / "hardened.yaml"), flags={}, environ={}, to_serve=False).config
    ingress = config.ingress
    assert (ingress.timeout_secs, ingress.max_inflight, ingress.rps_limit) == (5, 512, 500)
    assert (ingress.max_body_bytes, ingress.max_decompress_ratio) == (1 << 20, 10)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".yaml")])
def test_a_yaml_example_names_its_schema(name: str) -> None:
    first = (CONFIGS / name).read_text().splitlines()[0]
    schema = first.removeprefix("# yaml-language-server: $schema=")
    assert (CONFIGS / schema).is_file()
