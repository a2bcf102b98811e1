"""The package's public names, and what importing the states costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import infoplane.estimators as package


def test_exports_are_sorted_and_load() -> None:
    assert package.__all__ == sorted(package.__all__)
    assert dir(package) == package.__all__
    assert all(getattr(package, name).__name__ == name for name in package.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        package.nothing  # noqa: B018


def test_states_load_neither_torch_nor_scipy() -> None:
    code = (
        "import sys, infoplane.estimators.state as s; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'scipy', 'sklearn')))"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
