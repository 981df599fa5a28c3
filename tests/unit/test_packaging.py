"""What the package promises to whom installs it, read from its own files and metadata."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from importlib import metadata, resources
from pathlib import Path

import pytest

import edge_server
from edge_server.config.load import load

ROOT = Path(__file__).parents[2]
FORBIDDEN = re.compile(r"\b(?:TODO|FIXME|XXX)\b")  # unfinished work


def settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def committed_files() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("which files belong to the project is known in a git checkout only")
    command = ["git", "-c", "safe.directory=*", "ls-files"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.splitlines()]


def test_the_version_is_written_in_one_place() -> None:
    assert settings()["metadata"]["version"] == "attr: edge_server.__version__"
    assert metadata.version("svc-edge") == edge_server.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", edge_server.__version__)


def test_the_changelog_tells_of_this_version() -> None:
    assert f"## [{edge_server.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_type_information_is_shipped() -> None:
    assert resources.files("edge_server").joinpath("py.typed").is_file()
    assert "py.typed" in settings()["options.package_data"]["edge_server"]


def test_every_data_file_in_the_package_is_shipped() -> None:
    shipped = settings()["options.package_data"]
    for path in (ROOT / "edge_server").rglob("*"):
        if path.is_file() and path.suffix not in {".py", ".pyc", ".c", ".h", ".so"}:
            folders = [folder.relative_to(ROOT) for folder in path.parents if folder.is_relative_to(ROOT)]
            package = next(name for name in (".".join(folder.parts) for folder in folders) if name in shipped)
            rest = path.relative_to(ROOT / package.replace(".", "/"))
            assert any(rest.match(pattern) for pattern in shipped[package].split()), path


def test_every_package_of_the_tree_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "edge_server").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_the_command_is_installed() -> None:
    (script,) = metadata.entry_points(group="console_scripts", name="svc-edge")
    assert callable(script.load())


def test_pythons_are_the_same_everywhere() -> None:
    minors = [10, 11, 12, 13]
    classifiers = settings()["metadata"]["classifiers"]
    tox = (ROOT / "tox.ini").read_text()
    assert [int(minor) for minor in re.findall(r"Python :: 3\.(\d+)", classifiers)] == minors
    assert f"py3{{{','.join(map(str, minors))}}}" in tox
    assert settings()["options"]["python_requires"] == ">=3.10"


def test_each_python_gets_an_extension_of_its_own() -> None:
    """Tests import the checkout's package: its extension must be there, once for each Python."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    assert tox["testenv"]["package"] == "editable"
    assert not [name for name in tox.sections() if "wheel_build_env" in tox[name]]


def links_of(document: Path) -> list[Path]:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())
    return [(document.parent / link).resolve() for link in links]


DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_the_documents_lead_somewhere(path: Path) -> None:
    assert [link for link in links_of(path) if not link.exists()] == []


def test_the_readme_leads_to_every_document() -> None:
    assert set(DOCUMENTS) - set(links_of(ROOT / "README.md")) == {ROOT / "README.md"}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_the_unit_waits_until_every_example_has_drained(path: Path) -> None:
    unit = (ROOT / "deploy" / "svc-edge.service").read_text()
    (stop_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    drain_timeout_s = load(str(path), flags={}, environ={}, to_serve=False).config.workers.drain_timeout
    assert int(stop_s) > drain_timeout_s + 5


def test_the_files_speak_of_this_project_only() -> None:
    own = Path(__file__).resolve()
    for path in committed_files():
        if path.is_file() and path.resolve() != own:
            text = path.read_bytes().decode("utf-8", "replace")
            found = FORBIDDEN.search(text)
            assert found is None, f"{path.relative_to(ROOT)}: {found and found.group()}"


def test_every_dependency_is_named_with_its_reason() -> None:
    told = (ROOT / "ARCHITECTURE.md").read_text().partition("## Libraries, and why")[2].lower()
    lists = [settings()["options"]["install_requires"], *settings()["options.extras_require"].values()]
    wanted = {re.split(r"[ ;\[<>=!]", line)[0].lower() for text in lists for line in text.split("\n") if line}
    missing = wanted - set(re.findall(r"[\w-]+", told))
    assert {name for name in missing if not name.startswith("types-")} == set()
