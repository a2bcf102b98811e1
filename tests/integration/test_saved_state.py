"""What a stage saves on a real broker: parts that changed are written, parts that are gone are deleted."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from infoplane.cli.demo.broker import EmbeddedBroker
from infoplane.collector.assemble.event_machine import event_stage
from infoplane.collector.drivers.client import client_settings
from infoplane.collector.drivers.embedded import run_stages
from infoplane.collector.drivers.memos import read_saved
from infoplane.collector.drivers.partition import Partition
from infoplane.collector.drivers.replay import entry_of, run_stage
from infoplane.collector.estimate.compute import EstimateSettings
from infoplane.collector.estimate.machine import estimate_stage
from infoplane.collector.metrics import METRICS
from infoplane.collector.settings import KafkaSection
from infoplane.collector.testing_events import SyntheticEvents
from infoplane.wire.topics import STATE, WINDOWS, Names

pytestmark = pytest.mark.integration


def test_what_is_saved_is_what_the_machine_keeps(broker: EmbeddedBroker, names: Names) -> None:
    kafka = KafkaSection(bootstrap_servers=broker.bootstrap, topic_prefix=names.prefix)
    stage = estimate_stage(EstimateSettings(METRICS, horizon_events=60, retain_windows=1))
    panes = [e for e in run_stage(SyntheticEvents().log(), event_stage()) if e.topic is WINDOWS]
    wanted = Partition(stage, 0)
    for place, pane in enumerate(panes):
        list(wanted.feed(entry_of(pane, names, place)))
    (keyed,) = wanted.machines.values()

    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=run_stages, args=([stage], kafka, stop, None, ready.set))
    thread.start()
    try:
        assert ready.wait(30)
        producer = KafkaProducer(**client_settings(kafka), enable_idempotence=False)
        for place, pane in enumerate(panes):
            entry = entry_of(pane, names, place)
            producer.send(
                entry.topic, key=entry.key, value=entry.value, timestamp_ms=entry.timestamp_ms
            )
            producer.flush(timeout=20)
            time.sleep(1.3)  # so that every window is committed, and with it saved, by itself
        producer.close()
        deadline = time.monotonic() + 30
        while _kept(read_saved(kafka, "estimate")) != _kept_of(keyed.machine.memo()):
            assert time.monotonic() < deadline
            time.sleep(0.3)
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
    values = _values(kafka)
    gone = [key for key, value in values if value is None]
    assert gone, [(key, value is None) for key, value in values]
    assert all(key.startswith(b"estimate|synthetic|history|events/preferences|") for key in gone)


def _kept(saved: Any) -> set[str]:
    return _kept_of(saved["synthetic"].parts) if "synthetic" in saved else set()


def _kept_of(parts: Any) -> set[str]:
    return {name for name in parts if name.startswith("history|")}


def _values(kafka: KafkaSection) -> list[tuple[bytes, bytes | None]]:
    topic = kafka.names.of(STATE)
    consumer = KafkaConsumer(**client_settings(kafka), fetch_max_wait_ms=50)
    consumer.assign([TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)])
    consumer.seek_to_beginning()
    found: list[tuple[bytes, bytes | None]] = []
    quiet = 0
    while quiet < 10:
        batches = consumer.poll(timeout_ms=100)
        quiet = 0 if batches else quiet + 1
        found += [(one.key, one.value) for messages in batches.values() for one in messages]
    consumer.close()
    return found
