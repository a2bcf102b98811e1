from __future__ import annotations

from pathlib import Path

import pytest

from infoplane.agent.counters import Counters
from infoplane.agent.identity import Coordinates, Identity
from infoplane.agent.outlet import transport_factory
from infoplane.agent.sources import load
from infoplane.agent.transports import FileTransport, KafkaTransport, MemoryTransport, Outgoing

IDENTITY = Identity("r", 1, Coordinates(rank=3, world=4))
MESSAGE = Outgoing("t", b"k", b"value", 0)


@pytest.mark.parametrize(("name", "kind"), [("memory", MemoryTransport), ("kafka", KafkaTransport)])
def test_the_setting_names_the_transport(name: str, kind: type) -> None:
    transport = transport_factory(load({"transport": name}, {}), IDENTITY)(Counters())
    assert isinstance(transport, kind)
    transport.close(0.0)


def test_the_path_of_a_file_names_run_and_rank(tmp_path: Path) -> None:
    settings = load({"transport": "file", "file.path": str(tmp_path / "{run}-{rank}.log")}, {})
    transport = transport_factory(settings, IDENTITY)(Counters())
    assert isinstance(transport, FileTransport)
    assert transport.send(MESSAGE)
    transport.close(1.0)
    assert (tmp_path / "r-3.log").stat().st_size > 0


def test_none_takes_everything_and_counts_it() -> None:
    counters = Counters()
    transport = transport_factory(load({"transport": "none"}, {}), IDENTITY)(counters)
    assert transport.send(MESSAGE)
    assert counters.snapshot() == {("bytes_sent", ""): 6.0, ("records_sent", ""): 1.0}
