"""Fixtures of every test."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

Require = Callable[[str, bool, str], None]


def require_capability(capability: str, available: bool, why: str) -> None:
    """Skip the test unless `available`; fail it if INFOPLANE_REQUIRE names the capability.

    A machine that should have a capability says so in INFOPLANE_REQUIRE (a comma list), so that
    nothing is skipped there unnoticed.
    """
    if available:
        return
    required = {name.strip() for name in os.environ.get("INFOPLANE_REQUIRE", "").split(",")}
    if capability in required:
        pytest.fail(f"INFOPLANE_REQUIRE names {capability!r}, but: {why}")
    pytest.skip(f"needs {capability!r}: {why}")


@pytest.fixture(scope="session")
def require() -> Require:
    """Return `require(capability, available, why)`: skips, or fails where skipping is forbidden."""
    return require_capability
