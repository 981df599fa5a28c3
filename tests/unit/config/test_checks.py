"""Rules between settings, what this machine must hold, and warnings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_server.config import checks, keys
from edge_server.config.load import Loaded, load
from edge_server.config.problems import SettingsError


def loaded(to_serve: bool = False, **flags: object) -> Loaded:
    return load(
        None,
        flags={key.replace("__", "."): value for key, value in flags.items()},
        environ={},
        to_serve=to_serve,
    )


def problems(to_serve: bool = False, **flags: object) -> list[tuple[str, str]]:
    with pytest.raises(SettingsError) as caught:
        loaded(to_serve, **flags)
    return [(problem.key, problem.text) for problem in caught.value.problems]


ORIGIN = '[{"prefix": "f/", "url": "https://a.org/x"}]'


@pytest.mark.parametrize(
    ("flags", "key", "words"),
    [
        ({"edge__mode": "live"}, "edge.allow", "live mode needs"),
        (
            {"edge__mode": "live", "edge__allow": "b.org", "edge__origins": ORIGIN},
            "edge.origins[0].url",
            "'a.org' is not among edge.allow",
        ),
        (
            {"edge__mode": "live", "edge__allow": "*.a.org", "edge__origins": ORIGIN},
            "edge.origins[0].url",
            "is not among",
        ),
        ({"edge__origins": ORIGIN.replace("https", "http")}, "edge.origins[0].url", "has no TLS"),
        ({"edge__origins": ORIGIN[:-1] + "," + ORIGIN[1:]}, "edge.origins[1].prefix", "mapped twice"),
        (
            {"retry__live_fill__base_ms": "900"},
            "retry.live_fill.base_ms",
            "is more than retry.live_fill.max_ms (800)",
        ),
        ({"retry__live_fill__max_retries": "6"}, "retry.live_fill.max_retries", "at most 5"),
        (
            {"ingress__decompress_abs_bytes": "1KiB"},
            "ingress.decompress_abs_bytes",
            "less than ingress.max_body_bytes",
        ),
        (
            {"ingress__max_body_bytes": "11MiB"},
            "ingress.decompress_abs_bytes",
            "less than ingress.max_body_bytes",
        ),
        ({"metrics_addr": "127.0.0.1:8080"}, "metrics_addr", "already taken by bind_addr"),
        ({"bind_addr": "0.0.0.0:9909"}, "metrics_addr", "already taken by bind_addr"),
        (
            {"tls__bind_addr": "127.0.0.1:8080", "tls__cert": "c", "tls__key": "k"},
            "tls.bind_addr",
            "already taken",
        ),
        ({"tls__cert": "c"}, "tls.cert", "without tls.key"),
        ({"tls__key": "k"}, "tls.key", "without tls.cert"),
        ({"tls__bind_addr": "127.0.0.1:1"}, "tls.bind_addr", "without tls.cert and tls.key"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_settings_that_contradict_each_other_are_refused(
    flags: dict[str, object], key: str, words: str
) -> None:
    ((found, text),) = problems(**flags)
    assert found == key
    assert words in text


@pytest.mark.parametrize(
    "flags",
    [
        {"edge__mode": "live", "edge__allow": "a.org", "edge__origins": ORIGIN},
        {"edge__mode": "live", "edge__allow": "*.a.org", "edge__origins": ORIGIN.replace("a.org", "x.a.org")},
        {"edge__origins": ORIGIN.replace("https", "http"), "fill__insecure_http": "true"},
        {"retry__live_fill__base_ms": "800"},
        {"retry__live_fill__max_retries": "5"},
        {"ingress__max_body_bytes": "10MiB"},
        {"bind_addr": "127.0.0.1:0", "metrics_addr": "127.0.0.1:0"},
        {"bind_addr": "127.0.0.1:9909", "metrics_addr": "127.0.0.2:9909"},
        {"tls__bind_addr": "127.0.0.1:1", "tls__cert": "c", "tls__key": "k"},
    ],
    ids=str,
)
def test_settings_at_the_edge_of_a_rule_are_accepted(flags: dict[str, object]) -> None:
    loaded(**flags)


def test_offline_needs_a_pack_to_serve() -> None:
    ((key, text),) = problems(to_serve=True)
    assert key == "edge.packs"
    assert "svc-edge serve world.pmtiles" in text
    loaded(to_serve=False)


def test_every_pack_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "odd[1].pmtiles").write_bytes(b"")
    paths = ["there", "gone.pmtiles", "*.mbtiles", "odd[1].pmtiles", "th*"]
    found = problems(to_serve=True, edge__packs=[str(tmp_path / path) for path in paths])
    assert [key for key, _ in found] == ["edge.packs[1]", "edge.packs[2]"]
    assert "No such file" in found[0][1]
    assert "matches nothing" in found[1][1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_pack_without_permission_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pmtiles"
    path.touch(mode=0)
    assert "Permission denied" in problems(to_serve=True, edge__packs=[str(path)])[0][1]


def test_files_that_settings_name_must_be_there(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    found = problems(
        to_serve=True,
        edge__packs=[str(tmp_path)],
        tls__cert=gone,
        tls__key=gone,
        admin__token_file=gone,
        fill__ca_bundle=gone,
    )
    assert sorted(key for key, _ in found) == ["admin.token_file", "fill.ca_bundle", "tls.cert", "tls.key"]


def test_live_mode_needs_no_pack() -> None:
    assert loaded(to_serve=True, edge__mode="live", edge__allow="a.org").config.edge.packs == ()


@pytest.mark.parametrize(
    ("flags", "warnings"),
    [
        ({}, []),
        ({"bind_addr": "127.0.0.9:1"}, []),
        ({"bind_addr": "0.0.0.0:1"}, ["bind_addr: 0.0.0.0:1 can be reached from other machines"]),
        ({"bind_addr": "[::]:1"}, ["bind_addr: [::]:1 can be reached"]),
        ({"bind_addr": "0.0.0.0:1", "ingress__rps_limit": "5"}, []),
        ({"ingress__max_inflight": "5", "ingress__rps_burst": "5"}, []),
        ({"security__hsts": "false", "audit__enabled": "true"}, ["security.hsts: has no effect"]),
        ({"ingress__timeout_secs": "5", "fill__queue": "512"}, []),
        (
            {"security__amnesia": "true", "cas__path": "/x"},
            ["cas.path: names a disk while security.amnesia is on"],
        ),
        ({"audit__path": "/x"}, []),
        (
            {"security__amnesia": "true", "log__file": "/x"},
            ["log.file: names a disk while security.amnesia is on"],
        ),
        (
            {"http__empty_tile": "404", "cors__max_age": "1s", "log__level": "debug", "workers__count": "2"},
            [],
        ),
    ],
    ids=str,
)
def test_an_operator_is_warned_of_what_can_be_served_and_may_surprise(
    flags: dict[str, object], warnings: list[str]
) -> None:
    found = loaded(**flags).warnings
    assert len(found) == len(warnings)
    for text, expected in zip(found, warnings, strict=True):
        assert expected.partition(":")[0] in text
        assert expected.partition(": ")[2] in text


def test_amnesia_names_the_settings_that_write_to_a_disk() -> None:
    assert checks.disk_targets(loaded().config) == ()
    assert checks.disk_targets(loaded(cas__path="/x", audit__path="/y").config) == ("cas.path",)
    assert checks.disk_targets(loaded(audit__enabled="true", audit__path="/y").config) == ("audit.path",)


def test_what_has_no_effect_are_settings() -> None:
    for name in checks.WITHOUT_EFFECT:
        known = keys.section_names() if name.endswith(".") else keys.defaults()
        assert name.rstrip(".") in known
