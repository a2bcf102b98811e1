"""The import hook: patches are applied once, and modules are as they would be without it."""

from __future__ import annotations

import importlib
import importlib.resources
import inspect
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from infoplane.agent.run.imports import PatchFinder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the name of a package with a submodule and a data file, which nobody has imported."""
    folder = tmp_path / "patched_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        '"""Doc."""\nfrom patched_package import inner\nvalue = 1\n'
    )
    (folder / "inner.py").write_text("value = 2\n")
    (folder / "data.txt").write_text("text")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = list(sys.meta_path)
    yield folder.name
    sys.meta_path[:] = before
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        del sys.modules[name]


def test_a_patch_sees_the_finished_module_once(package: str) -> None:
    seen: list[tuple[str, int]] = []

    def patch(module: ModuleType) -> None:
        seen.append((module.__name__, module.value))

    PatchFinder({package: patch, f"{package}.inner": patch}).install()
    module = importlib.import_module(package)
    importlib.import_module(package)
    assert seen == [(f"{package}.inner", 2), (package, 1)]
    importlib.reload(module)
    assert len(seen) == 3  # the module is new, and so must be the patch


def test_the_module_keeps_its_loader_source_and_data(package: str) -> None:
    PatchFinder({package: lambda module: None}).install()
    module = importlib.import_module(package)
    assert type(module.__loader__).__module__.startswith("_frozen_importlib")
    assert module.__spec__ is not None
    assert module.__spec__.loader is module.__loader__
    assert "value = 1" in inspect.getsource(module)
    assert importlib.resources.files(package).joinpath("data.txt").read_text() == "text"


def test_a_module_that_is_loaded_already_is_patched_at_once(package: str) -> None:
    module = importlib.import_module(package)
    PatchFinder({package: lambda found: setattr(found, "value", 3)}).install()
    assert module.value == 3


def test_an_error_in_a_patch_is_logged_and_swallowed(
    package: str, caplog: pytest.LogCaptureFixture
) -> None:
    def patch(module: ModuleType) -> None:
        raise RuntimeError("of another version")

    PatchFinder({package: patch}).install()
    with caplog.at_level(logging.ERROR, "infoplane.agent"):
        assert importlib.import_module(package).value == 1
    assert f"{package} is not watched" in caplog.text


def test_a_module_that_does_not_exist_is_missing_as_ever() -> None:
    finder = PatchFinder({"no_such_module_at_all": lambda module: None})
    finder.install()
    try:
        with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
            importlib.import_module("no_such_module_at_all")
    finally:
        sys.meta_path.remove(finder)
