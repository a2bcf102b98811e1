"""Rank 0 reads its commands from a broker, and a broker that is not there costs it nothing."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from kafka import KafkaProducer

from infoplane.agent.control.reader import KafkaSource
from infoplane.agent.settings import KafkaSettings
from infoplane.cli.demo.broker import EmbeddedBroker
from infoplane.wire.topics import CONTROL, Names, run_key

pytestmark = pytest.mark.integration


def until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_commands_of_this_run_arrive_in_order(broker: EmbeddedBroker, names: Names) -> None:
    producer = KafkaProducer(
        bootstrap_servers=broker.bootstrap, api_version=(2, 1), enable_idempotence=False
    )
    source = KafkaSource(KafkaSettings(broker.bootstrap, names.prefix), "mine")
    found: list[bytes] = []
    refusals = 3

    def deliver(raw: bytes) -> bool:
        nonlocal refusals
        refusals -= raw == b"last"
        if raw == b"last" and refusals >= 0:
            return False  # an inbox without room: offered again
        found.append(raw)
        return True

    def send(run: str, text: str) -> None:
        producer.send(names.of(CONTROL), key=run_key(run), value=text.encode()).get(10)

    source.start(deliver)
    try:
        # Its position is the end of the topic as it sees it for the first time.
        for number in range(100):
            send("mine", f"try {number}")
            if until(lambda: bool(found), 0.3):
                break
        for run, text in (("other", "not for us"), ("mine", "a"), ("mine", "b"), ("mine", "last")):
            send(run, text)
        assert until(lambda: b"last" in found)
        assert found[-3:] == [b"a", b"b", b"last"]
        assert b"not for us" not in found
    finally:
        source.close(5.0)
        producer.close()
    assert source._thread is not None
    assert not source._thread.is_alive()


DEAD = """
import sys, time
from infoplane.agent.control.reader import KafkaSource
from infoplane.agent.settings import KafkaSettings
source = KafkaSource(KafkaSettings(sys.argv[1]), "mine")
source.start(lambda raw: True)
time.sleep(3.0)  # imports and the first attempts
start = time.process_time()
time.sleep(4.0)
spent, begun = time.process_time() - start, time.monotonic()
source.close(1.0)
print(spent, time.monotonic() - begun)
"""


def test_a_dead_broker_costs_next_to_nothing() -> None:
    """In a process of its own: kafka-python leaves a socket per refused connection to the collector of garbage."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [sys.executable, "-c", DEAD, f"127.0.0.1:{port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    spent_s, close_s = map(float, done.stdout.split())
    assert spent_s < 0.4
    assert close_s < 1.5
    assert done.stderr.count("infoplane") <= 1
