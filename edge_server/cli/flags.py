"""The flags that set settings, shared by every command that loads a configuration.

A flag passes text on as it is: the kind of its setting judges it, as it judges files
and variables, and an invalid value ends with the same words and exit code 78.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from edge_server.config.load import Loaded


class _Flag(NamedTuple):
    name: str
    key: str
    metavar: str
    help: str
    is_list: bool = False


FLAGS = (
    _Flag("--bind", "bind_addr", "HOST:PORT", "Where assets are served."),
    _Flag("--metrics", "metrics_addr", "HOST:PORT", "Where the admin plane is served."),
    _Flag("--mode", "edge.mode", "offline|live", "Packs only, or misses filled from origins."),
    _Flag("--pack", "edge.packs", "PATH", "A pack or glob to serve; repeatable.", is_list=True),
    _Flag("--verify", "edge.verify", "none|index|full", "How packs are checked at mount."),
    _Flag("--allow", "edge.allow", "HOST", "A host that fills may contact; repeatable.", is_list=True),
    _Flag("--workers", "workers.count", "N|auto", "Worker processes; auto is one a usable CPU."),
    _Flag("--timeout", "ingress.timeout_secs", "SECONDS", "Budget of a whole request."),
    _Flag("--rps", "ingress.rps_limit", "N", "Requests a second; 0 is off."),
    _Flag("--inflight", "ingress.max_inflight", "N", "Requests at once."),
    _Flag("--body", "ingress.max_body_bytes", "SIZE", "Largest request body."),
    _Flag("--public-url", "http.public_url", "URL", "Base of absolute URLs in TileJSON."),
    _Flag("--log-format", "log.format", "json|text", "How log lines are written."),
    _Flag("--log-level", "log.level", "LEVEL", "debug, info, warning or error."),
)
_AMNESIA = "security.amnesia"


class CommandLine(NamedTuple):
    """What was given on a command line.

    Attributes:
        path: the configuration file, if one was named.
        settings: dotted key to value.
        names: dotted key to the flag that set it.
    """

    path: str | None
    settings: dict[str, object]
    names: dict[str, str]

    def load(self, *, to_serve: bool) -> Loaded:
        """Return the configuration of these flags, the environment and the file.

        Raises:
            ConfigError: lists everything that is wrong.
        """
        from edge_server.config.load import load

        return load(
            self.path, flags=self.settings, environ=os.environ, flag_names=self.names, to_serve=to_serve
        )

    def with_packs(self, paths: tuple[str, ...]) -> CommandLine:
        """Return the same with further packs, as arguments give them.

        Raises:
            click.UsageError: --set gives all packs, and here are more.
        """
        if not paths:
            return self
        given = self.settings.get("edge.packs", [])
        if not isinstance(given, list):
            raise click.UsageError("edge.packs is set twice, by PATH and by --set")
        name = self.names.get("edge.packs", "PATH")
        settings = self.settings | {"edge.packs": [*given, *paths]}
        return CommandLine(self.path, settings, self.names | {"edge.packs": name})


def settings_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all flags; it is called with `given`, a CommandLine, in their place."""

    @functools.wraps(function)
    def with_given(*args: Any, **options: Any) -> Any:
        return function(*args, given=_collected(options), **options)

    command: Callable[..., Any] = with_given
    for option in reversed(_options()):
        command = option(command)
    return command


def _options() -> list[Callable[..., Any]]:
    file_help = "A YAML, TOML or JSON file."
    set_help = "Any setting by its key; repeatable."
    return [
        click.option("-c", "--config", "path", metavar="FILE", help=file_help, type=click.Path()),
        *(click.option(f.name, metavar=f.metavar, help=f.help, multiple=f.is_list) for f in FLAGS),
        click.option("--amnesia/--no-amnesia", default=None, help="Never write to a disk."),
        click.option("--set", "assignments", metavar="KEY=VALUE", help=set_help, multiple=True),
    ]


def _collected(options: dict[str, Any]) -> CommandLine:
    """Take the options of this module out of `options`."""
    settings: dict[str, object] = {}
    names: dict[str, str] = {}
    for flag in FLAGS:
        value = options.pop(flag.name.strip("-").replace("-", "_"))
        if value not in (None, ()):
            settings[flag.key] = list(value) if flag.is_list else value
            names[flag.key] = flag.name
    amnesia = options.pop("amnesia")
    if amnesia is not None:
        settings[_AMNESIA] = amnesia
        names[_AMNESIA] = "--amnesia" if amnesia else "--no-amnesia"
    for assignment in options.pop("assignments"):
        _assign(assignment, settings, names)
    return CommandLine(options.pop("path"), settings, names)


def _assign(assignment: str, settings: dict[str, object], names: dict[str, str]) -> None:
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--set takes KEY=VALUE, as in --set log.level=debug, not {assignment!r}")
    key = key.strip()
    if key in settings:
        raise click.UsageError(f"{key} is set twice, by {names[key]} and by --set")
    settings[key] = text
    names[key] = f"--set {key}"
