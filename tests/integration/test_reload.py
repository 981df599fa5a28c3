"""Reload as operators see it: what is taken over, what is refused, and who is told."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.archives import build
from tests.scrapes import families
from tests.servers import Server, eventually, is_alive, run
from tests.wire import ask
from tests.worlds import write

Serve = Callable[..., Server]

OK = "edge_config_last_reload_successful"
BROKEN = b"PMTiles\3" + b"\0" * 200
AT = "edge_config_last_reload_success_timestamp_seconds"


class Settings:
    """A configuration file, and the folder that it serves."""

    def __init__(self, root: Path) -> None:
        self.path = root / "svc-edge.yaml"
        self.folder = root / "pack"
        self.archive = root / "tiles.pmtiles"
        write(self.folder / "a.txt", b"one")
        write(self.archive, build({0: b"tile" * 100}))
        self.write()

    def write(self, more: str = "", *, packs: str | None = None, workers: str = "count: 2") -> None:
        packs = packs or f"{self.folder}, {self.archive}"
        self.path.write_text(f"edge: {{packs: [{packs}]}}\nworkers: {{{workers}}}\n{more}")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path)


@pytest.fixture
def server(serve: Serve, settings: Settings) -> Server:
    return serve("--config", settings.path)


def ended(server: Server, number: int) -> dict[str, Any]:
    """Return how the reload of that number ended, once it has."""
    told = eventually(
        lambda: (last := server.status()["last_reload"])["number"] >= number and last, within=20
    )
    assert isinstance(told, dict)
    return told


def reload(server: Server, number: int = 1) -> dict[str, Any]:
    server.signal(signal.SIGHUP)
    return ended(server, number)


def generations(server: Server) -> set[int]:
    """Return the generations that processes serve."""
    status = server.status()
    return {told["generation"] for told in (*status["workers"], *status["sidecars"])}


def child(server: Server, name: str) -> psutil.Process:
    """Return the supervisor's helper of that name, once there is one."""
    return eventually(lambda: next((each for each in server.children() if title(each) == name), None))


def gauges(server: Server) -> dict[str, float]:
    """Return the gauges without labels."""
    return {
        each.name: each.samples[0].value for each in families(server) if each.type == "gauge" and each.samples
    }


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip().removeprefix("svc-edge: ")
    except psutil.Error:
        return ""


def test_new_packs_and_settings_are_served_after_sighup(server: Server, settings: Settings) -> None:
    write(settings.folder / "b.txt", b"two")
    settings.write("http: {cache_control: no-cache}\n")
    assert ask(server.assets, "/edge/assets/b.txt").status == 404
    told = reload(server)
    assert (told["result"], told["generation"], told["reason"]) == ("ok", 2, "")
    answer = ask(server.assets, "/edge/assets/b.txt")
    assert (answer.body, answer["Cache-Control"]) == (b"two", "no-cache")
    assert ask(server.assets, "/edge/assets/tiles/0/0/0.mvt").status == 200
    assert server.status()["generation"] == 2
    eventually(lambda: generations(server) == {2})
    eventually(lambda: not [name for name in server.shared_names() if "catalog-g1" in name])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(lambda it: it.path.write_text("edge: ["), "svc-edge.yaml", id="no-yaml"),
        pytest.param(lambda it: it.write("nothing: 1\n"), "nothing", id="no-setting"),
        pytest.param(lambda it: it.write(packs="/no/such/pack"), "/no/such/pack", id="no-pack"),
        pytest.param(lambda it: it.archive.write_bytes(BROKEN), "tiles.pmtiles", id="bad-pack"),
        pytest.param(lambda it: it.path.unlink(), "svc-edge.yaml", id="no-file"),
        pytest.param(lambda it: it.write(workers="count: 2, pin: [4711]"), "4711", id="no-cpu"),
    ],
)
def test_what_cannot_be_served_leaves_everything_as_it_was(
    server: Server, settings: Settings, spoil: Callable[[Settings], object], words: str
) -> None:
    before, children = gauges(server), {each.pid for each in server.children()}
    spoil(settings)
    told = reload(server)
    assert (told["result"], told["generation"]) == ("failed", 1)
    assert words in told["reason"]
    assert {each.pid for each in server.children()} == children
    assert ask(server.assets, "/edge/assets/a.txt").body == b"one"
    (line,) = [line for line in server.events("reload") if line.get("phase") == "ended"]
    assert (line["level"], line["result"], line["reason"]) == ("error", "failed", told["reason"])
    after = gauges(server)
    assert (before[OK], after[OK], after[AT]) == (1, 0, before[AT])
    write(settings.archive, build({0: b"tile" * 100}))
    settings.write()
    assert reload(server, 2)["result"] == "ok"
    now = gauges(server)
    assert now[OK] == 1
    assert now[AT] > before[AT]
    eventually(lambda: not [name for name in server.shared_names() if "catalog-g1" in name])


def test_what_needs_a_restart_is_said_and_the_rest_is_applied(server: Server, settings: Settings) -> None:
    settings.write("bind_addr: 127.0.0.9:1\nlog: {level: debug}\n", workers="count: 3")
    server_flags = server.assets
    told = reload(server)
    assert told["result"] == "ok"
    assert told["reason"] == "workers.count stays as it is until the next start"  # --bind wins over the file
    assert len(server.workers()) == 2
    assert ask(server_flags, "/edge/assets/a.txt").body == b"one"


def test_a_request_during_a_reload_is_heeded_after_it(server: Server, settings: Settings) -> None:
    settings.path.unlink()
    os.mkfifo(settings.path)
    server.signal(signal.SIGHUP)
    builder = child(server, "builder")
    server.signal(signal.SIGHUP)
    server.signal(signal.SIGHUP)
    builder.kill()
    eventually(lambda: len([line for line in server.events("reload") if line.get("phase") == "begun"]) == 2)
    child(server, "builder").kill()  # it waits for the pipe, as the first one did
    settings.path.unlink()
    settings.write()
    told = ended(server, 2)
    assert told["result"] == "failed"
    assert not told["running"]
    assert reload(server, 3)["result"] == "ok"


def test_a_builder_that_is_killed_is_a_failed_reload(server: Server, settings: Settings) -> None:
    settings.path.unlink()
    os.mkfifo(settings.path)
    names = server.shared_names()
    server.signal(signal.SIGHUP)
    child(server, "builder").kill()
    told = ended(server, 1)
    assert (told["result"], told["reason"]) == ("failed", "the builder ended with SIGKILL")
    assert server.shared_names() == names


def test_workers_are_replaced_while_a_builder_is_stuck(server: Server, settings: Settings) -> None:
    settings.path.unlink()
    os.mkfifo(settings.path)
    server.signal(signal.SIGHUP)
    child(server, "builder")
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: server.workers().get(0) not in (None, victim), within=2)
    assert server.status()["last_reload"]["running"]


def test_sigterm_ends_a_reload_too(server: Server, settings: Settings) -> None:
    settings.path.unlink()
    os.mkfifo(settings.path)
    server.signal(signal.SIGHUP)
    builder = child(server, "builder")
    assert server.stop() == 0
    assert server.shared_names() == []
    assert not is_alive(builder.pid)


def test_a_changed_pack_is_noticed_and_a_broken_one_refused(serve: Serve, settings: Settings) -> None:
    server = serve("--config", settings.path, "--set", "edge.watch=true")
    child(server, "watcher")
    eventually(lambda: change_is_noticed(server, settings), within=15)
    write(settings.archive.with_suffix(".new"), BROKEN)
    eventually(lambda: not server.status()["last_reload"]["running"])
    number = server.status()["last_reload"]["number"]
    settings.archive.with_suffix(".new").replace(settings.archive)
    told = ended(server, number + 1)
    assert (told["result"], told["number"]) == ("failed", number + 1)
    assert ask(server.assets, "/edge/assets/tiles/0/0/0.mvt").status == 200, "the mounted archive answers"


def change_is_noticed(server: Server, settings: Settings) -> bool:
    """Change the folder and see whether that is noticed; a watcher that has just begun may miss it."""
    write(settings.folder / "late.txt", b"late")
    os.utime(settings.folder / "late.txt")
    until_s = time.monotonic() + 4
    while time.monotonic() < until_s:
        if ask(server.assets, "/edge/assets/late.txt").status == 200:
            return True
        time.sleep(0.05)
    return False


def test_the_command_reloads_by_address_and_by_pid(server: Server, settings: Settings) -> None:
    told = run("reload", "--metrics", server.admin)
    assert (told.returncode, told.stdout) == (0, "generation 2 is served\n"), told.stderr
    told = run("reload", "--pid", server.pid)
    assert (told.returncode, told.stdout) == (0, "generation 3 is served\n"), told.stderr
    settings.write("nothing: 1\n")
    for way in (("--metrics", server.admin), ("--pid", server.pid)):
        told = run("reload", *way)
        assert told.returncode == 1
        assert "not reloaded, generation 3 is served on" in told.stderr
        assert "nothing" in told.stderr


def test_the_command_needs_an_instance() -> None:
    told = run("reload", "--pid", os.getpid())
    assert told.returncode == 69
    assert "no instance" in told.stderr


def test_the_supervisor_acts_on_signals_while_a_builder_is_at_work(
    server: Server, settings: Settings
) -> None:
    settings.path.unlink()
    os.mkfifo(settings.path)
    server.signal(signal.SIGHUP)
    child(server, "builder")
    server.signal(signal.SIGUSR2)
    eventually(lambda: server.status()["draining"], within=1)
    assert server.status()["last_reload"]["running"]
