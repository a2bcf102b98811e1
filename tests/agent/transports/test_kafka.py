"""The Kafka transport without a broker, and its producer's replacement, with fakes at its seam.

What it does with real brokers, alive and not, is in tests/integration.
"""

from __future__ import annotations

import gc
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from infoplane.agent.counters import Counters
from infoplane.agent.transports import KafkaTransport, Outgoing
from infoplane.agent.transports import kafka as module
from infoplane.agent.transports.connection import cost_of
from infoplane.agent.transports.quiet import CLIENT_PREFIX, silence_library
from infoplane.wire.kafka_client import MIN_DELAY_MS, PatientClient

MESSAGE = Outgoing("t", b"k", bytes(1000), 1)


class FatalError(Exception):
    retriable = False


class PassingError(Exception):
    retriable = True


class FakeConnection:
    """Behaves as Connection does, and leaves every outcome to the test."""

    made: ClassVar[list[FakeConnection]] = []

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.topics: set[str] = set()
        self.sent: list[Outgoing] = []
        self.outcomes: list[Exception | None] = []
        self.inflight_bytes = self.inflight_records = 0
        self.alive = True
        self.closed = False
        self.created = time.monotonic()
        self.last_delivery = float("-inf")
        self.silent = 0.0
        FakeConnection.made.append(self)

    def silent_seconds(self) -> float:
        return self.silent

    def knows(self, topic: str) -> bool:
        return topic in self.topics

    def learn(self, topic: str) -> bool:
        return topic in self.topics

    def send(self, message: Outgoing) -> None:
        self.sent.append(message)
        self.inflight_bytes += cost_of(message)
        self.inflight_records += 1

    def settle(self) -> list[Exception | None]:
        settled, self.outcomes = self.outcomes, []
        self.inflight_records -= len(settled)
        self.inflight_bytes -= len(settled) * cost_of(MESSAGE)
        return settled

    def cpu_seconds(self) -> float:
        return 0.0

    def close(self, timeout_s: float) -> None:
        self.closed = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakeConnection]:
    FakeConnection.made = []
    monkeypatch.setattr(module, "Connection", FakeConnection)
    monkeypatch.setattr(module, "_BACKOFF_S", (0.0, 0.0))
    return FakeConnection.made


def transport_with(made: list[FakeConnection], **settings: Any) -> tuple[KafkaTransport, Counters]:
    counters = Counters()
    transport = KafkaTransport("nowhere:1", counters, **settings)
    made[-1].topics.add("t")
    return transport, counters


def test_budget_refuses_until_outcomes_give_bytes_back(made: list[FakeConnection]) -> None:
    transport, counters = transport_with(made, inflight_bytes=3 * cost_of(MESSAGE))
    assert [transport.send(MESSAGE) for _ in range(4)] == [True, True, True, False]
    made[0].outcomes = [None]
    assert transport.send(MESSAGE)
    assert not transport.send(MESSAGE)
    assert counters.snapshot()["records_sent", ""] == 4
    assert counters.snapshot()["records_delivered", ""] == 1


def test_messages_wait_in_order_for_an_unknown_topic_within_the_budget(
    made: list[FakeConnection],
) -> None:
    transport, _ = transport_with(made, inflight_bytes=3 * cost_of(MESSAGE))
    made[0].topics.clear()
    messages = [Outgoing("t", b"k", bytes(1000), i) for i in range(4)]
    assert [transport.send(m) for m in messages] == [True, True, True, False]
    transport.poll()
    assert made[0].sent == []
    made[0].topics.add("t")
    transport.poll()
    assert made[0].sent == messages[:3]


def test_a_topic_that_never_appears_does_not_hold_up_another(made: list[FakeConnection]) -> None:
    transport, _ = transport_with(made)
    assert transport.send(Outgoing("missing", b"", b"x", 1))
    assert transport.send(MESSAGE)
    assert made[0].sent == [MESSAGE]


def test_what_waits_too_long_is_dropped_as_a_delivery(made: list[FakeConnection]) -> None:
    transport, counters = transport_with(made, delivery_timeout_ms=0)
    made[0].topics.clear()
    transport.send(MESSAGE)
    time.sleep(0.002)
    transport.poll()
    assert transport.held_bytes == 0
    assert counters.snapshot()["records_dropped", "delivery"] == 1


def test_producer_is_replaced_after_failures_in_a_row_that_do_not_pass(
    made: list[FakeConnection],
) -> None:
    transport, counters = transport_with(made, rebuild_after=3)
    for _ in range(6):
        assert transport.send(MESSAGE)
    made[0].outcomes = [FatalError(), FatalError(), None, FatalError(), FatalError()]
    transport.poll()
    assert len(made) == 1  # never three in a row
    made[0].outcomes = [FatalError()]
    transport.poll()
    assert len(made) == 2
    assert made[0].closed
    found = counters.snapshot()
    assert found["producer_rebuilds", ""] == 1
    assert found["records_dropped", "delivery"] == 5
    assert found["records_delivered", ""] == 1
    assert transport.held_bytes == 0


def test_failures_that_pass_or_are_the_messages_own_do_not_replace_it(
    made: list[FakeConnection],
) -> None:
    transport, _ = transport_with(made, rebuild_after=2)
    for _ in range(6):
        transport.send(MESSAGE)
    made[0].outcomes = [
        PassingError(),
        PassingError(),
        PassingError(),
        *[module.MessageSizeTooLargeError()] * 3,
    ]
    transport.poll()
    assert len(made) == 1


@pytest.mark.parametrize("ill", [{"alive": False}, {"silent": 1e6}])
def test_a_dead_or_silent_producer_is_replaced_and_its_records_counted(
    made: list[FakeConnection], ill: dict[str, Any]
) -> None:
    transport, counters = transport_with(made)
    transport.send(MESSAGE)
    transport.send(MESSAGE)
    for name, value in ill.items():
        setattr(made[0], name, value)
    transport.poll()
    assert len(made) == 2
    assert counters.snapshot()["records_dropped", "delivery"] == 2
    assert transport.held_bytes == 0


def test_every_record_accepted_ends_as_delivered_or_dropped(made: list[FakeConnection]) -> None:
    transport, counters = transport_with(made)
    for _ in range(5):
        transport.send(MESSAGE)
    transport.send(Outgoing("missing", b"", b"x", 1))
    made[0].outcomes = [None, PassingError()]
    transport.close(0.05)
    found = counters.snapshot()
    assert found["records_sent", ""] == 6
    assert found["records_delivered", ""] == 1
    assert found["records_dropped", "delivery"] == 5
    assert made[0].closed


# ---------------------------------------------------------------- a real producer, no broker


@pytest.fixture
def dead_port() -> Iterator[int]:
    with socket.socket() as reserved:  # bound and not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


# kafka-python leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dead_broker_costs_bounded_memory_and_leaves_no_thread(dead_port: int) -> None:
    before = set(threading.enumerate())
    counters = Counters()
    transport = KafkaTransport(f"127.0.0.1:{dead_port}", counters, inflight_bytes=10_000)
    accepted = sum(transport.send(MESSAGE) for _ in range(100))
    transport.poll()
    assert accepted == 10_000 // cost_of(MESSAGE)
    assert transport.held_bytes <= 10_000
    transport.close(0.1)
    assert transport.held_bytes == 0
    assert counters.snapshot()["records_dropped", "delivery"] == accepted
    for thread in set(threading.enumerate()) - before:
        thread.join(10.0)
        assert not thread.is_alive()
    gc.collect()


def test_an_unknown_setting_fails_in_the_constructor() -> None:
    with pytest.raises(ValueError, match="no_such_setting"):
        KafkaTransport("127.0.0.1:1", Counters(), no_such_setting=1)


def test_the_io_thread_sleeps_while_a_node_is_not_ready() -> None:
    client = PatientClient(bootstrap_servers="127.0.0.1:1", api_version=(2, 1))
    try:
        assert client.connection_delay(0) == MIN_DELAY_MS
        client._manager._backoff[0] = (1, time.monotonic() + 5.0, 0)
        assert 4000.0 < client.connection_delay(0) <= 5000.0
    finally:
        client.close()


def test_only_our_own_threads_are_silenced(caplog: pytest.LogCaptureFixture) -> None:
    silence_library()
    log = logging.getLogger("kafka.net.manager")

    def speak(name: str) -> None:
        thread = threading.Thread(target=log.warning, args=("from %s", name), name=name)
        thread.start()
        thread.join()

    with caplog.at_level(logging.WARNING):
        speak(f"{CLIENT_PREFIX}agent-network-thread")
        speak("somebody else")
    assert [record.getMessage() for record in caplog.records] == ["from somebody else"]
