"""`svc-edge man`: the manual page of all commands, made from what `--help` is made from.

Specification: groff_man(7), in the part that mandoc understands too. The page is part of the package
(docs/svc-edge.1, installed as share/man/man1), and a test holds it against what this prints.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from edge_server import __version__
from edge_server.cli.flags import FLAGS
from edge_server.cli.main import NAME, root

_SHARED = frozenset(
    {"path", "amnesia", "assignments", *(flag.name.strip("-").replace("-", "_") for flag in FLAGS)}
)
_SUMMARY = "serve static and ranged bytes from packs, and fill misses from allowed origins"
_CODES = (
    ("0", "drained, or done"),
    ("1", "failure while running; not ready; not passed"),
    ("2", "usage"),
    ("69", "a port or another resource is not to be had; no instance answers"),
    ("78", "configuration or pack"),
)
_SIGNALS = (
    ("SIGTERM, SIGINT", "drain what runs, then exit 0; a second one exits at once with 1"),
    ("SIGHUP", "take over a changed configuration and changed packs without losing a request"),
    ("SIGUSR1", "reopen logs"),
    ("SIGUSR2", "fail readiness, and serve on; the next one ends that"),
)
_VARIABLES = (
    ("SVC_EDGE_KEY, SVC_EDGE_SECTION__KEY", "any setting, as in SVC_EDGE_EDGE__PACKS=world.pmtiles,assets/"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "where spans are sent, unless otel.endpoint is set"),
)

_EPILOG = """\b
Examples:
  svc-edge man > svc-edge.1
  svc-edge man | man -l -
"""


@click.command("man", epilog=_EPILOG)
def command() -> None:
    """Print the manual page, for man(1)."""
    click.echo(page(), nl=False)


def page() -> str:
    """Return the page, in roff."""
    lines = [
        f'.TH SVC\\-EDGE 1 "" "svc\\-edge {_escaped(__version__)}" "User Commands"',
        *(".SH NAME", f"{_escaped(NAME)} \\- {_escaped(_SUMMARY)}"),
        *(".SH SYNOPSIS", *_synopsis()),
        *(".SH DESCRIPTION", *_paragraphs(root.help)),
        _escaped("Options without a command mean serve."),
        *_examples(root),
        ".SH SETTINGS",
        _escaped("Given to serve, they decide what it does; given to others, which instance is meant."),
        *_options(_serve(), is_shared=True),
        ".SH COMMANDS",
    ]
    for name, each in _commands(root, (NAME,)):
        lines += _section(name, each)
    for title, rows in (("SIGNALS", _SIGNALS), ("EXIT STATUS", _CODES), ("ENVIRONMENT", _VARIABLES)):
        lines += [f".SH {title}", *(line for head, text in rows for line in _term(head, text))]
    lines += [".SH SEE ALSO", _escaped("docs/RUNBOOK.md, docs/CONFIG.md and docs/METRICS.md of the project.")]
    return "\n".join(_without_needless_breaks(lines)) + "\n"


def _without_needless_breaks(lines: list[str]) -> Iterator[str]:
    """A paragraph needs no beginning right after a heading."""
    before = ""
    for line in lines:
        if line != ".PP" or not before.startswith((".SH", ".SS")):
            yield line
        before = line


def _serve() -> click.Command:
    found = root.get_command(click.Context(root), "serve")
    assert found is not None
    return found


def _commands(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield " ".join((*path, name)), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))


def _synopsis() -> list[str]:
    return [f".B {_escaped(NAME)}", "[COMMAND] [OPTIONS] [ARGS]..."]


def _section(name: str, command: click.Command) -> list[str]:
    usage = " ".join(command.collect_usage_pieces(click.Context(command)))
    lines = [f'.SS "{_escaped(name)} {_escaped(usage)}"', *_paragraphs(command.help)]
    if _takes_settings(command):
        lines.append(_escaped("Takes the settings above, too."))
    return [*lines, *_options(command, is_shared=False), *_examples(command)]


def _options(command: click.Command, *, is_shared: bool) -> list[str]:
    ctx = click.Context(command, info_name=command.name)
    shared = _SHARED if _takes_settings(command) else frozenset()
    lines: list[str] = []
    for parameter in command.params:
        record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
        if record is not None and (parameter.name in shared) is is_shared:
            lines += _term(*record)
    return lines


def _takes_settings(command: click.Command) -> bool:
    return any(parameter.name == "assignments" for parameter in command.params)


def _term(head: str, text: str) -> list[str]:
    return [".TP", f".B {_escaped(head)}", _escaped(text)]


def _paragraphs(text: str | None) -> list[str]:
    """Return prose; a blank line begins a paragraph, one after \\b stays as it is."""
    lines: list[str] = []
    for block in inspect.cleandoc(text or "").split("\n\n"):
        first, *rest = block.splitlines()
        if first == "\b":
            lines += _as_it_is(rest)
        else:
            lines += [".PP", _escaped(" ".join([first, *rest]))]
    return lines


def _examples(command: click.Command) -> list[str]:
    """Return what `--help` shows at its end."""
    lines: list[str] = []
    for block in inspect.cleandoc(command.epilog or "").split("\n\n"):
        kept = [line for line in block.splitlines() if line != "\b"]
        if kept[:1] == ["Examples:"]:
            lines += _as_it_is([line.removeprefix("  ") for line in kept[1:]])
        elif kept and command is not root:  # the codes of all stand in a section of their own
            lines += [".PP", _escaped(" ".join(kept))]
    return lines


def _as_it_is(lines: list[str]) -> list[str]:
    return [".PP", ".RS 4", ".nf", *map(_escaped, lines), ".fi", ".RE"]


def _escaped(text: str) -> str:
    """Return text that roff prints as it stands."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("'", "\\(aq")
    return f"\\&{plain}" if plain.startswith(".") else plain
