"""Modules import each other in one direction only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE_ROOTS = ("agent", "collector", "estimators", "dashboards")


def modules() -> dict[str, Path]:
    found = {}
    for root in SOURCE_ROOTS:
        for path in (ROOT / root).rglob("*.py"):
            parts = path.relative_to(ROOT / root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_at_load(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports that run when a module is loaded: not those in functions or for type checkers only."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If):
            if "TYPE_CHECKING" not in ast.unparse(node.test):
                yield from imports_at_load(node.body)
            yield from imports_at_load(node.orelse)
        elif isinstance(node, ast.Try):
            yield from imports_at_load([*node.body, *node.orelse, *node.finalbody])
        elif isinstance(node, ast.ClassDef | ast.With):
            yield from imports_at_load(node.body)


def graph() -> dict[str, set[str]]:
    known = modules()
    edges: dict[str, set[str]] = {}
    for name, path in known.items():
        targets: set[str] = set()
        for node in imports_at_load(ast.parse(path.read_text()).body):
            if isinstance(node, ast.Import):
                targets.update(alias.name for alias in node.names)
            elif node.module:
                # `from package import module` needs the module, `from package import name` the package.
                submodules = {f"{node.module}.{alias.name}" for alias in node.names}
                targets.update(one if one in known else node.module for one in submodules)
        edges[name] = (targets & known.keys()) - {name}
    return edges


def find_cycle(edges: dict[str, set[str]]) -> list[str]:
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(edges[name]):
            if cycle := visit(target, [*path, name]):
                return cycle
        done.add(name)
        return []

    for name in sorted(edges):
        if cycle := visit(name, []):
            return cycle
    return []


def test_there_is_no_import_cycle() -> None:
    assert find_cycle(graph()) == []


def test_the_check_finds_a_cycle() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("infoplane.wire", ("torch", "scipy", "kafka", "pydantic")),
        ("infoplane.estimators.state", ("torch", "scipy", "kafka")),
        ("infoplane.agent", ("scipy", "pydantic", "typer", "deepspeed", "nicegui")),
        ("infoplane.cli.main", ("torch", "deepspeed", "kafka", "pydantic", "nicegui")),
    ],
)
def test_what_a_package_does_not_load(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*(name for name in {absent!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
