"""Every key with its default, as operators rely on them, and the limits of each kind."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from edge_server.config import keys
from edge_server.config.load import load
from edge_server.config.problems import SettingsError
from edge_server.config.schema import Config

# What operators rely on: a change here is a breaking change.
DEFAULTS = {
    "bind_addr": "127.0.0.1:8080",
    "metrics_addr": "127.0.0.1:9909",
    "edge.mode": "offline",
    "edge.packs": "[]",
    "edge.watch": "false",
    "edge.allow": "[]",
    "edge.origins": "[]",
    "edge.verify": "index",
    "workers.count": "auto",
    "workers.pin": "auto",
    "workers.heartbeat_timeout": "5s",
    "workers.drain_timeout": "10s",
    "workers.max_requests": "0",
    "workers.warm_bytes": "128MiB",
    "ingress.timeout_secs": "5s",
    "ingress.header_timeout": "5s",
    "ingress.idle_timeout": "1m",
    "ingress.min_send_rate": "1KiB",
    "ingress.max_inflight": "512",
    "ingress.rps_limit": "0",
    "ingress.rps_burst": "0",
    "ingress.max_body_bytes": "1MiB",
    "ingress.max_header_bytes": "16KiB",
    "ingress.max_connections": "10000",
    "ingress.max_decompress_ratio": "10",
    "ingress.decompress_abs_bytes": "10MiB",
    "fill.concurrency": "64",
    "fill.queue": "512",
    "fill.per_host": "16",
    "fill.connect_timeout": "2s",
    "fill.read_timeout": "5s",
    "fill.max_object_bytes": "64MiB",
    "fill.hedge_after": "0",
    "fill.forward_headers": "[]",
    "fill.negative_ttl": "10s",
    "fill.stale_if_error": "1h",
    "fill.stale_while_revalidate": "30s",
    "fill.allow_private": "[]",
    "fill.insecure_http": "false",
    "fill.ca_bundle": "system",
    "retry.live_fill.base_ms": "50",
    "retry.live_fill.max_ms": "800",
    "retry.live_fill.max_retries": "3",
    "retry.live_fill.jitter": "true",
    "retry.live_fill.retry_on": "[502, 503, 504, timeout]",
    "cas.memory_bytes": "256MiB",
    "cas.path": "none",
    "cas.max_bytes": "10GiB",
    "security.amnesia": "false",
    "security.hsts": "true",
    "tls.bind_addr": "none",
    "tls.cert": "none",
    "tls.key": "none",
    "cors.allow_origins": "[]",
    "cors.allow_methods": "[]",
    "cors.allow_headers": "[]",
    "cors.max_age": "10m",
    "http.enable_multi_range": "false",
    "http.strong_etag": "true",
    "http.cache_control": "public, max-age=31536000, immutable",
    "http.empty_tile": "204",
    "http.public_url": "none",
    "admin.token_file": "none",
    "admin.drain_file": "none",
    "audit.enabled": "false",
    "audit.path": "stdout",
    "log.format": "json",
    "log.level": "info",
    "log.file": "stdout",
    "log.access_sample": "0.01",
    "otel.endpoint": "none",
}

# key, a value that is taken, what it becomes, values that are refused
LIMITS = [
    ("bind_addr", "[::]:0", ("::", 0), ["8080", "127.0.0.1", 8080, None]),
    ("edge.mode", "live", "live", ["online", "", True, None]),
    (
        "edge.packs",
        ["a", {"path": "b", "name": "c", "verify": "full"}],
        None,
        ["", [{}], [{"path": 1}], [["a"]]],
    ),
    ("edge.watch", "true", True, ["maybe", 2, None]),
    ("edge.allow", ["A.org"], ("a.org",), [["https://a.org"], [1], "a org"]),
    (
        "edge.origins",
        '[{"prefix": "/f/", "url": "https://a.org/"}]',
        None,
        [["f/"], [{"prefix": "f/"}], ["../"]],
    ),
    ("edge.verify", "full", "full", ["some", True]),
    ("workers.count", "4", 4, ["0", -1, 1025, "many", True, 1.5, None]),
    ("workers.pin", "0,2", (0, 2), ["all", [-1], [], [True], "0;2"]),
    ("workers.pin", "none", "none", [None]),
    ("workers.heartbeat_timeout", "500ms", 0.5, ["0", "-1s", "5d", None]),
    ("workers.warm_bytes", "1GiB", 1 << 30, ["-1", "1.5TiBs", True, "much"]),
    ("workers.max_requests", "100", 100, ["-1", "1.5", True, "ten"]),
    ("ingress.timeout_secs", 2.5, 2.5, [0, "soon"]),
    ("ingress.min_send_rate", "2KiB/s", 2048, ["-1", "fast"]),
    ("ingress.max_inflight", 1, 1, [0, "x"]),
    ("ingress.max_header_bytes", "1KiB", 1024, ["1023B", "x"]),
    ("ingress.max_decompress_ratio", "1.5", 1.5, [0.5, "inf", "nan", True, "x"]),
    ("fill.forward_headers", ["X-Token"], ("X-Token",), [["X Token"], [""]]),
    ("fill.allow_private", "10.0.0.0/8", ("10.0.0.0/8",), ["10.0.0.1/8", "x"]),
    ("retry.live_fill.max_retries", 5, 5, [6, -1]),
    ("retry.live_fill.retry_on", "500,timeout", (500, "timeout"), ["200", "connect", ["x"]]),
    ("cas.path", "/var/cache/x", "/var/cache/x", ["", "a\x00b", 5]),
    ("cors.allow_origins", "*", ("*",), ["null", "https://a.org/x"]),
    ("http.empty_tile", "404", 404, [200, "x", True]),
    ("http.cache_control", "no-store", "no-store", ["a\r\nX: y", "", "é"]),
    ("http.public_url", "https://a.org/t/", "https://a.org/t", ["a.org", "ftp://a.org", "https://a.org?x"]),
    ("log.access_sample", "1", 1.0, ["1.1", "-0.1", "all"]),
    ("log.level", "debug", "debug", ["trace", "INFO"]),
]


def value_of(config: Config, key: str) -> object:
    return dict(keys.flatten(config))[key]


def test_every_key_has_the_default_that_operators_rely_on() -> None:
    assert {key: keys.written(key, value) for key, value in keys.defaults().items()} == DEFAULTS


def test_every_key_is_described_and_says_what_it_accepts() -> None:
    assert all(setting.description and setting.words for setting in keys.settings().values())
    assert keys.settings().keys() == keys.defaults().keys()


@pytest.mark.parametrize("key", DEFAULTS)
def test_every_default_can_be_written_in_a_file(key: str) -> None:
    written = DEFAULTS[key]
    text = {"none": "null"}.get(written, written.strip("[]") or "[]") if key != "workers.pin" else written
    loaded = load(None, flags={key: text}, environ={}, to_serve=False)
    assert value_of(loaded.config, key) == keys.defaults()[key]


@pytest.mark.parametrize(("key", "given", "value", "refused"), LIMITS, ids=[case[0] for case in LIMITS])
def test_a_setting_takes_what_it_accepts_and_nothing_else(
    key: str, given: object, value: object, refused: list[object]
) -> None:
    loaded = load(
        None, flags={key: given, "edge.allow": ["a.org"]} | {key: given}, environ={}, to_serve=False
    )
    if value is not None:
        assert value_of(loaded.config, key) == value
    for bad in refused:
        with pytest.raises(SettingsError) as caught:
            load(None, flags={key: bad}, environ={}, to_serve=False)
        assert [problem.key.partition("[")[0] for problem in caught.value.problems] == [key], bad


def test_a_configuration_is_frozen_and_survives_a_copy() -> None:
    config = Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.log.level = "debug"  # type: ignore[misc]
    assert not hasattr(config.log, "__dict__")
    assert pickle.loads(pickle.dumps(config)) == config
