"""The layers of ARCHITECTURE.md, read from the imports of every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge_server

ROOT = Path(edge_server.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

ROLE = {
    *("errors", "config", "http", "fill", "packs", "shm", "observe", "cas"),
    *("roles", "errands", "guard"),
}

# What each part may import besides itself; the order is that of the layers, lowest first.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "http": {"errors"},
    "config": {"errors"},
    "fill": {"errors", "config", "http"},
    "packs": {"errors", "http"},
    "shm": {"errors", "packs"},
    "observe": {"errors", "config", "http", "shm"},
    "cas": {"errors", "config", "shm", "observe"},
    "roles": {"errors", "config", "shm"},
    "errands": {"errors"},
    "guard": {"errors", "config"},
    "worker": ROLE,
    "sidecar": ROLE,
    "supervisor": {"errors", "config", "http", "packs", "shm", "observe", "roles"},
    "demo": {"errors", "packs"},
    "drill": {"errors", "config"},
    "cli": {
        *("errors", "config", "http", "packs", "shm", "observe", "cas", "roles", "guard"),
        *("worker", "sidecar", "supervisor", "demo", "drill"),
    },
    "__main__": {"cli"},
    "__init__": set(),
}
BJOERN_LIVES_IN = {"guard"}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(source: str, package: str) -> Iterator[str]:
    """Yield the dotted names that `source`, a module of `package`, imports, at any depth of it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_in(path: Path) -> set[str]:
    package = ".".join(["edge_server", *path.relative_to(ROOT).parts[:-1]])
    return set(imports_of(path.read_text(), package))


def parts_imported(path: Path) -> set[str]:
    dotted = (name.split(".") for name in imports_in(path))
    return {name[1] for name in dotted if name[0] == "edge_server" and len(name) > 1} & set(ALLOWED)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_its_own_part_and_those_below(path: Path) -> None:
    part = part_of(path)
    assert part in ALLOWED, f"{part} has no place among the layers yet"
    assert parts_imported(path) - {part} <= ALLOWED[part]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_bjoern_is_imported_by_the_guard_only(path: Path) -> None:
    top_level = {name.split(".")[0] for name in imports_in(path)}
    if part_of(path) not in BJOERN_LIVES_IN:
        assert not top_level & {"bjoern", "_bjoern"}


def test_no_part_is_above_itself() -> None:
    order = list(ALLOWED)
    for part, below in ALLOWED.items():
        assert all(order.index(other) < order.index(part) for other in below), part


def test_the_roles_do_not_know_each_other() -> None:
    roles = {"worker", "sidecar", "supervisor"}
    assert not any(ALLOWED[role] & roles for role in roles)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import edge_server.worker.main", "edge_server.worker.main"),
        ("from edge_server import worker", "edge_server.worker"),
        ("def f():\n    from edge_server.worker.main import run", "edge_server.worker.main"),
        ("from ..worker import main", "edge_server.worker"),
        ("from .. import worker", "edge_server.worker"),
        ("from . import ranges", "edge_server.http.ranges"),
    ],
    ids=["import", "from", "inside a function", "relative", "relative package", "same part"],
)
def test_the_reader_of_imports_sees_every_form(source: str, name: str) -> None:
    assert name in set(imports_of(source, "edge_server.http"))
