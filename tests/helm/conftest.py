"""Makes chart.py of this folder importable (tests run in importlib mode), and says what is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def chart_tools(require: Callable[[str, bool, str], None]) -> None:
    """Skip, or fail where INFOPLANE_REQUIRE names `chart`, without the tools that stand in for helm and a cluster."""
    missing = [name for name in ("helm_python", "kubernetes_validate") if find_spec(name) is None]
    require("chart", not missing, f"not installed: {', '.join(missing)}")
