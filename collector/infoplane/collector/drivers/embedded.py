"""The embedded driver: Kafka consumer-group loops, one thread a stage, any number of processes in one group.

At least once: outputs are flushed before an offset is committed, and the committed offset is the smallest one that
an open window still needs. A restart, or another member after a rebalance, reads from there and comes to the same
panes. When a broker goes away the loop drops all state, waits and begins again at the committed offsets.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from infoplane.collector.drivers.client import client_settings
from infoplane.collector.drivers.memos import is_forgotten, read_saved
from infoplane.collector.drivers.partition import Partition
from infoplane.collector.drivers.pipeline_metrics import PipelineMetrics
from infoplane.collector.drivers.skipped import Skipped
from infoplane.collector.settings import KafkaSection
from infoplane.collector.stage import Emission, Stage
from infoplane.wire import encode
from infoplane.wire.log import LogEntry
from infoplane.wire.topics import HEADERS

_log = logging.getLogger(__name__)
POLL_MS = 100
COMMIT_EVERY_S = 1.0
IDLE_EVERY_S = 0.25
RETRY_S = 2.0
MAX_POLL_RECORDS = 500
MAX_FETCH_BYTES = 8 << 20


def run_stages(
    stages: Sequence[Stage[Any]],
    kafka: KafkaSection,
    stop: threading.Event,
    metrics: PipelineMetrics | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Run `stages` until `stop` is set; blocks. `on_ready` is called once when every stage has its partitions.

    Raises:
        BaseException: whatever ended a stage's thread, after all threads have ended.
    """
    counted = metrics or PipelineMetrics()
    failures: list[BaseException] = []
    ready = threading.Barrier(len(stages), action=on_ready)

    def run(stage: Stage[Any]) -> None:
        try:
            StageLoop(stage, kafka, stop, counted, ready).run()
        except BaseException as error:  # noqa: BLE001 - handed to the caller below
            failures.append(error)
            stop.set()
            ready.abort()

    threads = [
        threading.Thread(target=run, args=(stage,), name=f"infoplane-{stage.name}")
        for stage in stages
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class StageLoop(ConsumerRebalanceListener):  # type: ignore[misc]
    """One stage over its topic."""

    def __init__(
        self,
        stage: Stage[Any],
        kafka: KafkaSection,
        stop: threading.Event,
        metrics: PipelineMetrics,
        ready: threading.Barrier,
    ) -> None:
        self._stage = stage
        self._kafka = kafka
        self._stop = stop
        self._metrics = metrics
        self._ready: threading.Barrier | None = ready
        self._topic = kafka.names.of(stage.reads)
        self._partitions: dict[int, Partition[Any]] = {}
        self._next: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._skipped = Skipped()

    def run(self) -> None:
        """Read, compute, publish and commit until stopped; begin again when the broker fails."""
        while not self._stop.is_set():
            try:
                self._session()
            except KafkaError as error:
                _log.warning("%s: %s; again in %.0f s", self._stage.name, error, RETRY_S)
                self._metrics.restarts.labels(self._stage.name).inc()
                self._stop.wait(RETRY_S)

    def _session(self) -> None:
        shared = client_settings(self._kafka)
        self._forget(list(self._partitions))
        producer = KafkaProducer(
            **shared,
            acks="all",
            enable_idempotence=False,  # repetitions are absorbed downstream, by (window, pane)
            linger_ms=5,
            compression_type="lz4",
            max_request_size=MAX_FETCH_BYTES,
            delivery_timeout_ms=30_000,
            request_timeout_ms=10_000,
        )
        consumer = KafkaConsumer(
            **shared,
            group_id=f"{self._kafka.group}-{self._kafka.topic_prefix}{self._stage.name}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=POLL_MS,
            max_partition_fetch_bytes=MAX_FETCH_BYTES,
            max_poll_records=MAX_POLL_RECORDS,
            session_timeout_ms=round(self._kafka.session_timeout_s * 1000),
            heartbeat_interval_ms=round(self._kafka.session_timeout_s * 200),
        )
        try:
            consumer.subscribe([self._topic], listener=self)
            self._loop(consumer, producer)
        finally:
            consumer.close(autocommit=False, timeout_ms=2_000)
            producer.close(timeout=5)

    def _loop(self, consumer: Any, producer: Any) -> None:
        next_commit = next_idle = 0.0
        while not self._stop.is_set():
            batches = consumer.poll(timeout_ms=POLL_MS)
            self._signal_ready(consumer)
            sent = [
                self._send(producer, emission)
                for partition, messages in batches.items()
                for emission in self._feed(consumer, partition, messages)
            ]
            now = time.monotonic()
            if now >= next_idle:
                next_idle = now + IDLE_EVERY_S
                sent += [self._send(producer, emission) for emission in self._idle(consumer)]
            if now >= next_commit:
                next_commit = now + COMMIT_EVERY_S
                self._commit(consumer, producer)
            self._metrics.observe(self._stage.name, self._partitions.values(), len(sent))
        self._commit(consumer, producer)

    def _signal_ready(self, consumer: Any) -> None:
        if self._ready is not None and consumer.assignment():
            barrier, self._ready = self._ready, None
            try:
                barrier.wait(timeout=60)
            except threading.BrokenBarrierError:
                _log.warning("%s: another stage is not ready", self._stage.name)

    def _feed(self, consumer: Any, where: Any, messages: Iterable[Any]) -> Iterable[Emission]:
        partition = self._partitions.get(where.partition)
        if partition is None:  # revoked while the batch was on its way
            return
        for message in messages:
            expected = self._next.get(where.partition)
            if self._skipped.is_to_be_read_again(where.partition, expected, message.offset):
                _log.info(
                    "%s: offsets %d to %d of partition %d did not come; reading them again",
                    self._stage.name, expected, message.offset - 1, where.partition,
                )  # fmt: skip
                consumer.seek(where, expected)
                return
            entry = LogEntry(
                message.topic,
                message.partition,
                message.offset,
                message.timestamp,
                message.key or b"",
                message.value or b"",
            )
            yield from partition.feed(entry)
            self._next[where.partition] = message.offset + 1

    def _idle(self, consumer: Any) -> Iterable[Emission]:
        """Move the clocks of partitions that have nothing more to read."""
        now_ms = int(time.time() * 1000)
        for number, partition in self._partitions.items():
            where = TopicPartition(self._topic, number)
            # Not end_offsets: some brokers answer it wrongly; the high-water mark of a fetch is right.
            end = consumer.highwater(where)
            if end is not None and self._next.get(number, 0) >= end:
                yield from partition.idle(now_ms)

    def _send(self, producer: Any, emission: Emission) -> Any:
        return producer.send(
            self._kafka.names.of(emission.topic),
            key=emission.key,
            value=None if is_forgotten(emission.message) else encode(emission.message),
            headers=HEADERS,
            timestamp_ms=int(getattr(emission.message, "clock_ms", 0)) or None,
        ).add_errback(self._failed)

    def _failed(self, error: BaseException) -> None:
        _log.error("%s: an output was not delivered: %s", self._stage.name, error)
        self._lost = error

    _lost: BaseException | None = None

    def _commit(self, consumer: Any, producer: Any) -> None:
        """Flush outputs, then save the state, then commit what no open window needs any more.

        In this order a crash in between only repeats work, and what was saved never knows more than was published.
        """
        self._flush(producer)
        for partition in self._partitions.values():
            for emission in partition.save():
                self._send(producer, emission)
        self._flush(producer)
        offsets = {}
        for number, partition in self._partitions.items():
            offset = partition.needed_offset(self._next.get(number, 0))
            if number in self._next and offset != self._committed.get(number):
                offsets[TopicPartition(self._topic, number)] = OffsetAndMetadata(offset, "", -1)
                self._committed[number] = offset
        if offsets:
            consumer.commit(offsets, timeout_ms=10_000)

    def _flush(self, producer: Any) -> None:
        producer.flush(timeout=30)
        if self._lost is not None:
            error, self._lost = self._lost, None
            raise KafkaError(f"output lost: {error}")

    # ------------------------------------------------------------ rebalance

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """Begin fresh partitions, with what earlier owners saved."""
        numbers = [where.partition for where in assigned]
        if numbers:
            saved = read_saved(self._kafka, self._stage.name)
            for number in numbers:
                self._partitions[number] = Partition(self._stage, number, saved)

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        """Drop state: the next owner rebuilds it from the log."""
        self._forget([where.partition for where in revoked])

    def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        """Drop state that somebody else owns by now."""
        self._forget([where.partition for where in lost])

    def _forget(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            for kept in (self._partitions, self._next, self._committed):
                kept.pop(number, None)
