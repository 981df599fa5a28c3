"""`--help` of every command shows examples, and every example is a command line that parses."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edge_server.cli.main import NAME, root

_ASSIGNMENT = re.compile(r"[A-Z_]+=")
_SUBSTITUTION = re.compile(r"\$\([^)]*\)")  # in these examples what a command prints is a number
_OPERATORS = frozenset({"|", "||", "&&", ";", ">", ">>", "<"})
_NOTE = re.compile(r" {3,}.*")  # what stands beside an example to explain it


def commands(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below a group, with its whole name."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        yield " ".join([*path, name]), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


COMMANDS = {NAME: root, **dict(commands(root, (NAME,)))}


def examples(command: click.Command) -> list[str]:
    """Return the lines of the block ``Examples:``."""
    _, _, block = (command.epilog or "").partition("Examples:\n")
    return [_NOTE.sub("", line.strip()) for line in block.partition("\n\n")[0].splitlines() if line.strip()]


def arguments(line: str) -> list[str]:
    """Return the words that the shell gives the one command of ours in a line."""
    lexer = shlex.shlex(_SUBSTITUTION.sub("1", line), posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if word in _OPERATORS:
            parts.append([])
        elif parts[-1] or not _ASSIGNMENT.match(word):
            parts[-1].append(word)
    return next(part[1:] for part in parts if part[:1] == [NAME])


def resolve(line: list[str]) -> click.Context:
    """Parse a command line as the command does, without running it; UsageError if it does not parse."""
    ctx = root.make_context(NAME, line)
    while isinstance(ctx.command, click.Group):
        protected = getattr(ctx, "_protected_args", None)  # click 8.2 and newer
        rest = [*(ctx.protected_args if protected is None else protected), *ctx.args]
        if not rest:
            return ctx
        name, command, left = ctx.command.resolve_command(ctx, rest)
        assert name is not None
        assert command is not None
        ctx = command.make_context(name, left, parent=ctx)
    return ctx


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_and_each_of_them_parses(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for read_at_once in ("paths.txt", "assets.b3"):
        (tmp_path / read_at_once).touch()
    lines = examples(COMMANDS[name])
    assert lines, f"{name} --help has no examples"
    own = [line for line in lines if resolve(arguments(line)).command is COMMANDS[name]]
    assert own or isinstance(COMMANDS[name], click.Group), f"none of the examples is of {name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_stand_in_the_help_as_they_are(name: str) -> None:
    command = COMMANDS[name]
    text = command.get_help(click.Context(command, info_name=name, terminal_width=100, max_content_width=100))
    for line in examples(command):
        assert f"\n    {line}" in text, line


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != NAME])
def test_every_option_and_command_says_what_it_is_for(name: str) -> None:
    command = COMMANDS[name]
    assert command.help or command.short_help
    assert [
        option.name for option in command.params if isinstance(option, click.Option) and not option.help
    ] == []


@pytest.mark.parametrize(
    "line",
    ["svc-edge pack verfy x", "svc-edge top --evry 1", "svc-edge top --every fast", "svc-edge pack show"],
)
def test_a_line_that_does_not_parse_is_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        resolve(arguments(line))
