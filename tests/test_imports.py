"""No import circles, imports within functions counted."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import REPOSITORY

FLOORS = ("launch", "trainer", "data")


def sources() -> dict[str, Path]:
    """Module -> its file, for the package and its floors, which lie beside it in the repository."""
    roots = {"convoy": REPOSITORY / "convoy", **{f"convoy.{floor}": REPOSITORY / floor for floor in FLOORS}}
    files = {}
    for package, root in roots.items():
        for path in root.rglob("*.py"):
            if package != "convoy" or path.relative_to(root).parts[0] not in FLOORS:
                parts = path.relative_to(root).with_suffix("").parts
                files[".".join([package, *parts]).removesuffix(".__init__")] = path
    return files


def imported(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """The modules of ours that a file imports, at its top or within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in modules:
                    yield name
                elif node.module in modules:
                    yield node.module


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The strongly connected components of more than one module, and modules that import themselves (Tarjan 1972)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    components = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for other in graph[module]:
            if other not in order:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], order[other])
        if lowest[module] == order[module]:
            place = stack.index(module)
            component = set(stack[place:])
            del stack[place:]
            if len(component) > 1 or module in graph[module]:
                components.append(component)

    for module in graph:
        if module not in order:
            visit(module)
    return components


@functools.cache
def package_circles() -> list[set[str]]:
    modules = sources()
    return circles({module: set(imported(path, modules)) for module, path in modules.items()})


def floor_of(module: str) -> str:
    return next((floor for floor in FLOORS if module.startswith(f"convoy.{floor}")), "ground")


@pytest.mark.parametrize("floor", [*FLOORS, "ground"])
def test_a_floor_has_no_import_circle(floor):
    assert [circle for circle in package_circles() if floor in {floor_of(module) for module in circle}] == []


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "c"}, "e": {"e"}}
    assert sorted(map(sorted, circles(graph))) == [["b", "c"], ["e"]]
    assert circles({"a": {"b"}, "b": set()}) == []
