"""The command: what options without a command mean, exit codes, and what is not imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_server import __version__
from edge_server.cli import main as cli
from edge_server.cli import serve
from edge_server.cli.flags import FLAGS
from edge_server.config import keys
from edge_server.config.load import Loaded
from edge_server.errors import PackError, ResourceError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Loaded]:
    """What would be served: the supervisor is not started."""
    served: list[Loaded] = []
    monkeypatch.setattr(serve, "supervise", lambda loaded, load: served.append(loaded) or 0)
    return served


@pytest.fixture
def packs(tmp_path: Path) -> list[str]:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    return [str(folder) for folder in folders]


def paths_of(loaded: Loaded) -> list[str]:
    return [pack.path for pack in loaded.config.edge.packs]


@pytest.mark.parametrize("command", [[], ["serve"]], ids=["bare", "serve"])
def test_options_without_a_command_serve(command: list[str], started: list[Loaded], packs: list[str]) -> None:
    flags = ["--pack", packs[0], "--bind", "127.0.0.1:0", "--amnesia", "--set", "log.level=debug"]
    assert cli.main([*command, *flags]) == 0
    (loaded,) = started
    assert paths_of(loaded) == packs[:1]
    assert str(loaded.config.bind_addr) == "127.0.0.1:0"
    assert loaded.config.security.amnesia
    assert loaded.config.log.level == "debug"


def test_no_argument_at_all_serves_what_the_environment_says(
    started: list[Loaded], packs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVC_EDGE_EDGE__PACKS", ",".join(packs))
    assert cli.main([]) == 0
    assert paths_of(started[0]) == packs


def test_paths_and_pack_flags_add_up_and_replace_the_file(
    started: list[Loaded], packs: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("edge: {packs: [elsewhere], verify: full}\n")
    assert cli.main(["serve", "-c", str(path), "--pack", packs[1], packs[0]]) == 0
    assert paths_of(started[0]) == [packs[1], packs[0]]
    assert started[0].config.edge.verify == "full"


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_a_flag_sets_its_setting_and_is_named_in_errors(
    flag: object, started: list[Loaded], packs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(flag, tuple)
    name, key = flag[0], flag[1]
    assert key in keys.defaults()
    assert cli.main(["--pack", packs[0], name, "\x00"]) == 78
    assert f"{name}: {key}" in capsys.readouterr().err
    assert not started


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--help"], 0, "Exit codes:"),
        (["-h"], 0, "svc-edge serve world.pmtiles"),
        (["--version"], 0, __version__),
        (["nonesuch"], 2, "No such command"),
        (["--nonesuch"], 2, "No such option"),
        (["./world.pmtiles"], 2, "svc-edge serve ./world.pmtiles"),
        (["--rps", "5", "check"], 2, "The command comes first: svc-edge check"),
        (["serve", "--set", "log.level"], 2, "--set takes KEY=VALUE"),
        (["serve", "--rps", "5", "--set", "ingress.rps_limit=6"], 2, "set twice, by --rps and by --set"),
        (["serve", "--set", "edge.packs=/", "/"], 2, "edge.packs is set twice, by PATH and by --set"),
        ([], 78, "edge.packs: is empty; offline mode needs a pack"),
        (["--set", "log.lvel=x"], 78, "did you mean log.level?"),
        (["--config", "/nonesuch.yaml"], 78, "/nonesuch.yaml: cannot be read"),
        (["serve", "/nonesuch.pmtiles"], 78, "'/nonesuch.pmtiles' cannot be read: No such file"),
        (["serve", "/", "--mode", "live"], 78, "edge.allow: is empty; live mode needs the names"),
        (["completion", "tcsh"], 2, "is not one of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_how_a_command_line_ends(
    args: list[str], code: int, words: str, started: list[Loaded], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(args) == code
    output = capsys.readouterr()
    assert words in (output.out if code == 0 else output.err)
    assert "Traceback" not in output.err
    assert not started


@pytest.mark.parametrize(
    ("error", "code"),
    [(ResourceError("port 80 is taken"), 69), (PackError("w.pmtiles", "is short", 7), 78)],
    ids=["resource", "pack"],
)
def test_an_error_of_ours_ends_with_its_exit_code_and_one_message(
    error: Exception,
    code: int,
    packs: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(loaded: Loaded, load: Callable[[], Loaded]) -> int:
        raise error

    monkeypatch.setattr(serve, "supervise", fail)
    assert cli.main(["serve", packs[0]]) == code
    assert capsys.readouterr().err == f"svc-edge: error: {error}\n"


@pytest.mark.parametrize("code", [0, 1])
def test_the_exit_code_of_the_supervisor_is_ours(
    code: int, packs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "supervise", lambda loaded, load: code)
    assert cli.main(["serve", packs[0]]) == code


def test_every_command_is_there_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    listed = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"\n  {name} " in listed
        assert cli.main([name, "--help"]) == 0
    assert "Usage: svc-edge check" in capsys.readouterr().out


def test_versions_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"svc-edge {__version__}\n")
    assert cli.main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["svc-edge"] == __version__


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    assert "_SVC_EDGE_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("svc-edge ", "plain,check"),
        ("svc-edge se", "plain,serve"),
        ("svc-edge --rps 5 --log-f", "plain,--log-format"),
    ],
)
def test_completion_knows_commands_and_bare_options(words: str, expected: str) -> None:
    parts = words.split(" ")
    environ = {"_SVC_EDGE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(parts) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", "from edge_server.cli.main import main; main()"],
        env={"PATH": "/usr/bin:/bin", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert expected in done.stdout.splitlines()


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge_server", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"svc-edge, version {__version__}\n"


def test_a_reader_who_leaves_is_no_traceback() -> None:
    done = subprocess.run(
        f"{sys.executable} -m edge_server config reference | true",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"], ids=["stdout", "stderr", "all"])
def test_no_file_or_socket_takes_the_place_of_a_closed_stream(closed: str, tmp_path: Path) -> None:
    code = (
        "import os, sys; from edge_server.cli.main import main; main(['version']);"
        "sys.stdout.flush(); sys.stderr.flush(); opened = os.open('.', os.O_RDONLY);"
        f"open({str(tmp_path / 'seen')!r}, 'w').write(str(opened))"
    )
    subprocess.run(f'exec "{sys.executable}" -c "{code}" {closed}', shell=True, timeout=60, check=True)
    assert int((tmp_path / "seen").read_text()) > 2


def test_the_supervisor_begins_with_numpy_and_a_single_thread(packs: list[str]) -> None:
    code = (
        "import os, sys, types; from edge_server.cli.main import main;"
        "serve = lambda *_, **__: print('numpy' in sys.modules, len(os.listdir('/proc/self/task')));"
        "sys.modules['edge_server.supervisor.main'] = types.SimpleNamespace(serve=serve);"
        f"main(['serve', {packs[0]!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "True 1\n"


def test_the_command_imports_nothing_that_it_does_not_need() -> None:
    code = (
        "import sys; from edge_server.cli.main import main; main(['--version']);"
        "heavy = {'pydantic', 'yaml', 'numpy', 'falcon', 'rich', 'prometheus_client'} & set(sys.modules);"
        "assert not heavy, heavy; main(['config', 'show']);"
        "heavy = {'pydantic_settings', 'yaml', 'numpy', 'falcon', 'rich'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
    )
