"""Directives and clocks through real brokers: what was sent before and after, to this run and to others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_kafka
import numpy as np
import pytest
import torch
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient

from infoplane.agent import attach
from infoplane.agent.counters import Counters
from infoplane.agent.directives import Desk, Expected
from infoplane.agent.directives.reader import THREAD_NAME, ConfigSource
from infoplane.agent.settings import KafkaSettings
from infoplane.agent.transports import KafkaTransport, Outgoing
from infoplane.agent.transports.skew import NAME
from infoplane.cli.demo.broker import EmbeddedBroker
from infoplane.collector.drivers.topics import create_topics
from infoplane.wire import encode, to_tensor
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.topics import CONFIG, RECORDS, Names, run_key

pytestmark = pytest.mark.integration
SAMPLING = pb.Sampling(projection_version=1, projection_dim=8)


def until(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


class Sender:
    def __init__(self, bootstrap: str, names: Names) -> None:
        self._topic = names.of(CONFIG)
        self.producer = KafkaProducer(
            bootstrap_servers=bootstrap, api_version=(2, 1), enable_idempotence=False
        )

    def send(self, run: str, version: int, **fields: Any) -> None:
        raw = encode(pb.AgentConfig(run=run, version=version, **fields))
        self.producer.send(self._topic, key=run_key(run), value=raw).get(20)


@pytest.fixture
def sender(broker: EmbeddedBroker, names: Names) -> Iterator[Sender]:
    made = Sender(broker.bootstrap, names)
    yield made
    made.producer.close()


def reference() -> pb.Reference:
    rows = np.ones((5, 8), np.float16)
    return pb.Reference(sampling=SAMPLING, scoring_tap="embed", width=16, rows=to_tensor(rows))


def test_a_rank_that_comes_later_reads_what_was_sent_before(
    broker: EmbeddedBroker, names: Names, sender: Sender
) -> None:
    sender.send("mine", 1, from_step=10)
    sender.send("other", 9)
    sender.send("mine", 2, from_step=20, reference=reference(), taps_off=["03/act"])
    counters = Counters()
    source = ConfigSource(KafkaSettings(broker.bootstrap, names.prefix), "mine")
    desk = Desk(Expected(SAMPLING, "embed"), 16, counters, source)
    desk.start()
    try:
        assert until(lambda: desk.latest is not None and desk.latest.version == 2)
        assert desk.latest is not None
        assert desk.latest.taps_off == frozenset(["03/act"])
        sender.send("mine", 3, reference=pb.Reference(scoring_tap="embed"))
        sender.send("mine", 4, from_step=64)
        assert until(lambda: desk.latest is not None and desk.latest.version == 4)
        assert counters.snapshot() == {("config_refused", "identity"): 1}
    finally:
        desk.close()
    assert source._thread is not None
    assert source._thread.name == THREAD_NAME
    assert not source._thread.is_alive()


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(50, 16)
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(2))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = x + block(x)
        return x.square().mean()


def test_an_attached_rank_obeys_what_the_broker_holds(
    broker: EmbeddedBroker, names: Names, sender: Sender
) -> None:
    sender.send("live", 7, reference=reference())
    config = {
        "run": "live",
        "kafka.bootstrap_servers": broker.bootstrap,
        "kafka.topic_prefix": names.prefix,
        "config.enabled": True,
        "governor.enabled": False,
        "sampling.base_level": 0,
        "sampling.width": 2,
        "sampling.projection_dim": 8,
        "sampling.novel_fraction": 0.25,
        "taps.act": "off",
    }
    with attach(Small(), config=config) as monitor:

        def is_applied() -> bool:
            monitor._session.parts.adapter.root(torch.randint(0, 50, (4, 300))).backward()  # type: ignore[union-attr]
            monitor.step()
            return monitor.stats().get("config_applied") == 1

        assert until(is_applied)
        assert is_applied()
        novelty = monitor._session.parts.recorder._plan.novelty  # type: ignore[union-attr]
        assert novelty is not None
        assert novelty.version == 7
        assert not any(name.startswith("novelty") for name in monitor.stats())


def _deliver(bootstrap: str, topic: str, counters: Counters, behind_s: float) -> None:
    """Send messages until there is an estimate, or for a while; the producer's times lie `behind_s` back."""
    transport = KafkaTransport(bootstrap, counters)
    try:
        for number in range(140):
            stamp = int((time.time() - behind_s) * 1000)
            transport.send(Outgoing(topic, b"k", b"v", stamp))
            transport.poll()
            time.sleep(0.05)
            if counters.snapshot().get((NAME, "")) is not None and number > 20:
                break
    finally:
        transport.close(2.0)


@pytest.fixture
def kafka(
    tmp_path: Path, require: Callable[[str, bool, str], None]
) -> Iterator[apache_kafka.ApacheKafka]:
    missing = apache_kafka.why_not()
    require("kafka", not missing, missing)
    with apache_kafka.ApacheKafka(tmp_path) as running:
        yield running


def test_the_skew_is_known_where_the_broker_stamps_and_only_there(
    kafka: apache_kafka.ApacheKafka,
) -> None:
    names = Names("s.")
    create_topics(kafka.bootstrap, names)
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    stamped = {"num_partitions": 1, "replication_factor": 1}
    admin.create_topics(
        {"stamped": {**stamped, "configs": {"message.timestamp.type": "LogAppendTime"}}}
    )
    admin.close()
    plain = Counters()
    _deliver(kafka.bootstrap, names.of(RECORDS), plain, 30.0)
    assert plain.total("records_delivered") > 20
    assert (NAME, "") not in plain.snapshot()
    counters = Counters()
    _deliver(kafka.bootstrap, "stamped", counters, 30.0)
    # One machine, one clock: what the producer wrote into its messages does not matter.
    assert abs(counters.snapshot()[NAME, ""]) < 1.0
