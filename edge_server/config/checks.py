"""What single settings cannot say about themselves: rules between settings, and warnings.

Each rule yields (key, text) pairs; ``load.py`` adds where the key was set. The rules of
`machine_problems` look at files of this machine, all others at the settings alone.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from itertools import combinations

from edge_server.config.addresses import DEFAULT_PORTS, Address, allowing_pattern, host_of, port_of
from edge_server.config.keys import defaults, flatten
from edge_server.config.schema import DERIVED, Config, PackSource

# Keys, and sections with a final dot, that are checked and that nothing obeys yet.
WITHOUT_EFFECT = (
    "security.hsts",
    "tls.",
)

Finding = tuple[str, str]

STDOUT = "stdout"
OTEL_PACKAGES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")


def setting_problems(config: Config) -> list[Finding]:
    """Return where settings contradict each other."""
    rules = (_addresses, _live_mode, _retries, _inflating, _tls_pair)
    return [finding for rule in rules for finding in rule(config)]


def machine_problems(config: Config) -> list[Finding]:
    """Return what keeps this machine, with this version, from serving `config`."""
    rules = (_packs_readable, _files_readable, _folders_there, _otel_installed)
    return [finding for rule in rules for finding in rule(config)]


def warnings(config: Config) -> list[Finding]:
    """Return what an operator should know although the configuration can be served."""
    return [*_public_without_limit(config), *_disk_under_amnesia(config), *_without_effect(config)]


def disk_targets(config: Config) -> tuple[str, ...]:
    """Return the keys that make the server write to a disk, which amnesia forbids."""
    keys = []
    if config.cas.path is not None:
        keys.append("cas.path")
    if config.audit.enabled and config.audit.path != STDOUT:
        keys.append("audit.path")
    if config.log.file != STDOUT:
        keys.append("log.file")
    return tuple(keys)


def log_file(config: Config) -> str:
    """Return where log lines go: ``stdout`` or a path; under amnesia never to a disk."""
    return STDOUT if config.security.amnesia else config.log.file


def audit_path(config: Config) -> str:
    """Return where audit records go: ``stdout`` or a path; under amnesia never to a disk."""
    return STDOUT if config.security.amnesia else config.audit.path


def _addresses(config: Config) -> Iterator[Finding]:
    listening = {"bind_addr": config.bind_addr, "metrics_addr": config.metrics_addr}
    if config.tls.bind_addr is not None:
        listening["tls.bind_addr"] = config.tls.bind_addr
    for (first, one), (second, other) in combinations(listening.items(), 2):
        if _collide(one, other):
            yield second, f"{other} is already taken by {first} ({one}); give it another port"


def _collide(one: Address, other: Address) -> bool:
    # SO_REUSEPORT would let both bind, and the kernel would choose between them.
    shares_host = one.host == other.host or one.is_wildcard or other.is_wildcard
    return one.port != 0 and one.port == other.port and shares_host


def _live_mode(config: Config) -> Iterator[Finding]:
    edge = config.edge
    prefixes = [origin.prefix for origin in edge.origins]
    for index, origin in enumerate(edge.origins):
        key = f"edge.origins[{index}]"
        if prefixes.index(origin.prefix) < index:
            yield f"{key}.prefix", f"{origin.prefix!r} is mapped twice; map each prefix once"
        if origin.url.startswith("http:") and not config.fill.insecure_http:
            yield f"{key}.url", f"{origin.url!r} has no TLS; use https, or set fill.insecure_http"
        if edge.mode == "live" and not _is_allowed(origin.url, edge.allow):
            yield f"{key}.url", f"{_allow_entry(origin.url)!r} is not among edge.allow; add it there"
    if edge.mode == "live" and not edge.allow:
        yield "edge.allow", "is empty; live mode needs the names of the hosts that fills may contact"


def _is_allowed(url: str, patterns: tuple[str, ...]) -> bool:
    own_port = DEFAULT_PORTS[url.partition(":")[0]]
    return allowing_pattern(host_of(url), port_of(url), patterns, own_port) is not None


def _allow_entry(url: str) -> str:
    """Return what `edge.allow` must name for an origin's URL."""
    own_port = DEFAULT_PORTS[url.partition(":")[0]]
    return host_of(url) if port_of(url) == own_port else f"{host_of(url)}:{port_of(url)}"


def _retries(config: Config) -> Iterator[Finding]:
    retry = config.retry.live_fill
    if retry.base_ms > retry.max_ms:
        yield (
            "retry.live_fill.base_ms",
            f"{retry.base_ms} is more than retry.live_fill.max_ms ({retry.max_ms}); give at most that",
        )


def _inflating(config: Config) -> Iterator[Finding]:
    ingress = config.ingress
    if ingress.decompress_abs_bytes < ingress.max_body_bytes:
        yield (
            "ingress.decompress_abs_bytes",
            f"{ingress.decompress_abs_bytes} bytes are less than ingress.max_body_bytes "
            f"({ingress.max_body_bytes}); give at least that",
        )


def _tls_pair(config: Config) -> Iterator[Finding]:
    tls = config.tls
    for given, missing in (("cert", "key"), ("key", "cert")):
        if getattr(tls, given) is not None and getattr(tls, missing) is None:
            yield f"tls.{given}", f"is set without tls.{missing}; set both or none"
    if tls.bind_addr is not None and tls.cert is None and tls.key is None:
        yield "tls.bind_addr", "is set without tls.cert and tls.key; set all three or none"


def _packs_readable(config: Config) -> Iterator[Finding]:
    edge = config.edge
    if edge.mode == "offline" and not edge.packs:
        yield (
            "edge.packs",
            "is empty; offline mode needs a pack, as in `svc-edge serve world.pmtiles`, "
            "`--pack` or SVC_EDGE_EDGE__PACKS",
        )
    for index, pack in enumerate(edge.packs):
        trouble = _pack_trouble(pack)
        if trouble:
            yield f"edge.packs[{index}]", f"{pack.path!r} {trouble}"


def _pack_trouble(pack: PackSource) -> str | None:
    if os.path.lexists(pack.path) or not glob.has_magic(pack.path):
        return _unreadable(pack.path)
    if next(glob.iglob(pack.path, recursive=True), None) is None:
        return "matches nothing; give a pattern of files or directories that exist"
    return None


def _files_readable(config: Config) -> Iterator[Finding]:
    files: Mapping[str, str | None] = {
        "tls.cert": config.tls.cert,
        "tls.key": config.tls.key,
        "admin.token_file": config.admin.token_file,
        "fill.ca_bundle": None if config.fill.ca_bundle == "system" else config.fill.ca_bundle,
    }
    for key, path in files.items():
        trouble = None if path is None else _unreadable(path)
        if trouble:
            yield key, f"{path!r} {trouble}"


def _folders_there(config: Config) -> Iterator[Finding]:
    targets = {"log.file": log_file(config)}
    if config.audit.enabled:
        targets["audit.path"] = audit_path(config)
    for key, path in targets.items():
        folder = os.path.dirname(path) or "."
        if path == STDOUT:
            continue
        if os.path.isdir(path):
            yield key, f"{path!r} is a folder; give a file in it"
        elif not os.access(folder, os.W_OK | os.X_OK):
            yield (
                key,
                f"{path!r} cannot be written: make the folder {folder!r}, and let this user write to it",
            )


def _otel_installed(config: Config) -> Iterator[Finding]:
    if config.otel.endpoint is not None and not all(map(_can_import, OTEL_PACKAGES)):
        yield (
            "otel.endpoint",
            "needs packages that are not installed; `pip install 'svc-edge[otel]'`, or unset it",
        )


def _can_import(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _unreadable(path: str) -> str | None:
    """Return why `path` cannot be read, or None."""
    try:
        os.stat(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}; relative paths start at {os.getcwd()}"
    return None if os.access(path, os.R_OK) else "cannot be read: Permission denied"


def _public_without_limit(config: Config) -> Iterator[Finding]:
    if config.ingress.rps_limit:
        return
    for key, address in (("bind_addr", config.bind_addr), ("tls.bind_addr", config.tls.bind_addr)):
        if address is not None and not address.is_loopback:
            yield key, f"{address} can be reached from other machines and ingress.rps_limit is off"


def _disk_under_amnesia(config: Config) -> Iterator[Finding]:
    for key in disk_targets(config) if config.security.amnesia else ():
        yield (
            key,
            "names a disk while security.amnesia is on: nothing is written there, "
            "fills are refused and readiness degrades",
        )


def _without_effect(config: Config) -> Iterator[Finding]:
    values = dict(flatten(config))
    for key, default in defaults().items():
        ordinary = values[DERIVED[key]] if key in DERIVED else default
        if values[key] != ordinary and is_without_effect(key):
            yield key, "has no effect in this version"


def is_without_effect(key: str) -> bool:
    """Whether a setting is checked, but obeyed by nothing in this version."""
    return any(key == name or (name.endswith(".") and key.startswith(name)) for name in WITHOUT_EFFECT)
