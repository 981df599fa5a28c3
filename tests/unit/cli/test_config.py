"""`svc-edge config`: effective values and where each came from."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from edge_server.cli.main import main
from edge_server.config import keys


def test_every_value_is_shown_with_its_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("edge:\n  packs: [a.pmtiles, {path: b, name: c}]\n")
    monkeypatch.setenv("SVC_EDGE_HTTP__EMPTY_TILE", "404")
    assert main(["config", "show", "--origin", "-c", str(path), "--log-level", "debug"]) == 0
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()}
    assert rows.keys() == keys.defaults().keys()
    assert rows["edge.packs"].split("  ")[0] == '[a.pmtiles, {"path": "b", "name": "c"}]'
    assert rows["edge.packs"].endswith(f" {path}:2")
    assert rows["http.empty_tile"].split() == ["404", "SVC_EDGE_HTTP__EMPTY_TILE"]
    assert rows["log.level"].split() == ["debug", "--log-level"]
    assert rows["cas.max_bytes"].split() == ["10GiB", "default"]


def test_values_are_shown_without_packs_and_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show"]) == 0
    assert "edge.packs                    []\n" in capsys.readouterr().out


def test_json_has_bytes_and_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "--json", "a"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["cas.max_bytes"] == 10 << 30
    assert values["workers.drain_timeout"] == 10
    assert values["edge.packs"] == [{"path": "a"}]
    assert values["bind_addr"] == "127.0.0.1:8080"
    assert main(["config", "show", "--json", "--origin", "a"]) == 0
    assert json.loads(capsys.readouterr().out)["edge.packs"] == {"value": [{"path": "a"}], "origin": "PATH"}


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["config", "show", "--origin", "--pack", "[bold]a"]) == 0
    text = terminal.getvalue()
    assert "setting" in text
    assert "[[bold]a]" in text


def test_a_configuration_that_cannot_be_used_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "--rps", "many"]) == 78
    output = capsys.readouterr()
    assert output.out == ""
    assert "--rps: ingress.rps_limit: 'many' is not accepted" in output.err


def test_schema_and_reference_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "svc-edge configuration"
    assert main(["config", "reference"]) == 0
    assert capsys.readouterr().out.startswith("# Settings\n")
