"""`svc-edge reload`: have a running instance read its configuration and packs again, and wait.

Asks the admin plane, as `drain` does, or sends SIGHUP where a pid is given. Either way a
reload that begins after that has seen what is on the disk now: the command waits until one
has ended, and tells how.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from edge_server.cli.drain import AskError, ask, post
from edge_server.cli.flags import CommandLine, settings_flags
from edge_server.errors import ResourceError

if TYPE_CHECKING:
    from edge_server.config.schema import Config
    from edge_server.shm.scoreboard import Scoreboard

_POLL_S = 0.1
_LOST_S = 5.0  # an instance that does not answer for so long has gone

_EPILOG = """\b
Examples:
  svc-edge reload                                   the instance at the default metrics_addr
  svc-edge reload --config /etc/svc-edge.yaml       the one that this file belongs to, with its token
  svc-edge reload --metrics 127.0.0.1:9910
  svc-edge reload --pid "$(systemctl show -P MainPID svc-edge)"
"""

# Returns the number, result ("ok", "failed"), generation and reason of the last reload that has ended.
_Look = Callable[[], tuple[int, str, int, str]]


@click.command("reload", epilog=_EPILOG)
@settings_flags
@click.option(
    "--pid", type=click.IntRange(min=1), metavar="PID", help="The supervisor, instead of an address."
)
@click.option(
    "--wait", "wait_s", default=300.0, metavar="SECONDS", show_default=True, help="How long to wait."
)
def command(given: CommandLine, pid: int | None, wait_s: float) -> None:
    """Replace a running instance's configuration and packs without losing a request.

    Waits for the outcome. Exits 0 once the new generation is served, 1 when it could not be and
    the one before is served on, 69 when there is no such instance.
    """
    if pid is None:
        config = given.load(to_serve=False).config
        after, look = _ask_admin_plane(config), lambda: _last_reload(config)
    else:
        board = _scoreboard_of(pid)
        after, look = _send_sighup(pid, board), lambda: _last_of(board)
    _tell(_wait(look, after, wait_s))


def _ask_admin_plane(config: Config) -> int:
    answer = post(config, "/api/reload")
    if answer.status != 202:
        raise AskError(f"not done: {answer.status} {answer.reason or 'and no reason'}")
    after: int = json.loads(answer.body)["after"]
    return after


def _last_reload(config: Config) -> tuple[int, str, int, str]:
    told: dict[str, Any] = json.loads(ask(config, "GET", "/api/status", {}).body)["last_reload"]
    return told["number"], told["result"], told["generation"], told["reason"]


def _scoreboard_of(pid: int) -> Scoreboard:
    from edge_server.shm.scoreboard import Scoreboard
    from edge_server.shm.segment import SHM_DIR, owner_of

    for name in os.listdir(SHM_DIR):
        owner = owner_of(name)
        if owner is not None and owner.pid == pid and name.endswith("-scoreboard"):
            return Scoreboard.attach(name)
    raise ResourceError(f"process {pid} is no instance's supervisor on this machine, or another user's")


def _send_sighup(pid: int, board: Scoreboard) -> int:
    after = board.reloads.read().begun
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise ResourceError(f"process {pid} cannot be sent SIGHUP: {error.strerror}") from error
    return after


def _last_of(board: Scoreboard) -> tuple[int, str, int, str]:
    told = board.reloads.read()
    return told.ended, told.result.name.lower(), told.generation, told.reason


def _wait(look: _Look, after: int, wait_s: float) -> tuple[int, str, int, str]:
    deadline, heard_s = time.monotonic() + wait_s, time.monotonic()
    while time.monotonic() < deadline:
        try:
            found = look()
        except ResourceError:
            if time.monotonic() - heard_s > _LOST_S:
                raise
        else:
            heard_s = time.monotonic()
            if found[0] > after:
                return found
        time.sleep(_POLL_S)
    raise AskError(f"no reload has ended within {wait_s:g} s; see last_reload in /api/status")


def _tell(outcome: tuple[int, str, int, str]) -> None:
    _, result, generation, reason = outcome
    if result != "ok":
        raise AskError(f"not reloaded, generation {generation} is served on: {reason}")
    click.echo(f"generation {generation} is served" + (f"; {reason}" if reason else ""))
