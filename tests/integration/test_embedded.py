"""The embedded driver on a real broker: live equals replay, also when the collector is killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from infoplane.cli.demo.broker import EmbeddedBroker
from infoplane.collector.assemble.machine import AssembleSettings, assemble_stage
from infoplane.collector.drivers import embedded
from infoplane.collector.drivers.client import client_settings
from infoplane.collector.drivers.embedded import run_stages
from infoplane.collector.drivers.pipeline_metrics import PipelineMetrics
from infoplane.collector.drivers.replay import replay
from infoplane.collector.drivers.topics import create_topics
from infoplane.collector.estimate.compute import EstimateSettings
from infoplane.collector.estimate.machine import estimate_stage
from infoplane.collector.metrics import METRICS
from infoplane.collector.settings import KafkaSection
from infoplane.collector.testing import SyntheticRun, comparable_results
from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import LogEntry
from infoplane.wire.topics import DEAD, RECORDS, RESULTS, WINDOWS, Topic

pytestmark = pytest.mark.integration

# What the wall clock may reach in a test: idle ticks must not close a window that a replay would keep open.
ASSEMBLE = AssembleSettings(deadline_ms=20_000, lateness_ms=40_000)
JOIN_MS = 240_000
CHEAP = tuple(m for m in METRICS if not m.name.startswith(("mutual", "usable")))
RUN = SyntheticRun(steps=96, ranks=2, rows=16)
LAST_OF_TAPS = "agent_sent_bytes_total"  # what ESTIMATE publishes last of a joined window


def stages() -> list[Any]:
    return [
        assemble_stage(ASSEMBLE),
        estimate_stage(EstimateSettings(CHEAP, join_deadline_ms=JOIN_MS)),
    ]


def collect(bootstrap: str) -> None:
    """A collector process."""
    run_stages(stages(), KafkaSection(bootstrap_servers=bootstrap), threading.Event())


@pytest.fixture
def kafka() -> Iterator[KafkaSection]:
    with EmbeddedBroker() as broker:
        section = KafkaSection(bootstrap_servers=broker.bootstrap)
        create_topics(broker.bootstrap, section.names)
        yield section


def produce(kafka: KafkaSection, entries: list[LogEntry], pause_s: float = 0.0) -> None:
    producer = KafkaProducer(**client_settings(kafka), enable_idempotence=False, linger_ms=1)
    for entry in entries:
        producer.send(
            entry.topic, key=entry.key, value=entry.value, timestamp_ms=entry.timestamp_ms
        )
        if pause_s:
            time.sleep(pause_s)
    producer.flush(timeout=20)
    producer.close()


def read(kafka: KafkaSection, topic: Topic) -> list[Any]:
    """Return everything that is on a topic now, however long a busy broker takes to hand it over."""
    name = kafka.names.of(topic)
    consumer = KafkaConsumer(**client_settings(kafka), fetch_max_wait_ms=50)
    places = [TopicPartition(name, p) for p in consumer.partitions_for_topic(name)]
    consumer.assign(places)
    consumer.seek_to_beginning()
    ends = consumer.end_offsets(places)
    found: list[Any] = []
    deadline = time.monotonic() + 60
    while any(consumer.position(place) < ends[place] for place in places):
        assert time.monotonic() < deadline, f"{name} was not read to its end"
        for messages in consumer.poll(timeout_ms=100).values():
            found += messages
    consumer.close()
    return found


def log_of(kafka: KafkaSection, topic: Topic) -> list[LogEntry]:
    return [
        LogEntry(m.topic, m.partition, m.offset, m.timestamp, m.key or b"", m.value)
        for m in read(kafka, topic)
    ]


def wait_for_results(kafka: KafkaSection, windows: int, limit_s: float) -> list[pb.Result]:
    """Read until every window has its last metric, or fail."""
    deadline = time.monotonic() + limit_s
    while True:
        results = [decode(m.value, pb.Result) for m in read(kafka, RESULTS)]
        closed = {r.window for r in results if r.metric == LAST_OF_TAPS}
        if len(closed) >= windows:
            return results
        assert time.monotonic() < deadline, f"only windows {sorted(closed)} in {limit_s} s"


def test_live_equals_replay(kafka: KafkaSection) -> None:
    stop = threading.Event()
    metrics = PipelineMetrics()
    thread = threading.Thread(target=run_stages, args=(stages(), kafka, stop, metrics))
    thread.start()
    try:
        now = SyntheticRun(**{**RUN.__dict__, "start_ms": int(time.time() * 1000)})
        bad = [LogEntry(kafka.names.of(RECORDS), 0, 0, now.start_ms, b"x", b"junk")]
        produce(kafka, now.log() + bad)
        live = wait_for_results(kafka, 12, 60)
        letters = [decode(m.value, pb.DeadLetter) for m in read(kafka, DEAD)]
    finally:
        stop.set()
        thread.join(20)
    assert [letter.reason for letter in letters] == ["short"]
    read_by = {"stage": "assemble"}
    assert metrics.registry.get_sample_value("infoplane_pipeline_dead_messages", read_by) == 1
    produced = len(now.log()) + 1
    assert (
        metrics.registry.get_sample_value("infoplane_pipeline_read_messages", read_by) == produced
    )
    again = [e.message for e in replay(log_of(kafka, RECORDS), stages()) if e.topic is RESULTS]
    assert comparable_results(live) == comparable_results(again)


class Hasty(KafkaConsumer):
    """A consumer of a broker that shows a later batch first: once a partition, in its second fetch."""

    hidden: dict[Any, int]

    def poll(self, *args: Any, **keywords: Any) -> Any:
        batches = super().poll(*args, **keywords)
        for where, messages in batches.items():
            if messages[0].offset > 0 and len(messages) > 3 and where not in self.hidden:
                self.hidden[where] = messages[0].offset
                del messages[:3]
        return batches


def test_a_batch_that_shows_late_is_read(
    kafka: KafkaSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hasty, "hidden", {}, raising=False)
    monkeypatch.setattr(embedded, "KafkaConsumer", Hasty)
    monkeypatch.setattr(embedded, "MAX_POLL_RECORDS", 20)
    stop, metrics = threading.Event(), PipelineMetrics()
    arguments = ([assemble_stage(ASSEMBLE)], kafka, stop, metrics)
    thread = threading.Thread(target=run_stages, args=arguments)
    thread.start()
    try:
        log = SyntheticRun(**{**RUN.__dict__, "start_ms": int(time.time() * 1000)}).log()
        produce(kafka, log)
        deadline = time.monotonic() + 60
        while (found := _read_by_assemble(metrics)) < len(log):
            assert time.monotonic() < deadline, f"{found} of {len(log)} messages in 60 s"
            time.sleep(0.1)
    finally:
        stop.set()
        thread.join(20)
    assert Hasty.hidden
    assert _read_by_assemble(metrics) == len(log)
    panes = [decode(m.value, pb.WindowPane) for m in read(kafka, WINDOWS)]
    assert panes
    assert all(pane.present == pane.expected for pane in panes)


def _read_by_assemble(metrics: PipelineMetrics) -> float:
    name, labels = "infoplane_pipeline_read_messages", {"stage": "assemble"}
    return metrics.registry.get_sample_value(name, labels) or 0


@pytest.mark.skipif(not os.environ.get("INFOPLANE_KILL_MATRIX"), reason="see `make kill-matrix`")
def test_killed_collector_changes_no_last_pane(kafka: KafkaSection) -> None:
    """SIGKILL at five random moments while records come in; then the last panes equal a replay's."""
    generator = random.Random(3)
    context = multiprocessing.get_context("spawn")
    now = SyntheticRun(**{**RUN.__dict__, "start_ms": int(time.time() * 1000)})
    feeder = threading.Thread(target=produce, args=(kafka, now.log(), 0.025))
    feeder.start()
    kills = 0
    process = context.Process(target=collect, args=(kafka.bootstrap_servers,))
    process.start()
    while kills < 5:
        time.sleep(generator.uniform(2.0, 5.0))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
        process = context.Process(target=collect, args=(kafka.bootstrap_servers,))
        process.start()
    feeder.join()
    try:
        live = wait_for_results(kafka, 12, 180)
    finally:
        process.kill()
        process.join()
    entries = log_of(kafka, RECORDS)
    again = [e.message for e in replay(entries, stages()) if e.topic is RESULTS]
    assert comparable_results(live) == comparable_results(again)
    panes = [decode(m.value, pb.WindowPane) for m in read(kafka, WINDOWS)]
    best = {(p.unit, p.window): p.present for p in sorted(panes, key=lambda p: p.present)}
    assert set(best.values()) == {16}
