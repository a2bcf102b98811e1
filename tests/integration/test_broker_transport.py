"""What the Kafka transport sends is what a consumer reads, on the embedded broker."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from typing import Any

import psutil
import pytest

from infoplane.agent.counters import Counters
from infoplane.agent.publisher import Publisher
from infoplane.agent.transports import KafkaTransport, Outgoing
from infoplane.cli.demo.broker import EmbeddedBroker
from infoplane.collector.drivers.topics import create_topics
from infoplane.wire import TransportError, decode, encode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.topics import HEADERS, RECORDS, TOPICS, Names, record_key

pytestmark = pytest.mark.integration


def read_all(bootstrap: str, topic: str, count: int) -> list[Any]:
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        group_id=None,
        fetch_max_wait_ms=50,
        consumer_timeout_ms=15_000,
    )
    found = []
    for message in consumer:
        found.append(message)
        if len(found) == count:
            break
    consumer.close()
    return found


def record(seq: int, unit: str) -> pb.Record:
    return pb.Record(run="r", unit=unit, seq=seq, heartbeat=pb.Heartbeat(finished_step=seq))


class Box:
    nbytes = 100

    def __init__(self, seq: int, topic: str) -> None:
        self.seq, self.topic = seq, topic

    def encode(self) -> list[Outgoing]:
        unit = f"layers/{self.seq % 3:02d}"
        return [
            Outgoing(
                self.topic, record_key("r", unit), encode(record(self.seq, unit)), 1000 + self.seq
            )
        ]

    def release(self) -> None:
        pass


def test_records_arrive_in_order_per_unit_with_key_headers_and_time(
    broker: EmbeddedBroker, names: Names
) -> None:
    topic, counters = names.of(RECORDS), Counters()
    publisher = Publisher(
        lambda c: KafkaTransport(broker.bootstrap, c),
        counters,
        beat=lambda: (),
        farewell=lambda: Box(60, topic).encode(),
    )
    publisher.start()
    assert all(publisher.offer(Box(i, topic)) for i in range(60))
    publisher.close(15.0)
    assert counters.snapshot()["records_delivered", ""] == 61
    messages = read_all(broker.bootstrap, topic, 61)
    assert len(messages) == 61
    by_key: dict[bytes, list[int]] = {}
    for message in messages:
        got = decode(message.value, pb.Record)
        assert message.key == record_key("r", got.unit)
        assert message.timestamp == 1000 + got.seq
        assert list(message.headers) == HEADERS
        by_key.setdefault(message.key, []).append(got.seq)
    assert sorted(by_key) == [b"r|layers/00", b"r|layers/01", b"r|layers/02"]
    assert all(seqs == sorted(seqs) for seqs in by_key.values())
    assert len({m.partition for m in messages if m.key == b"r|layers/00"}) == 1


def test_the_io_thread_sleeps_while_the_broker_is_stopped(require: Any) -> None:
    # kafka-python's own client would burn a whole core here, inside the training process.
    import signal

    counters = Counters()
    with EmbeddedBroker() as own:
        create_topics(own.bootstrap, Names())
        transport = KafkaTransport(own.bootstrap, counters)
        value = os.urandom(50_000)

        def drive(seconds: float) -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                key = str(time.monotonic()).encode()
                transport.send(Outgoing(Names().of(RECORDS), key, value, 1))
                transport.poll()
                time.sleep(0.02)

        drive(1.0)
        assert counters.total("records_delivered") > 0
        os.kill(own.pid, signal.SIGSTOP)
        transport._count_cpu()
        before = counters.total("transport_cpu_seconds")
        drive(4.0)
        transport._count_cpu()
        spent = counters.total("transport_cpu_seconds") - before
        os.kill(own.pid, signal.SIGCONT)
        transport.close(1.0)
    require("schedstat", counters.total("transport_cpu_seconds") > 0, "no /proc/self/task")
    assert spent < 0.25 * 4.0


def test_topics_are_created_once(broker: EmbeddedBroker) -> None:
    names = Names(f"once{time.monotonic_ns()}.")
    assert create_topics(broker.bootstrap, names) == [names.of(topic) for topic in TOPICS]
    assert create_topics(broker.bootstrap, names) == []


def test_no_broker_is_a_transport_error() -> None:
    # In a process of its own: an admin client whose constructor fails leaves its thread behind.
    program = textwrap.dedent("""
        from infoplane.collector.drivers.topics import create_topics
        from infoplane.wire import TransportError
        from infoplane.wire.topics import Names
        try:
            create_topics("127.0.0.1:1", Names(), timeout_s=0.5)
        except TransportError as error:
            print(error)
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no broker answers at 127.0.0.1:1: ")


def test_the_broker_ends_with_stop_even_when_it_is_suspended() -> None:
    broker = EmbeddedBroker().start()
    process = psutil.Process(broker.pid)
    process.suspend()
    broker.stop()
    assert not process.is_running()
    broker.stop()  # and again
    with pytest.raises(TransportError, match="not running"):
        _ = broker.pid


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_the_broker_dies_with_a_parent_that_is_killed() -> None:
    program = textwrap.dedent("""
        import time
        from infoplane.cli.demo.broker import EmbeddedBroker
        print(EmbeddedBroker().start().pid, flush=True)
        time.sleep(600)
    """)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    broker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert psutil.wait_procs([broker], timeout=20.0)[1] == []
