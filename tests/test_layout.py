"""The shape of the tree: where files may be, what they may be called and how long they may grow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE_ROOTS = ("agent", "collector", "estimators", "dashboards")
PACKAGES = (
    "agent/infoplane/agent",
    "agent/infoplane/wire",
    "collector/infoplane/cli",
    "collector/infoplane/collector",
    "collector/infoplane/controller",
    "collector/infoplane/exporter",
    "dashboards/infoplane/dashboards",
    "estimators/infoplane/estimators",
)
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def sources() -> list[Path]:
    found = [path for root in SOURCE_ROOTS for path in (ROOT / root).rglob("*.py")]
    return sorted(path for path in found if not path.name.endswith("_pb2.py"))


def hand_written() -> list[Path]:
    others = [
        path for root in ("tests", "scripts", "benchmarks") for path in (ROOT / root).rglob("*.py")
    ]
    return sources() + sorted(others)


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_the_shared_namespace_holds_no_file(root: str) -> None:
    """A file there, above all an __init__.py, would hide the parts that live in the other roots."""
    assert list((ROOT / root / "infoplane").glob("*.py")) == []
    assert list((ROOT / root).glob("*.py")) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_regular_and_typed(package: str) -> None:
    assert (ROOT / package / "__init__.py").is_file()
    assert (ROOT / package / "py.typed").is_file()


def test_no_package_is_missing_in_the_list() -> None:
    found = {
        str(path.relative_to(ROOT))
        for root in SOURCE_ROOTS
        for path in (ROOT / root / "infoplane").iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }
    assert found == set(PACKAGES)


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in sources()}
    assert [
        str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()
    ] == []


def test_names_say_what_files_hold() -> None:
    vague = [path for path in hand_written() if path.stem in VAGUE or path.parent.name in VAGUE]
    assert vague == []


def test_files_stay_readable_in_one_sitting() -> None:
    lengths = {str(path): len(path.read_text().splitlines()) for path in hand_written()}
    assert {path: length for path, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_functions_stay_short() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}:{name} ({length} lines)"
        for path in hand_written()
        for name, length in functions(path)
        if length > MAX_FUNCTION_LINES
    ]
    assert too_long == []


def test_every_public_package_says_what_it_is_for() -> None:
    packages = [path for path in sources() if path.name == "__init__.py"]
    assert [
        str(path) for path in packages if not ast.get_docstring(ast.parse(path.read_text()))
    ] == []


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (name, lines) of every function; its docstring does not count."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            prose = (ast.get_docstring(node, clean=False) or "").count("\n")
            yield node.name, node.end_lineno - node.lineno + 1 - prose
