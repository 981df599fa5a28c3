"""`svc-edge check`: what passes, what does not, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_server.cli.main import main


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    folder = tmp_path / "assets"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")
    return folder


def test_a_sound_configuration_passes_with_a_summary(
    assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"edge: {{packs: [{assets}], verify: full}}\n")
    assert main(["check", "--config", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"settings: ok ({path})"
    assert lines[1] == f"pack: ok {assets} (directory, 2 entries, 0 tiles)"
    assert lines[2].startswith("ok: 1 pack, 2 entries, 0 tiles, verify full, ")


def test_a_broken_file_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("edge:\n  packs: [/nonesuch]\n  verifi: full\nlog: {level: loud}\n")
    assert main(["check", "-c", str(path)]) == 78
    assert capsys.readouterr().err.splitlines() == [
        "svc-edge: error: 2 settings cannot be used:",
        f"  {path}:3: edge.verifi: is not a setting; did you mean edge.verify?",
        f"  {path}:4: log.level: 'loud' is not accepted; give debug, info, warning or error",
    ]


def test_a_damaged_pack_does_not_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = tmp_path / "w.pmtiles"
    pack.write_bytes(b"PMTiles\x03")
    assert main(["check", str(pack)]) == 78
    assert f"svc-edge: error: pack {pack}" in capsys.readouterr().err


def test_settings_alone_pass_without_the_packs(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["check", "--no-packs", "/nonesuch.pmtiles", "--bind", "0.0.0.0:80"]
    assert main(args) == 0
    output = capsys.readouterr()
    assert output.out == "settings: ok (no file)\n"
    assert output.err.startswith("warning: --bind: bind_addr: 0.0.0.0:80 can be reached from other machines")
    assert main([*args, "--rps", "-5"]) == 78


def test_what_a_pack_leaves_out_is_told(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (assets / "out.txt").symlink_to("/etc/hostname")
    assert main(["check", str(assets)]) == 0
    assert f"warning: {assets}/out.txt: " in capsys.readouterr().err
