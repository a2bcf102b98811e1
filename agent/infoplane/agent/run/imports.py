"""Calls a function when a module has been imported, without importing it."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Patch = Callable[[ModuleType], None]
_log = logging.getLogger("infoplane.agent")


class PatchFinder:
    """Stands first in `sys.meta_path`; lets the others find a module and patches it once it is executed.

    An error in a patch is logged and swallowed. Cost: one dictionary look-up an import.

    Args:
        patches: full module name -> what to do with it.
    """

    def __init__(self, patches: Mapping[str, Patch]) -> None:
        self._patches = dict(patches)
        self._is_asking: set[str] = set()

    def install(self) -> None:
        """Begin; modules that are loaded already are patched at once."""
        sys.meta_path.insert(0, self)
        for name, patch in self._patches.items():
            if name in sys.modules:
                apply(patch, sys.modules[name])

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the other finders give, with a loader around theirs; None for other modules."""
        patch = self._patches.get(name)
        if patch is None or name in self._is_asking:
            return None
        self._is_asking.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._is_asking.discard(name)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _PatchingLoader(spec.loader, patch)  # type: ignore[assignment]
        return spec


class _PatchingLoader:
    """The loader `inner`, and a patch after it; it leaves no trace in the module."""

    def __init__(self, inner: Any, patch: Patch) -> None:
        self._inner = inner
        self._patch = patch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Let the inner loader do it."""
        made: ModuleType | None = self._inner.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module as it would be without us, then patch it."""
        module.__loader__ = self._inner
        if module.__spec__ is not None:
            module.__spec__.loader = self._inner
        self._inner.exec_module(module)
        apply(self._patch, module)


def apply(patch: Patch, module: ModuleType) -> None:
    """Call `patch(module)`; an error is logged, training goes on without it."""
    try:
        patch(module)
    except Exception:  # noqa: BLE001 - training goes on
        _log.exception("infoplane: %s is not watched", module.__name__)
