"""Precedence, spelling, origins of values, and errors that name all there is to put right."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.config.load import Loaded, load
from edge_server.config.problems import SettingsError
from edge_server.config.schema import PackSource

bounded = settings(max_examples=100, deadline=None, derandomize=True)


def loaded(
    tmp_path: Path,
    text: str = "",
    name: str = "a.yaml",
    environ: dict[str, str] | None = None,
    **flags: object,
) -> Loaded:
    path = tmp_path / name
    path.write_text(text)
    given_flags = {key.replace("__", "."): value for key, value in flags.items()}
    return load(str(path), flags=given_flags, environ=environ or {}, to_serve=False)


def problems(tmp_path: Path, text: str = "", name: str = "a.yaml", **more: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, text, name, **more)  # type: ignore[arg-type]
    assert caught.value.exit_code == 78
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("given", "level", "kind"),
    [
        ((), "info", "default"),
        (("file",), "warning", "file"),
        (("environment",), "error", "environment"),
        (("flag",), "debug", "flag"),
        (("file", "environment"), "error", "environment"),
        (("file", "flag"), "debug", "flag"),
        (("environment", "flag"), "debug", "flag"),
        (("file", "environment", "flag"), "debug", "flag"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else None,
)
def test_flags_come_before_the_environment_before_the_file(
    tmp_path: Path, given: tuple[str, ...], level: str, kind: str
) -> None:
    result = loaded(
        tmp_path,
        "log: {level: warning}" if "file" in given else "",
        environ={"SVC_EDGE_LOG__LEVEL": "error"} if "environment" in given else {},
        **({"log__level": "debug"} if "flag" in given else {}),
    )
    assert (result.config.log.level, result.origins["log.level"].kind) == (level, kind)


def test_sources_are_merged_key_by_key(tmp_path: Path) -> None:
    result = loaded(
        tmp_path,
        "cas: {path: /a, max_bytes: 1GiB}\nretry: {live_fill: {base_ms: 7}}",
        environ={"SVC_EDGE_CAS__MAX_BYTES": "2GiB", "SVC_EDGE_RETRY__LIVE_FILL__MAX_MS": "70"},
        cas__memory_bytes="1MiB",
    )
    assert (result.config.cas.path, result.config.cas.max_bytes) == ("/a", 2 << 30)
    assert result.config.cas.memory_bytes == 1 << 20
    assert (result.config.retry.live_fill.base_ms, result.config.retry.live_fill.max_ms) == (7, 70)


def test_every_value_knows_where_it_came_from(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("bind_addr = '127.0.0.1:1'\n[log]\nlevel = 'debug'\n")
    result = load(
        str(path),
        flags={"edge.verify": "none", "log.format": "text"},
        environ={"SVC_EDGE_METRICS_ADDR": "127.0.0.1:2", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://o:4318"},
        flag_names={"edge.verify": "--verify"},
        to_serve=False,
    )
    origins = {key: str(origin) for key, origin in result.origins.items() if origin.kind != "default"}
    assert origins == {
        "bind_addr": f"{path}:1",
        "metrics_addr": "SVC_EDGE_METRICS_ADDR",
        "edge.verify": "--verify",
        "log.format": "--set log.format",
        "log.level": f"{path}:3",
        "otel.endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
        "ingress.rps_burst": "ingress.rps_limit",
    }


@pytest.mark.parametrize(
    ("text", "packs"),
    [
        ("a.pmtiles,b/", [("a.pmtiles", None), ("b/", None)]),
        (" a.pmtiles , b/ ,", [("a.pmtiles", None), ("b/", None)]),
        ('["a,b", {"path": "c", "name": "d"}]', [("a,b", None), ("c", "d")]),
        ("[]", []),
        ("null-island", [("null-island", None)]),
    ],
)
def test_lists_are_comma_separated_or_json(
    tmp_path: Path, text: str, packs: list[tuple[str, str | None]]
) -> None:
    expected = tuple(PackSource(path=path, name=name) for path, name in packs)
    assert loaded(tmp_path, environ={"SVC_EDGE_EDGE__PACKS": text}).config.edge.packs == expected
    assert loaded(tmp_path, edge__packs=text).config.edge.packs == expected


def test_a_section_may_be_one_json_object(tmp_path: Path) -> None:
    environ = {"SVC_EDGE_CAS": '{"path": "/x", "max_bytes": "1GiB"}', "SVC_EDGE_CAS__MAX_BYTES": "2GiB"}
    result = loaded(tmp_path, environ=environ)
    assert (result.config.cas.path, result.config.cas.max_bytes) == ("/x", 2 << 30)
    assert str(result.origins["cas.path"]) == "SVC_EDGE_CAS"


def test_null_unsets_what_the_file_sets(tmp_path: Path) -> None:
    assert loaded(tmp_path, "cas: {path: /x}", environ={"SVC_EDGE_CAS__PATH": "null"}).config.cas.path is None
    assert loaded(tmp_path, "cas: {path: null}\nlog:\n").config.cas.path is None


@pytest.mark.parametrize(
    ("alias", "key", "value"),
    [("body_bytes", "max_body_bytes", 2 << 20), ("decompress_max_ratio", "max_decompress_ratio", 7.0)],
)
def test_other_names_are_read_from_every_source(tmp_path: Path, alias: str, key: str, value: float) -> None:
    for result in (
        loaded(tmp_path, f"ingress: {{{alias}: {value}}}"),
        loaded(tmp_path, environ={f"SVC_EDGE_INGRESS__{alias.upper()}": str(value)}),
        loaded(tmp_path, **{f"ingress__{alias}": str(value)}),
        loaded(
            tmp_path, f"ingress: {{{key}: 1}}", environ={f"SVC_EDGE_INGRESS__{alias.upper()}": str(value)}
        ),
    ):
        assert getattr(result.config.ingress, key) == value


def test_both_names_of_a_setting_in_one_source_are_refused(tmp_path: Path) -> None:
    found = problems(tmp_path, "ingress:\n  body_bytes: 1\n  max_body_bytes: 2\n")
    assert found == [
        f"a.yaml:3: ingress.max_body_bytes: ingress.max_body_bytes is already set at {tmp_path}/a.yaml:2"
    ]


def test_the_burst_follows_the_limit_until_it_is_set(tmp_path: Path) -> None:
    assert loaded(tmp_path, "ingress: {rps_limit: 9}").config.ingress.rps_burst == 9
    assert loaded(tmp_path, "ingress: {rps_limit: 9, rps_burst: 3}").config.ingress.rps_burst == 3


def test_the_endpoint_of_opentelemetry_is_a_default(tmp_path: Path) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318"}
    assert loaded(tmp_path, environ=environ).config.otel.endpoint == "http://otel:4318"
    assert (
        loaded(tmp_path, "otel: {endpoint: 'http://x:1'}", environ=environ).config.otel.endpoint
        == "http://x:1"
    )
    assert loaded(tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": ""}).config.otel.endpoint is None
    assert problems(tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": "x"})[0].startswith("OTEL_EXPORTER")


def test_every_problem_is_reported_at_once_with_its_place(tmp_path: Path) -> None:
    text = "bind: x\nedge:\n  mode: never\n  allow:\n    - ok.org\n    - http://a.org\nlog:\n  level: 5\n"
    found = problems(
        tmp_path,
        text,
        environ={"SVC_EDGE_FILL__QUEUE": "long", "SVC_EDGE_EDGE__MOD": "x", "SVC_EDGE_LOG__FORMAT": ""},
        ingress__rps_limit="-1",
        ingress__rps="1",
    )
    places = [problem.partition(": ")[0] for problem in found]
    assert places == [
        "--set ingress.rps",
        "--set ingress.rps_limit",
        "a.yaml:1",
        "a.yaml:3",
        "a.yaml:6",
        "a.yaml:8",
        "SVC_EDGE_EDGE__MOD",
        "SVC_EDGE_FILL__QUEUE",
        "SVC_EDGE_LOG__FORMAT",
    ]


TOML_BAD = "[ingress]\nmax_inflight = 1\nrps_limit = 'x'\n"
JSON_BAD = '{"ingress": {\n"max_inflight": 1,\n"rps_limit": "x"}}'
YAML_BAD = "ingress:\n  max_inflight: 1\n  rps_limit: x\n"


@pytest.mark.parametrize(("name", "text"), [("a.yaml", YAML_BAD), ("a.toml", TOML_BAD), ("a.json", JSON_BAD)])
def test_an_invalid_value_names_key_value_line_and_what_is_accepted(
    tmp_path: Path, name: str, text: str
) -> None:
    (found,) = problems(tmp_path, text, name)
    assert found == (
        f"{name}:3: ingress.rps_limit: 'x' is not accepted (that is not a whole number);"
        " give a whole number, at least 0"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bnd_addr: x", "bnd_addr: is not a setting; did you mean bind_addr?"),
        ("egde: {}", "egde: is not a setting; did you mean edge?"),
        ("edge: {pack: []}", "edge.pack: is not a setting; did you mean edge.packs?"),
        ("edge: {bind_addr: x}", "edge.bind_addr: is not a setting; did you mean bind_addr at the top level"),
        ("max_inflight: 5", "max_inflight: is not a setting; did you mean ingress.max_inflight?"),
        ("log: {zzz: 1}", "log.zzz: is not a setting; log has access_sample, file, format, level"),
        (
            "log: 5",
            "log: 5 is not accepted; it is a section with the keys access_sample, file",
        ),
        ("edge: {packs: [{pth: x}]}", "edge.packs[0].path: is missing"),
        ("edge: {packs: [{path: x, nam: y}]}", "edge.packs[0].nam: is not a setting; did you mean name?"),
        ("edge: {origins: [{prefix: f/, url: x}]}", "edge.origins[0].url: 'x' is not accepted"),
        ("workers: {pin: some}", "workers.pin: 'some' is not accepted; give auto, none, or a list"),
        ("cas: {path: ''}", "cas.path: '' is not accepted (that is not a path); give a path; or null"),
        ("edge: {packs: null}", "edge.packs: nothing is not accepted; give a list"),
        ("204: x", "204: is not a setting"),
    ],
)
def test_a_problem_says_what_would_be_right(tmp_path: Path, text: str, expected: str) -> None:
    found = problems(tmp_path, text)
    assert any(problem.startswith(f"a.yaml:1: {expected}") for problem in found), found


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("SVC_EDGE_BIND", "x", "is not a setting; did you mean SVC_EDGE_BIND_ADDR?"),
        ("SVC_EDGE_EDGE_MODE", "live", "is not a setting; did you mean SVC_EDGE_EDGE__MODE?"),
        ("SVC_EDGE_ZZZZZZZZZZZ", "x", "is not a setting; `svc-edge config show` lists the settings"),
        ("SVC_EDGE_EDGE__PACKS", "", "is empty; unset it, or write [] for an empty list"),
        ("SVC_EDGE_LOG", "x", "log: 'x' is not accepted; it is a section with the keys"),
        ("SVC_EDGE_LOG", '{"lvel": 1}', "log.lvel: is not a setting; did you mean SVC_EDGE_LOG__LEVEL?"),
        ("SVC_EDGE_EDGE__PACKS", "[1", "edge.packs: '[1' is not accepted; give a list"),
        ("SVC_EDGE_WORKERS__COUNT", "none", "workers.count: 'none' is not accepted; give auto, or a whole"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path: Path, variable: str, text: str, expected: str) -> None:
    (found,) = problems(tmp_path, environ={variable: text})
    assert found.startswith(f"{variable}: {expected}")


def test_what_kubernetes_sets_for_a_service_is_no_setting(tmp_path: Path) -> None:
    links = {
        "SVC_EDGE_SERVICE_HOST": "10.96.0.9",
        "SVC_EDGE_SERVICE_PORT": "8080",
        "SVC_EDGE_SERVICE_PORT_HTTP": "8080",
        "SVC_EDGE_PORT": "tcp://10.96.0.9:8080",
        "SVC_EDGE_PORT_8080_TCP": "tcp://10.96.0.9:8080",
        "SVC_EDGE_PORT_8080_TCP_PROTO": "tcp",
        "SVC_EDGE_PORT_8080_TCP_PORT": "8080",
        "SVC_EDGE_PORT_8080_TCP_ADDR": "10.96.0.9",
        "SVC_EDGE_METRICS_SERVICE_HOST": "10.96.0.10",
        "SVC_EDGE_METRICS_PORT": "tcp://10.96.0.10:9909",
    }
    assert loaded(tmp_path, environ=links).config == loaded(tmp_path).config
    assert problems(tmp_path, environ={"SVC_EDGE_METRICS_PORT": "9909"})


def test_other_variables_are_not_looked_at(tmp_path: Path) -> None:
    loaded(tmp_path, environ={"SVC_EDGER": "x", "PATH": "", "MY_SVC_EDGE_X": "", "_SVC_EDGE_COMPLETE": "x"})


def test_a_variable_under_a_flag_is_warned_about(tmp_path: Path) -> None:
    environ = {"SVC_EDGE_LOG__LEVEL": "error", "SVC_EDGE_LOG__FORMAT": "text"}
    path = tmp_path / "a.yaml"
    path.write_text("")
    result = load(
        str(path),
        flags={"log.level": "debug", "log.format": "text"},
        environ=environ,
        flag_names={"log.level": "--log-level"},
        to_serve=False,
    )
    assert result.warnings == ("SVC_EDGE_LOG__LEVEL is overridden by --log-level",)


def test_a_long_value_is_shortened_in_its_message(tmp_path: Path) -> None:
    bomb = "x: &a [y, y]\n" + "log: {level: [" + ", ".join(["[" * 20 + "]" * 20] * 50) + "]}\n"
    assert all(len(problem) < 300 for problem in problems(tmp_path, bomb))
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 50)]
    assert len(problems(tmp_path, "\n".join([*lines, "bind_addr: *a49"]))) == 51


def test_pydantic_settings_is_imported_only_where_variables_are_set(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from edge_server.config.load import load;"
        "load(None, flags={}, environ={}, to_serve=False); assert 'pydantic_settings' not in sys.modules;"
        "load(None, flags={}, environ={'SVC_EDGE_LOG__LEVEL': 'info'}, to_serve=False);"
        "assert 'pydantic_settings' in sys.modules; assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


_texts = st.text(alphabet='abc[]{},:"0159.- *', max_size=12)
_names = st.sampled_from(
    [
        "edge.packs",
        "edge.origins",
        "workers.pin",
        "workers.count",
        "cas",
        "tls.bind_addr",
        "http.empty_tile",
        "log",
    ]
)


@bounded
@given(st.dictionaries(_names, _texts, max_size=4), st.booleans())
def test_any_text_in_variables_and_flags_loads_or_is_explained(
    given_texts: dict[str, str], as_flags: bool
) -> None:
    environ = {f"SVC_EDGE_{key.replace('.', '__').upper()}": text for key, text in given_texts.items()}
    try:
        load(None, flags=given_texts if as_flags else {}, environ={} if as_flags else environ, to_serve=False)
    except SettingsError as error:
        named = list(itertools.chain(given_texts, environ))
        for problem in error.problems:
            assert any(name in str(problem) for name in named)
